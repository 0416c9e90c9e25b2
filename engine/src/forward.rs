//! Applies a verdict to the packet in hand, and counts what became of it.

use tidegate_classifiers::port::{Egress, PortId};
use tidegate_classifiers::request::SampleSpec;
use tidegate_classifiers::verdict::{DropReason, Verdict};

use crate::counters::Totals;
use crate::port::{ForwardTo, PortState, Ports};
use crate::rings::Rings;
use crate::samples::Samples;

/// Times that one packet may be received again by another port [AK-MIRRED].
const REENTRIES_MAX: u8 = 3;

/// Packets that wait to be received again, at most.
const WAITING_MAX: usize = 256;

/// Packets that mirred sent into a port, as if they came in there. Empty at burst boundaries.
pub struct Reentries<F>(Vec<Reentry<F>>);

/// One of them.
pub struct Reentry<F> {
    /// The packet.
    pub frame: F,
    /// The port that is to receive it.
    pub port: PortId,
    /// How often it was received again, this time included.
    pub count: u8,
}

impl<F> Reentries<F> {
    /// None yet. The room for all that may ever wait is allocated now.
    pub fn new() -> Self {
        Reentries(Vec::with_capacity(WAITING_MAX))
    }

    /// The next one, if there is one.
    pub fn pop(&mut self) -> Option<Reentry<F>> {
        self.0.pop()
    }

    fn push(&mut self, reentry: Reentry<F>) -> Result<(), F> {
        if self.0.len() >= WAITING_MAX || reentry.count > REENTRIES_MAX {
            return Err(reentry.frame);
        }
        self.0.push(reentry);
        Ok(())
    }
}

impl<F> Default for Reentries<F> {
    fn default() -> Self {
        Reentries::new()
    }
}

/// The one packet a worker is at, and all that its actions and its verdict can reach. Ends in [`InHand::settle`], which
/// sends or releases the frame.
pub struct InHand<'a, R: Rings> {
    frame: R::Frame,
    len: u32,
    /// The receiving port.
    port: PortId,
    /// How often it was received again.
    reentered: u8,
    rings: &'a mut R,
    ports: &'a Ports,
    /// What this burst counted, one a port.
    tally: &'a mut [Totals],
    again: &'a mut Reentries<R::Frame>,
    samples: &'a Samples,
}

impl<'a, R: Rings> InHand<'a, R> {
    /// Takes up `frame`, received on `port`, and counts it. `tally` has a place for every port.
    #[inline]
    pub fn new(
        frame: R::Frame,
        port: PortId,
        rings: &'a mut R,
        ports: &'a Ports,
        tally: &'a mut [Totals],
        again: &'a mut Reentries<R::Frame>,
        samples: &'a Samples,
    ) -> Self {
        let len = length(rings.bytes(&frame));
        let received = &mut tally[usize::from(port.0)];
        received.rx_packets += 1;
        received.rx_bytes += u64::from(len);
        InHand { frame, len, port, reentered: 0, rings, ports, tally, again, samples }
    }

    /// The packet was received before: `count` is [`Reentry::count`].
    #[inline]
    pub fn again(self, count: u8) -> Self {
        InHand { reentered: count, ..self }
    }

    /// The packet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.rings.bytes(&self.frame)
    }

    /// Does what `verdict` says. Every packet is counted in exactly one of forwarded, passed, consumed, and dropped by
    /// reason, at the port that received it.
    #[inline]
    pub fn settle(self, verdict: Verdict) {
        match verdict {
            Verdict::Pass => match self.ports.get(self.port).map(|state| state.forward_to()) {
                Some(ForwardTo::Port(port)) => self.forward(port, DropReason::PortDown),
                Some(ForwardTo::Host) => self.pass_to_host(),
                None => self.drop_packet(DropReason::PortDown),
            },
            Verdict::Redirect(port) => self.forward(port, DropReason::RedirectDown), // [AK-MIRRED]
            Verdict::RedirectInto(port) => self.reenter(port),
            Verdict::Trap => self.pass_to_host(), // [DP-15]
            Verdict::Drop(reason) => self.drop_packet(reason),
            Verdict::Consume => {
                self.tally[usize::from(self.port.0)].consumed += 1;
                self.rings.release(self.frame);
            }
        }
    }

    #[inline]
    fn forward(mut self, port: PortId, down: DropReason) {
        let Some(target) = self.ports.ready(port) else { return self.drop_packet(down) };
        if self.len > target.max_frame() {
            return self.drop_packet(DropReason::TooLong);
        }
        match self.rings.send(port, self.frame) {
            Ok(()) => {
                let received = &mut self.tally[usize::from(self.port.0)];
                received.forwarded_packets += 1;
                received.forwarded_bytes += u64::from(self.len);
                count_sent(self.tally, port, self.len);
            }
            Err(frame) => {
                self.frame = frame;
                self.drop_packet(DropReason::TxRingFull);
            }
        }
    }

    /// Counts as consumed here, and as received there.
    fn reenter(mut self, port: PortId) {
        if self.ports.get(port).is_none() {
            return self.drop_packet(DropReason::RedirectDown);
        }
        match self.again.push(Reentry { frame: self.frame, port, count: self.reentered + 1 }) {
            Ok(()) => self.tally[usize::from(self.port.0)].consumed += 1,
            Err(frame) => {
                self.frame = frame;
                self.drop_packet(DropReason::RedirectDown);
            }
        }
    }

    fn pass_to_host(self) {
        if self.rings.to_host(self.port, &self.frame) {
            self.tally[usize::from(self.port.0)].passed += 1;
            self.rings.release(self.frame);
        } else {
            self.drop_packet(DropReason::HostRefused);
        }
    }

    fn drop_packet(self, reason: DropReason) {
        self.tally[usize::from(self.port.0)].dropped[reason.index()] += 1;
        self.rings.release(self.frame);
    }

    /// Whether a copy waits to be received by `port`.
    fn reenter_copy(&mut self, port: PortId) -> bool {
        if self.ports.get(port).is_none() {
            return false;
        }
        let Some(copy) = self.rings.copy(&self.frame) else { return false };
        let pushed = self.again.push(Reentry { frame: copy, port, count: self.reentered + 1 });
        pushed.map_err(|copy| self.rings.release(copy)).is_ok()
    }

    /// Counts a copy, made or not.
    #[inline]
    fn count_copy(&mut self, made: bool) {
        let received = &mut self.tally[usize::from(self.port.0)];
        if made {
            received.mirrored += 1;
        } else {
            received.mirror_failed += 1;
        }
    }

    /// Whether a copy is on `port`'s TX ring.
    fn send_copy(&mut self, port: PortId) -> bool {
        if self.ports.ready(port).is_none_or(|target| self.len > target.max_frame()) {
            return false;
        }
        let Some(copy) = self.rings.copy(&self.frame) else { return false };
        match self.rings.send(port, copy) {
            Ok(()) => true,
            Err(copy) => {
                self.rings.release(copy);
                false
            }
        }
    }
}

impl<R: Rings> Egress for InHand<'_, R> {
    #[inline]
    fn frame(&self) -> &[u8] {
        self.bytes()
    }

    fn edit<T>(&mut self, edit: impl FnOnce(&mut [u8]) -> T) -> T {
        self.rings.edit(&mut self.frame, edit)
    }

    fn resize(&mut self, len: usize) -> bool {
        let fits = self.rings.resize(&mut self.frame, len);
        self.len = length(self.bytes());
        fits
    }

    #[inline]
    fn ready(&self, port: PortId) -> bool {
        self.ports.ready(port).is_some()
    }

    #[inline]
    fn mirror(&mut self, port: PortId) -> bool {
        let sent = self.send_copy(port);
        self.count_copy(sent);
        if sent {
            count_sent(self.tally, port, self.len);
        }
        sent
    }

    fn mirror_into(&mut self, port: PortId) -> bool {
        let sent = self.reenter_copy(port);
        self.count_copy(sent);
        sent
    }

    fn sample(&mut self, sample: &SampleSpec, now_ns: u64) -> bool {
        self.samples.show(sample, self.port, now_ns, self.bytes())
    }

    fn member(&self, index: u32, after: Option<PortId>) -> Option<PortId> {
        let bound = |state: &PortState| state.block().as_ref().is_some_and(|block| block.index() == index);
        let mut later = self.ports.iter().filter(|(port, _)| Some(*port) > after && *port != self.port);
        later.find(|(_, state)| bound(state)).map(|(port, _)| port)
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a packet fits in a frame, a frame is far below 4 GiB")]
fn length(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}

#[inline]
fn count_sent(tally: &mut [Totals], port: PortId, len: u32) {
    let sender = &mut tally[usize::from(port.0)];
    sender.tx_packets += 1;
    sender.tx_bytes += u64::from(len);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_classifiers::plane::Plane;

    use super::*;
    use crate::memory::{Layout, MemoryRings};
    use crate::port::{LinkState, PortState};
    use crate::rings::Burst;

    const LAN: PortId = PortId(0);
    const WAN: PortId = PortId(1);
    const TAP: PortId = PortId(2);
    const UNKNOWN: PortId = PortId(3);
    const FRAME: &[u8] = &[7; 100];

    /// Three ports that are up: lan forwards to wan, wan and tap to the host.
    struct World {
        rings: MemoryRings,
        ports: Ports,
        tally: [Totals; 3],
        again: Reentries<<MemoryRings as Rings>::Frame>,
        samples: Arc<Samples>,
    }

    impl World {
        fn new() -> Self {
            Self::with_frames(64)
        }

        fn with_frames(frames: u32) -> Self {
            let port = |name, forward_to| {
                let state = PortState::new(name, forward_to, None);
                state.set_link(LinkState::Up);
                state
            };
            World {
                rings: MemoryRings::new(Layout {
                    ports: 3,
                    frames,
                    chunk_size: 2048,
                    fill_ring: 4,
                    tx_ring: 2,
                    host_packets: 1,
                }),
                ports: Ports::new(vec![
                    port("lan", ForwardTo::Port(WAN)),
                    port("wan", ForwardTo::Host),
                    port("tap", ForwardTo::Host),
                ]),
                tally: Default::default(),
                again: Reentries::new(),
                samples: Samples::new(Plane::standalone(1)),
            }
        }

        /// Receives `packet` on lan and hands it to `fate`.
        fn packet(&mut self, packet: &[u8], fate: impl FnOnce(InHand<'_, MemoryRings>)) {
            assert!(self.rings.inject(LAN, packet));
            let mut burst = Burst::new();
            self.rings.receive(LAN, 1, &mut burst);
            let frame = burst.pop().unwrap();
            let (rings, tally, again) = (&mut self.rings, &mut self.tally, &mut self.again);
            fate(InHand::new(frame, LAN, rings, &self.ports, tally, again, &self.samples));
            self.rings.flush();
            assert_eq!(self.rings.census().in_hand(), 0, "a frame leaked");
            assert_eq!(self.tally[0].balance(), 0);
        }

        fn settle(&mut self, verdict: Verdict) {
            self.packet(FRAME, |in_hand| in_hand.settle(verdict));
        }

        fn dropped(&self, reason: DropReason) -> u64 {
            self.tally[0].dropped[reason.index()]
        }
    }

    #[test]
    fn pass_goes_to_the_port_that_forward_to_names() {
        let mut world = World::new();
        world.settle(Verdict::Pass);
        assert_eq!(world.rings.sent(WAN), [FRAME]);
        let lan =
            Totals { rx_packets: 1, rx_bytes: 100, forwarded_packets: 1, forwarded_bytes: 100, ..Totals::default() };
        let wan = Totals { tx_packets: 1, tx_bytes: 100, ..Totals::default() };
        assert_eq!(world.tally, [lan, wan, Totals::default()]);
    }

    #[test]
    fn pass_goes_to_the_host_where_forward_to_says_so() {
        let mut world = World::new();
        world.rings.inject(WAN, FRAME);
        let mut burst = Burst::new();
        world.rings.receive(WAN, 1, &mut burst);
        let frame = burst.pop().unwrap();
        let (rings, tally, again) = (&mut world.rings, &mut world.tally, &mut world.again);
        InHand::new(frame, WAN, rings, &world.ports, tally, again, &world.samples).settle(Verdict::Pass);
        assert_eq!(world.rings.host_packets().collect::<Vec<_>>(), [(WAN, FRAME)]);
        assert_eq!((world.tally[1].passed, world.tally[1].balance()), (1, 0));
        assert_eq!(world.rings.census().in_hand(), 0);
    }

    #[test]
    fn trap_goes_to_the_host_whatever_forward_to_says() {
        let mut world = World::new();
        world.settle(Verdict::Trap);
        assert_eq!(world.rings.host_packets().collect::<Vec<_>>(), [(LAN, FRAME)]);
        assert_eq!(world.tally[0].passed, 1);
    }

    #[test]
    fn a_host_that_refuses_is_a_counted_drop() {
        let mut world = World::new();
        world.settle(Verdict::Trap);
        world.settle(Verdict::Trap);
        assert_eq!((world.tally[0].passed, world.dropped(DropReason::HostRefused)), (1, 1));
    }

    #[test]
    fn redirect_goes_to_its_port() {
        let mut world = World::new();
        world.settle(Verdict::Redirect(TAP));
        assert_eq!(world.rings.sent(TAP), [FRAME]);
        assert_eq!((world.tally[0].forwarded_packets, world.tally[2].tx_packets), (1, 1));
    }

    #[test]
    fn redirect_may_go_back_where_the_packet_came_from() {
        let mut world = World::new();
        world.settle(Verdict::Redirect(LAN));
        assert_eq!(world.rings.sent(LAN), [FRAME]);
        assert_eq!((world.tally[0].forwarded_packets, world.tally[0].tx_packets), (1, 1));
    }

    #[test]
    fn consume_ends_without_a_drop() {
        let mut world = World::new();
        world.settle(Verdict::Consume);
        assert_eq!((world.tally[0].consumed, world.tally[0].dropped_packets()), (1, 0));
    }

    #[test]
    fn every_drop_is_counted_under_its_own_reason() {
        let mut world = World::new();
        for reason in DropReason::ALL {
            world.settle(Verdict::Drop(reason));
            assert_eq!(world.dropped(reason), 1, "{}", reason.name());
        }
        assert_eq!(world.tally[0].dropped_packets(), DropReason::ALL.len() as u64);
    }

    #[test]
    fn a_target_that_is_not_up_drops_with_the_reason_of_the_verdict() {
        let mut world = World::new();
        for (round, link) in [LinkState::NoCarrier, LinkState::Down, LinkState::Gone].into_iter().enumerate() {
            world.ports.get(WAN).unwrap().set_link(link);
            world.settle(Verdict::Pass);
            world.settle(Verdict::Redirect(WAN));
            assert_eq!(world.dropped(DropReason::PortDown), round as u64 + 1);
            assert_eq!(world.dropped(DropReason::RedirectDown), round as u64 + 1);
        }
        world.settle(Verdict::Redirect(UNKNOWN));
        world.settle(Verdict::RedirectInto(UNKNOWN));
        assert_eq!(world.dropped(DropReason::RedirectDown), 5);
        world.packet(FRAME, |mut in_hand| {
            assert!(!in_hand.mirror_into(UNKNOWN));
            in_hand.settle(Verdict::Consume);
        });
        assert!(world.again.pop().is_none());
        assert!(world.rings.sent(WAN).is_empty());
    }

    #[test]
    fn the_mtu_allows_a_frame_of_1522_bytes_and_no_more() {
        let mut world = World::new();
        world.packet(&[0; 1522], |in_hand| in_hand.settle(Verdict::Pass));
        world.packet(&[0; 1523], |in_hand| in_hand.settle(Verdict::Pass));
        assert_eq!((world.tally[0].forwarded_packets, world.dropped(DropReason::TooLong)), (1, 1));
        world.ports.get(WAN).unwrap().set_mtu(1501);
        world.packet(&[0; 1523], |in_hand| in_hand.settle(Verdict::Pass));
        assert_eq!(world.tally[0].forwarded_packets, 2);
    }

    #[test]
    fn a_full_tx_ring_is_a_counted_drop() {
        let mut world = World::new();
        (0..5).for_each(|_| world.settle(Verdict::Pass));
        assert_eq!((world.tally[0].forwarded_packets, world.dropped(DropReason::TxRingFull)), (2, 3));
        assert_eq!(world.rings.sent(WAN).len(), 2);
        world.settle(Verdict::Pass);
        assert_eq!(world.tally[0].forwarded_packets, 3, "room again once frames have left");
    }

    #[test]
    fn a_mirror_sends_a_copy_and_leaves_the_packet_in_hand() {
        let mut world = World::new();
        world.packet(FRAME, |mut in_hand| {
            assert!(in_hand.ready(TAP));
            assert!(in_hand.mirror(TAP));
            assert_eq!(in_hand.bytes(), FRAME);
            in_hand.settle(Verdict::Pass);
        });
        assert_eq!((world.rings.sent(TAP), world.rings.sent(WAN)), (vec![FRAME.to_vec()], vec![FRAME.to_vec()]));
        assert_eq!((world.tally[0].mirrored, world.tally[0].forwarded_packets), (1, 1));
        assert_eq!((world.tally[1].tx_packets, world.tally[2].tx_packets), (1, 1));
    }

    /// [AV-6]: a copy shows what the packet was when it was made.
    #[test]
    fn an_edit_changes_the_packet_in_hand_and_no_copy_of_it() {
        let mut world = World::new();
        world.packet(FRAME, |mut in_hand| {
            assert!(in_hand.mirror(TAP));
            assert!(in_hand.resize(104));
            in_hand.edit(|bytes| bytes.copy_from_slice(&[8; 104]));
            assert!(in_hand.mirror(TAP));
            in_hand.settle(Verdict::Pass);
        });
        assert_eq!(world.rings.sent(TAP), [FRAME.to_vec(), vec![8; 104]]);
        assert_eq!(world.rings.sent(WAN), [[8; 104]]);
        let [lan, wan, tap] = &world.tally;
        assert_eq!((lan.rx_bytes, lan.forwarded_bytes, wan.tx_bytes, tap.tx_bytes), (100, 104, 104, 204));
    }

    #[test]
    fn a_packet_grows_as_far_as_its_chunk_and_then_its_target_allow() {
        let mut world = World::new();
        world.packet(&[0; 1522], |mut in_hand| {
            assert!(!in_hand.resize(2049) && !in_hand.resize(0));
            assert_eq!(in_hand.bytes().len(), 1522);
            assert!(in_hand.resize(2048) && in_hand.resize(1526));
            in_hand.settle(Verdict::Pass);
        });
        assert_eq!((world.tally[0].forwarded_packets, world.dropped(DropReason::TooLong)), (0, 1));
        world.packet(&[0; 1526], |mut in_hand| {
            assert!(in_hand.resize(1522));
            in_hand.settle(Verdict::Pass);
        });
        assert_eq!(world.tally[0].forwarded_packets, 1);
    }

    #[test]
    fn a_mirror_fails_counted_on_a_full_ring_a_long_frame_and_a_port_that_is_down() {
        let mut world = World::new();
        world.packet(FRAME, |mut in_hand| {
            assert!(in_hand.mirror(TAP) && in_hand.mirror(TAP));
            assert!(!in_hand.mirror(TAP), "the TX ring holds two");
            in_hand.settle(Verdict::Pass);
        });
        world.packet(&[0; 1523], |mut in_hand| {
            assert!(!in_hand.mirror(WAN), "too long");
            in_hand.settle(Verdict::Consume);
        });
        world.ports.get(WAN).unwrap().set_link(LinkState::NoCarrier);
        world.packet(FRAME, |mut in_hand| {
            assert!(!in_hand.ready(WAN));
            assert!(!in_hand.mirror(WAN));
            in_hand.settle(Verdict::Consume);
        });
        assert_eq!((world.tally[0].mirrored, world.tally[0].mirror_failed), (2, 3));
    }

    #[test]
    fn without_free_frames_mirrors_fail_and_forwarding_goes_on() {
        let mut world = World::with_frames(12); // as many as the three fill rings take
        assert_eq!(world.rings.census().free, 0);
        for _ in 0..10 {
            world.packet(FRAME, |mut in_hand| {
                assert!(!in_hand.mirror(TAP));
                in_hand.settle(Verdict::Pass);
            });
            assert_eq!(world.rings.sent(WAN).len(), 1);
        }
        assert_eq!((world.tally[0].mirror_failed, world.tally[0].forwarded_packets), (10, 10));
    }
}

//! The tester against a forwarder in memory that goes wrong as it is told.

use std::collections::VecDeque;

use super::accounts::{Counts, Fault, FaultKind, Identity};
use super::flows::{Mix, payload};
use super::tag::Fate;
use super::*;

/// How long a packet takes, in ns.
const LATENCY_NS: u64 = 2_000;
const RUN: u16 = 3;

/// What the forwarder does with one packet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Lose,
    Duplicate,
    /// By so many ns.
    Delay(u64),
    /// Forwards what has to be dropped, drops what has to be forwarded.
    Verdict,
    Port,
    Content,
    Tag,
    Foreign,
    /// Comes as a packet of the trial before.
    Stale,
}

/// A forwarder in memory, its clock, and what it does wrong.
struct Memory<'a> {
    now_ns: u64,
    /// Time between two looks at the clock, in ns.
    step_ns: u64,
    flows: &'a Flows,
    /// In the order in which they arrive.
    under_way: VecDeque<(u64, End, Vec<u8>)>,
    seen: u64,
    /// To the packet of this number.
    wrong: Vec<(u64, Wrong)>,
    /// Frames that are taken at once.
    room: usize,
}

impl<'a> Memory<'a> {
    fn new(flows: &'a Flows, wrong: &[(u64, Wrong)]) -> Memory<'a> {
        let (under_way, wrong) = (VecDeque::new(), wrong.to_vec());
        Memory { now_ns: 77, step_ns: 500, flows, under_way, seen: 0, wrong, room: usize::MAX }
    }

    fn deliver(&mut self, after_ns: u64, end: End, frame: Vec<u8>) {
        let at = self.now_ns + after_ns;
        let place = self.under_way.partition_point(|&(other, ..)| other <= at);
        self.under_way.insert(place, (at, end, frame));
    }

    fn forward(&mut self, frame: &[u8]) {
        let tag = Tag::read(payload(frame).unwrap()).unwrap();
        let wrong = self.wrong.iter().find(|(packet, _)| *packet == self.seen).map(|(_, wrong)| *wrong);
        self.seen += 1;
        let mut frame = frame.to_vec();
        let passes = (tag.fate == Fate::Pass) != (wrong == Some(Wrong::Verdict));
        let (mut after_ns, mut end) = (LATENCY_NS, End::Far);
        match wrong {
            Some(Wrong::Lose) => return,
            Some(Wrong::Duplicate) => self.deliver(LATENCY_NS, End::Far, frame.clone()),
            Some(Wrong::Delay(ns)) => after_ns += ns,
            Some(Wrong::Port) => end = End::Near,
            Some(Wrong::Content) => frame[8] ^= 1,
            Some(Wrong::Tag) => frame[60] ^= 1,
            Some(Wrong::Foreign) => self.deliver(0, End::Far, vec![0; 60]),
            Some(Wrong::Stale) => {
                let stale = Tag { run: RUN - 1, ..tag };
                self.flows.get(tag.flow).unwrap().write(&stale, &mut frame);
            }
            Some(Wrong::Verdict) | None => {}
        }
        if passes {
            self.deliver(after_ns, end, frame);
        }
    }
}

impl Wire for Memory<'_> {
    fn now_ns(&mut self) -> u64 {
        self.now_ns += self.step_ns;
        self.now_ns
    }

    fn send(&mut self, frames: &[Vec<u8>]) -> usize {
        let taken = frames.len().min(self.room);
        frames[..taken].iter().for_each(|frame| self.forward(frame));
        taken
    }

    fn receive(&mut self, mut each: impl FnMut(End, &[u8])) {
        while self.under_way.front().is_some_and(|&(at, ..)| at <= self.now_ns) {
            let Some((_, end, frame)) = self.under_way.pop_front() else { return };
            each(end, &frame);
        }
    }
}

fn mix(flows: u32, drop: f64) -> Flows {
    Flows::new(&Mix { flows, sizes: vec![64], vlan: None, ipv6: 0.0, drop }, 1)
}

/// `packets` at a million a second.
fn trial(flows: &Flows, packets: u64, wrong: &[(u64, Wrong)]) -> Trial {
    run(&mut Memory::new(flows, wrong), flows, load(packets)).unwrap()
}

fn load(packets: u64) -> Load {
    Load { run: RUN, pace: Pace { rate: 1_000_000 }, span_ns: packets * 1000 }
}

/// The packet of this number.
fn identity(flows: &Flows, packet: u64) -> Identity {
    let (flow, sequence) = flows.turn(packet);
    Identity { flow, sequence, due_ns: packet * 1000 }
}

#[test]
fn a_good_forwarder_has_no_faults_and_its_latency_is_known() {
    let flows = mix(10, 0.3);
    let Trial { balance, unsent, lag, sending_ns } = trial(&flows, 1000, &[]);
    assert_eq!(balance.counts, Counts { sent: 1000, must_arrive: 700, arrived: 700, ..Counts::default() });
    assert_eq!((balance.faults, unsent, sending_ns / 10_000), (Vec::new(), 0, 100));
    assert!((LATENCY_NS..2 * LATENCY_NS).contains(&balance.latency.min()), "{}", balance.latency.min());
    assert!(balance.latency.max() < 3 * LATENCY_NS && lag.max() < LATENCY_NS, "{}", lag.max());
    let (sent, arrived) =
        balance.timeline.slots().fold((0, 0), |sum, (_, slot)| (sum.0 + slot.sent, sum.1 + slot.arrived));
    assert_eq!((sent, arrived), (700, 700));
}

#[test]
fn every_fault_is_counted_as_what_it_is_and_the_packet_is_named() {
    let flows = mix(10, 0.3);
    let passing = |from: u64| (from..).find(|&packet| flows.get(flows.turn(packet).0).unwrap().fate() == Fate::Pass);
    let (pass, drop) = (passing(500).unwrap(), (500..).find(|&packet| passing(packet) != Some(packet)).unwrap());
    let cases = [
        (Wrong::Lose, pass, FaultKind::Lost, true, ""),
        (Wrong::Verdict, pass, FaultKind::Lost, true, ""),
        (Wrong::Duplicate, pass, FaultKind::Duplicated, true, ""),
        (Wrong::Delay(50_000), pass, FaultKind::Reordered, true, ""),
        (Wrong::Verdict, drop, FaultKind::WrongVerdict, true, "it had to be dropped and came at the far end"),
        (Wrong::Port, pass, FaultKind::WrongPort, true, "it came back where it was sent"),
        (Wrong::Content, pass, FaultKind::WrongContent, true, "byte 8 is 0x01 instead of 0x00"),
        (Wrong::Foreign, pass, FaultKind::Foreign, false, "60 bytes at the far end"),
    ];
    for (wrong, packet, kind, named, detail) in cases {
        let found = trial(&flows, 1000, &[(packet, wrong)]).balance;
        let packet = named.then(|| identity(&flows, packet));
        assert_eq!(found.counts.faults(), [(kind, 1)], "{wrong:?}");
        assert_eq!(found.faults, [Fault { kind, packet, detail: detail.into() }], "{wrong:?}");
        let lost = u64::from(kind == FaultKind::Lost);
        assert_eq!((found.counts.arrived, found.counts.lost), (700 - lost, lost), "{wrong:?}");
    }
}

#[test]
fn a_damaged_tag_is_a_wrong_content_and_its_packet_is_lost() {
    let flows = mix(1, 0.0);
    let found = trial(&flows, 100, &[(50, Wrong::Tag)]).balance;
    assert_eq!(found.counts.faults(), [(FaultKind::Lost, 1), (FaultKind::WrongContent, 1)]);
    assert_eq!(found.faults[0].to_string(), "wrong content: a damaged tag");
    assert_eq!(found.faults[1].to_string(), "lost: packet 50 of flow 0, due at 0.000050 s");
}

#[test]
fn a_packet_of_an_earlier_trial_counts_for_nothing() {
    let flows = mix(1, 0.0);
    let counts = trial(&flows, 100, &[(50, Wrong::Stale)]).balance.counts;
    assert_eq!((counts.stale, counts.lost, counts.arrived, counts.wrong()), (1, 1, 99, 0));
}

#[test]
fn a_delay_that_overtakes_nothing_shows_in_the_latency_and_its_packet_is_named() {
    let flows = mix(1000, 0.0);
    let found = trial(&flows, 2000, &[(1234, Wrong::Delay(500_000))]).balance;
    assert_eq!(found.counts.faults(), []);
    let slowest = found.slowest.unwrap();
    assert_eq!(slowest.packet, identity(&flows, 1234));
    assert!((500_000..510_000).contains(&slowest.latency_ns), "{slowest:?}");
}

#[test]
fn what_cannot_be_sent_is_not_taken_for_sent_and_waiting_counts() {
    let flows = mix(3, 0.0);
    // A frame each time, when two or three are due.
    let mut slow = Memory { room: 1, step_ns: 1200, ..Memory::new(&flows, &[]) };
    let Trial { balance, unsent, lag, .. } = run(&mut slow, &flows, load(200_000)).unwrap();
    assert_eq!(balance.counts.sent + unsent, 200_000);
    assert!(unsent > 10_000 && balance.counts.faults().is_empty(), "{unsent} {:?}", balance.counts);
    assert!(lag.max() > GRACE_NS && balance.latency.max() >= lag.max() - lag.max() / 100, "{}", lag.max());
}

#[test]
fn one_packet_in_a_million_is_found_whatever_befell_it() {
    const PACKETS: u64 = 1_000_000;
    let flows = mix(100, 0.5);
    let fates = |packet: u64| flows.get(flows.turn(packet).0).unwrap().fate();
    let one = |from: u64, fate: Fate| (from..).find(|&packet| fates(packet) == fate).unwrap();
    let wrong = [
        (one(123_456, Fate::Pass), Wrong::Lose, FaultKind::Lost),
        (one(234_567, Fate::Pass), Wrong::Delay(3_000_000), FaultKind::Reordered),
        (one(345_678, Fate::Pass), Wrong::Duplicate, FaultKind::Duplicated),
        (one(456_789, Fate::Drop), Wrong::Verdict, FaultKind::WrongVerdict),
    ];
    for (packet, wrong, kind) in wrong {
        let found = trial(&flows, PACKETS, &[(packet, wrong)]).balance;
        assert_eq!((found.counts.sent, found.counts.must_arrive), (PACKETS, PACKETS / 2));
        assert_eq!(found.counts.faults(), [(kind, 1)]);
        assert_eq!(found.faults.iter().map(|fault| fault.packet).collect::<Vec<_>>(), [Some(identity(&flows, packet))]);
        if let Wrong::Delay(ns) = wrong {
            let slowest = found.slowest.unwrap();
            assert_eq!(slowest.packet, identity(&flows, packet));
            assert!(slowest.latency_ns >= ns && found.latency.value_at_quantile(0.99999) < LATENCY_NS * 3);
        }
    }
}

//! The flows of a packet mix: a frame for each, into which only the tag has yet to be written.

use std::net::Ipv6Addr;

use etherparse::{PacketBuilder, VlanId};
use fastrand::Rng;

use super::tag::{self, Fate, Tag};
use crate::rule_set::{Header, Version};

/// Ethernet header, and a VLAN tag.
const ETHERNET: usize = 14;
const VLAN: usize = 4;
/// IP header without options, and UDP header.
const IPV4_UDP: usize = 20 + 8;
const IPV6_UDP: usize = 40 + 8;

/// The port that packets go to which must arrive: echo.
pub(crate) const PASS_PORT: u16 = 7;
/// The port that packets go to which must be dropped: discard.
pub(crate) const DROP_PORT: u16 = 9;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mix {
    /// Flows, each with addresses and a port of its own.
    pub(crate) flows: u32,
    /// Sizes of frames in bytes, the Ethernet header included, the checksum not. Each flow has the next one.
    pub(crate) sizes: Vec<u16>,
    /// VLAN that all frames are tagged with.
    pub(crate) vlan: Option<u16>,
    /// Share of the flows that are IPv6.
    pub(crate) ipv6: f64,
    /// Share of the flows that must be dropped.
    pub(crate) drop: f64,
}

/// All flows of a trial.
#[derive(Clone, Debug)]
pub(crate) struct Flows {
    flows: Vec<Flow>,
    /// In which they send, one packet each, over and over.
    order: Vec<u32>,
}

/// One flow.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// All of it but the tag. Its checksums hold for every tag.
    frame: Box<[u8]>,
    /// Where the tag stands.
    tag_at: usize,
    fate: Fate,
}

/// The least that a frame with a tag has, in bytes.
pub(crate) fn smallest(ipv6: bool, vlan: bool) -> u16 {
    let vlan = if vlan { VLAN } else { 0 };
    let whole = ETHERNET + vlan + if ipv6 { IPV6_UDP } else { IPV4_UDP } + tag::LEN;
    u16::try_from(whole).unwrap_or(u16::MAX) // some dozens
}

impl Flows {
    /// The flows of `mix`, where what must be dropped goes to [`DROP_PORT`] and the rest to [`PASS_PORT`].
    pub(crate) fn new(mix: &Mix, seed: u64) -> Flows {
        let mut rng = Rng::with_seed(seed);
        let (ipv6, drop) = (chosen(mix.flows, mix.ipv6, &mut rng), chosen(mix.flows, mix.drop, &mut rng));
        let headers = (0..mix.flows).zip(ipv6).zip(drop).map(|((number, ipv6), drop)| {
            let (version, net) = match ipv6 {
                true => (Version::V6, 0x2001_0db8 << 96),
                false => (Version::V4, 0xc612_0000), // 198.18.0.0/15, which is for benchmarks
            };
            let header = Header {
                src: net | u128::from(number & 0xffff),
                dst: net | 1 << 16 | 1,
                src_port: 1024 + u16::try_from(number >> 16).unwrap_or(u16::MAX),
                dst_port: if drop { DROP_PORT } else { PASS_PORT },
                proto: crate::rule_set::UDP,
            };
            (version, header, if drop { Fate::Drop } else { Fate::Pass })
        });
        Flows::of(headers, mix, &mut rng)
    }

    /// Flows with these headers, of UDP, and these fates.
    pub(crate) fn of(headers: impl Iterator<Item = (Version, Header, Fate)>, mix: &Mix, rng: &mut Rng) -> Flows {
        let sizes = mix.sizes.iter().cycle();
        let flows: Vec<Flow> = headers
            .zip(sizes)
            .map(|((version, header, fate), &size)| Flow::new(version, &header, mix.vlan, size.into(), fate))
            .collect();
        let mut order: Vec<u32> = (0..).take(flows.len()).collect();
        rng.shuffle(&mut order);
        Flows { flows, order }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// The flow of this number.
    pub(crate) fn get(&self, number: u32) -> Option<&Flow> {
        self.flows.get(number as usize)
    }

    /// Whose turn it is for the packet of this number, and how often that flow had its turn before.
    pub(crate) fn turn(&self, packet: u64) -> (u32, u32) {
        let flows = self.order.len() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "a place in the order; no flow sends 4 billion packets")]
        let (place, sequence) = ((packet % flows) as usize, (packet / flows) as u32);
        (self.order[place], sequence)
    }

    /// The number of the packet that is this one of its flow.
    pub(crate) fn packet(&self, flow: u32, sequence: u32) -> u64 {
        let place = self.order.iter().position(|&other| other == flow).unwrap_or(0);
        u64::from(sequence) * self.order.len() as u64 + place as u64
    }

    /// Packets that must arrive, of the first `packets`.
    #[cfg(test)]
    fn passing(&self, packets: u64) -> u64 {
        (0..packets).filter(|&packet| self.flows[self.turn(packet).0 as usize].fate == Fate::Pass).count() as u64
    }
}

impl Flow {
    fn new(version: Version, header: &Header, vlan: Option<u16>, size: usize, fate: Fate) -> Flow {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address is 32 bits")]
        let v4 = |address: u128| (address as u32).to_be_bytes();
        let v6 = |address: u128| Ipv6Addr::from(address).octets();
        let vlan = vlan.and_then(|id| VlanId::try_new(id).ok());
        let ip = match (vlan, version) {
            (None, Version::V4) => link.ipv4(v4(header.src), v4(header.dst), 64),
            (None, Version::V6) => link.ipv6(v6(header.src), v6(header.dst), 64),
            (Some(id), Version::V4) => link.single_vlan(id).ipv4(v4(header.src), v4(header.dst), 64),
            (Some(id), Version::V6) => link.single_vlan(id).ipv6(v6(header.src), v6(header.dst), 64),
        };
        let tag_at = usize::from(smallest(version == Version::V6, vlan.is_some())) - tag::LEN;
        let mut frame = Vec::new();
        // A tag adds nothing to the checksum, as zeros do.
        let payload = vec![0; size.saturating_sub(tag_at).max(tag::LEN)];
        let written = ip.udp(header.src_port, header.dst_port).write(&mut frame, &payload);
        assert!(written.is_ok(), "a frame in memory is written to its end");
        Flow { frame: frame.into(), tag_at, fate }
    }

    /// What must become of its packets.
    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    /// Writes its frame with this tag over `buffer`.
    pub(crate) fn write(&self, tag: &Tag, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.frame);
        buffer[self.tag_at..self.tag_at + tag::LEN].copy_from_slice(&tag.bytes());
    }

    /// What is wrong with a frame that has a tag of this flow; nothing if it is as it was sent.
    pub(crate) fn difference(&self, frame: &[u8]) -> Option<String> {
        if frame.len() != self.frame.len() {
            return Some(format!("{} bytes instead of {}", frame.len(), self.frame.len()));
        }
        let (before, behind) = (..self.tag_at, self.tag_at + tag::LEN..);
        if frame[before] == self.frame[before] && frame[behind.clone()] == self.frame[behind] {
            return None;
        }
        let within = self.tag_at..self.tag_at + tag::LEN;
        let differs = |&at: &usize| !within.contains(&at) && frame[at] != self.frame[at];
        let at = (0..frame.len()).find(differs)?;
        Some(format!("byte {at} is {:#04x} instead of {:#04x}", frame[at], self.frame[at]))
    }
}

/// The payload of a UDP datagram in a frame that may be tagged.
pub(crate) fn payload(frame: &[u8]) -> Option<&[u8]> {
    let ethertype = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let at = if ethertype(ETHERNET - 2)? == 0x8100 { ETHERNET + VLAN } else { ETHERNET };
    let headers = match ethertype(at - 2)? {
        0x0800 => IPV4_UDP,
        0x86dd => IPV6_UDP,
        _ => return None,
    };
    frame.get(at + headers..)
}

/// Which of so many are in the share of them.
fn chosen(count: u32, share: f64, rng: &mut Rng) -> Vec<bool> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the count")]
    let within = (f64::from(count) * share).round() as u32;
    let mut chosen: Vec<bool> = (0..count).map(|number| number < within).collect();
    rng.shuffle(&mut chosen);
    chosen
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn mix() -> Mix {
        Mix { flows: 40, sizes: vec![64], vlan: None, ipv6: 0.0, drop: 0.0 }
    }

    fn tag(flow: u32) -> Tag {
        Tag { run: 7, flow, sequence: 8, due_ns: 9, fate: Fate::Pass }
    }

    fn frame(flows: &Flows, number: u32) -> Vec<u8> {
        let mut frame = Vec::new();
        flows.get(number).unwrap().write(&tag(number), &mut frame);
        frame
    }

    #[test]
    fn every_mix_makes_whole_packets_with_checksums_that_hold_and_a_tag_that_is_read() {
        for (ipv6, vlan) in [(0.0, None), (1.0, None), (0.0, Some(100)), (1.0, Some(4094))] {
            let least = smallest(ipv6 == 1.0, vlan.is_some());
            let mix = Mix { ipv6, vlan, sizes: vec![least, least + 1, 1514], ..mix() };
            let flows = Flows::new(&mix, 1);
            for number in 0..40 {
                let frame = frame(&flows, number);
                assert_eq!(frame.len(), usize::from(mix.sizes[number as usize % 3]));
                let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
                let Some(TransportSlice::Udp(udp)) = &parsed.transport else { panic!("{parsed:?}") };
                let whole = udp.to_header();
                let wanted = match &parsed.net {
                    Some(NetSlice::Ipv4(ip)) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.header_checksum, header.calc_header_checksum());
                        whole.calc_checksum_ipv4(&header, udp.payload()).unwrap()
                    }
                    Some(NetSlice::Ipv6(ip)) => {
                        whole.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap()
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(whole.checksum, wanted);
                assert_eq!(parsed.link_exts.len(), usize::from(vlan.is_some()));
                assert_eq!(Tag::read(payload(&frame).unwrap()), Ok(tag(number)));
                assert_eq!(flows.get(number).unwrap().difference(&frame), None);
            }
        }
    }

    #[test]
    fn shares_of_flows_are_exact_and_every_flow_is_another() {
        let flows = Flows::new(&Mix { flows: 100, ipv6: 0.25, drop: 0.99, sizes: vec![90], ..mix() }, 3);
        let frames: Vec<Vec<u8>> = (0..100).map(|number| frame(&flows, number)).collect();
        assert_eq!(frames.iter().filter(|frame| frame[12..14] == [0x86, 0xdd]).count(), 25);
        assert_eq!(flows.passing(100), 1);
        let headers: std::collections::HashSet<&[u8]> = frames.iter().map(|frame| &frame[..40]).collect();
        assert_eq!(headers.len(), 100);
    }

    #[test]
    fn every_flow_has_its_turn_and_a_packet_is_found_again() {
        let flows = Flows::new(&mix(), 1);
        let mut turns: Vec<u32> = (40..80).map(|packet| flows.turn(packet).0).collect();
        assert!((0..40).all(|packet| flows.packet(flows.turn(packet).0, 3) == 120 + packet));
        assert!(!turns.is_sorted());
        turns.sort_unstable();
        assert!(turns.into_iter().eq(0..40));
    }

    #[test]
    fn what_is_not_as_it_was_sent_is_named() {
        let flows = Flows::new(&Mix { sizes: vec![100], ..mix() }, 1);
        let difference = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = frame(&flows, 5);
            edit(&mut frame);
            flows.get(5).unwrap().difference(&frame)
        };
        assert_eq!(difference(&|_| ()), None);
        assert_eq!(difference(&|frame| frame[22] = 63).unwrap(), "byte 22 is 0x3f instead of 0x40");
        assert_eq!(difference(&|frame| frame[99] = 1).unwrap(), "byte 99 is 0x01 instead of 0x00");
        assert_eq!(difference(&|frame| frame.truncate(90)).unwrap(), "90 bytes instead of 100");
    }

    #[test]
    fn a_frame_without_udp_has_no_payload() {
        let arp = [&[0xff; 12][..], &[8, 6], &[0; 50]].concat();
        assert_eq!((payload(&arp), payload(&[0; 13]), payload(&[])), (None, None, None));
    }
}

//! Random packets for `soak`: of every protocol the gateway parses, whole, cut short, damaged, or noise from the start.

use std::ops::RangeInclusive;

use fastrand::Rng;

use crate::generator::PACKET_MIN;

/// Longest packet made: an Ethernet header, two VLAN tags, 1,500 bytes.
pub(crate) const LONGEST: usize = 14 + 2 * 4 + 1500;

/// Ports that filters of soak.toml name, and others.
const PORTS: [u16; 16] = [22, 53, 54, 55, 56, 57, 58, 59, 80, 80, 179, 443, 8000, 8999, 9000, 65535];

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UNASSIGNED: RangeInclusive<u8> = 149..=252;

/// Writes a random packet to `packet`, which is empty. The same seed makes the same packets.
pub(crate) fn write(packet: &mut Vec<u8>, rng: &mut Rng) {
    match rng.u8(0..10) {
        0 => noise(packet, rng.usize(PACKET_MIN..=LONGEST), rng),
        damage => {
            whole(packet, rng);
            match damage {
                1 => packet.truncate(rng.usize(PACKET_MIN..=packet.len())),
                2 => {
                    for _ in 0..rng.u8(1..8) {
                        let place = rng.usize(..packet.len());
                        packet[place] = rng.u8(..);
                    }
                }
                _ => {}
            }
        }
    }
}

/// A packet as it should be, but for checksums, which nobody here looks at.
fn whole(packet: &mut Vec<u8>, rng: &mut Rng) {
    packet.extend([2, 0, 0, 0, 0, rng.u8(1..=3)]);
    packet.extend([2, 0, 0, 0, rng.u8(..), rng.u8(..)]);
    match rng.u8(0..8) {
        0 | 1 => tag(packet, C_TAG, [100, 101, 4095], rng),
        2 => {
            tag(packet, S_TAG, [200, 201, 0], rng);
            tag(packet, C_TAG, [300, 301, 4094], rng);
        }
        _ => {}
    }
    let room = LONGEST - 2 * 4 - 14;
    match rng.u8(0..12) {
        0 => arp(packet, rng),
        1..=6 => ipv4(packet, room, rng),
        7..=10 => ipv6(packet, room, rng),
        _ => {
            put16(packet, rng.u16(0x0600..));
            noise(packet, rng.usize(..room), rng);
        }
    }
}

fn tag(packet: &mut Vec<u8>, tpid: u16, ids: [u16; 3], rng: &mut Rng) {
    put16(packet, tpid);
    put16(packet, rng.u16(2..5) << 13 | pick(&ids, rng));
}

fn arp(packet: &mut Vec<u8>, rng: &mut Rng) {
    put16(packet, ARP);
    packet.extend([0, 1, 8, 0, 6, 4, 0, rng.u8(1..=2)]); // Ethernet, IPv4, request or reply
    packet.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
    packet.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, rng.u8(..)]);
}

fn ipv4(packet: &mut Vec<u8>, room: usize, rng: &mut Rng) {
    put16(packet, IPV4);
    let options = if rng.u8(0..4) == 0 { rng.usize(1..=10) } else { 0 };
    let header = 20 + 4 * options;
    let proto = pick(&[TCP, TCP, UDP, UDP, UDP, ICMP, SCTP, rng.u8(UNASSIGNED)], rng);
    let payload = payload_len(room - header, rng);
    let more_and_offset = match rng.u8(0..8) {
        0 => 0x2000,                   // first of several
        1 => rng.u16(1..0x1fff),       // last
        2 => 0x2000 | rng.u16(1..100), // between
        _ => 0,
    };
    packet.extend([0x45 + length8(options), pick(&[0, 0xb8, rng.u8(..)], rng)]);
    put16(packet, length16(header + payload));
    put16(packet, rng.u16(..));
    put16(packet, more_and_offset);
    packet.extend([pick(&[1, 64, 255], rng), proto, 0, 0]);
    packet.extend([pick(&[10, 198], rng), 18, rng.u8(..), rng.u8(..)]);
    packet.extend([10, 0, 0, rng.u8(..)]);
    packet.extend(std::iter::repeat_n(1, 4 * options)); // no-operation
    transport(packet, proto, payload, rng);
}

fn ipv6(packet: &mut Vec<u8>, room: usize, rng: &mut Rng) {
    put16(packet, IPV6);
    let proto = pick(&[TCP, UDP, UDP, ICMPV6, SCTP, rng.u8(UNASSIGNED)], rng);
    // Hop-by-hop, routing, fragment, destination options: each at most once, in the order of RFC 8200.
    let mut extensions: Vec<u8> = [0, 43, FRAGMENT, 60].into_iter().filter(|_| rng.u8(0..5) == 0).collect();
    extensions.push(proto);
    let payload = payload_len(room - 40 - 8 * (extensions.len() - 1), rng);
    let traffic_class = pick(&[0, 0xb8, rng.u8(..)], rng);
    packet.extend([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0]);
    put16(packet, length16(payload + 8 * (extensions.len() - 1)));
    packet.extend([extensions[0], pick(&[1, 64, 255], rng)]);
    for prefix in [pick(&[1, 9], rng), pick(&[2, 9], rng)] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, rng.u8(..)]);
    }
    for pair in extensions.windows(2) {
        packet.push(pair[1]);
        match pair[0] {
            FRAGMENT => packet.extend([0, 0, pick(&[0, 1, 8], rng), 0, 0, 0, rng.u8(..)]),
            _ => packet.extend([0, 1, 4, 0, 0, 0, 0]), // padding of four
        }
    }
    transport(packet, proto, payload, rng);
}

/// `len` bytes, the header of `proto` first if there is room for it.
fn transport(packet: &mut Vec<u8>, proto: u8, len: usize, rng: &mut Rng) {
    let end = packet.len() + len;
    match proto {
        TCP | UDP | SCTP => {
            put16(packet, rng.u16(..));
            put16(packet, pick(&PORTS, rng));
        }
        ICMP => packet.extend([pick(&[8, 0, 3], rng), pick(&[0, 1], rng), 0, 0]),
        ICMPV6 => packet.extend([pick(&[128, 129, 135], rng), 0, 0, 0]),
        _ => {}
    }
    match proto {
        TCP => {
            packet.extend([0; 8]);
            packet.extend([0x50, pick(&[0x02, 0x12, 0x10, 0x18, 0x04, 0x3f], rng)]);
            packet.extend([0; 6]);
        }
        UDP => {
            put16(packet, length16(len));
            put16(packet, 0);
        }
        _ => {}
    }
    let left = end.saturating_sub(packet.len());
    noise(packet, left, rng);
}

/// Bytes for a transport header and what follows: mostly little, at times all the room.
fn payload_len(room: usize, rng: &mut Rng) -> usize {
    match rng.u8(0..8) {
        0 => room,
        1 | 2 => rng.usize(24..=room),
        _ => rng.usize(24..=100),
    }
}

fn noise(packet: &mut Vec<u8>, len: usize, rng: &mut Rng) {
    let start = packet.len();
    packet.resize(start + len, 0);
    rng.fill(&mut packet[start..]);
}

fn pick<T: Copy>(choices: &[T], rng: &mut Rng) -> T {
    choices[rng.usize(..choices.len())]
}

fn put16(packet: &mut Vec<u8>, number: u16) {
    packet.extend(number.to_be_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "no packet is longer than LONGEST")]
fn length16(len: usize) -> u16 {
    len as u16
}

#[expect(clippy::cast_possible_truncation, reason = "IPv4 options are 10 words at most")]
fn length8(words: usize) -> u8 {
    words as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    fn packets(write: impl Fn(&mut Vec<u8>, &mut Rng)) -> impl Iterator<Item = Vec<u8>> {
        let mut rng = Rng::with_seed(7);
        (0..20_000).map(move |_| {
            let mut packet = Vec::new();
            write(&mut packet, &mut rng);
            packet
        })
    }

    #[test]
    fn whole_packets_are_whole_to_another_parser() {
        let mut seen = [0; 8];
        for packet in packets(whole) {
            let parsed = SlicedPacket::from_ethernet(&packet).unwrap_or_else(|error| panic!("{error}: {packet:02x?}"));
            let marks = [
                matches!(parsed.net, Some(NetSlice::Ipv4(_))),
                matches!(parsed.net, Some(NetSlice::Ipv6(_))),
                matches!(parsed.net, Some(NetSlice::Arp(_))),
                matches!(parsed.transport, Some(TransportSlice::Tcp(_))),
                matches!(parsed.transport, Some(TransportSlice::Udp(_))),
                parsed.link_exts.len() == 1,
                parsed.link_exts.len() == 2,
                parsed.is_ip_payload_fragmented(),
            ];
            for (seen, mark) in seen.iter_mut().zip(marks) {
                *seen += usize::from(mark);
            }
        }
        assert!(seen.iter().all(|&seen| seen > 500), "{seen:?}");
    }

    #[test]
    fn every_packet_has_a_size_that_can_be_sent_and_both_extremes_come() {
        let lengths: Vec<usize> = packets(write).map(|packet| packet.len()).collect();
        assert!(lengths.iter().all(|len| (PACKET_MIN..=LONGEST).contains(len)));
        assert!(lengths.iter().any(|&len| len < 20) && lengths.iter().any(|&len| len > 1510));
    }

    #[test]
    fn a_seed_makes_the_same_packets_again() {
        assert!(packets(write).eq(packets(write)));
    }
}

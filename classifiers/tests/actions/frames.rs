//! Random frames: tags, IPv4 and IPv6, TCP, UDP and ICMP, with right checksums; cut off, or fragments, where it is asked for.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use proptest::prelude::*;
use proptest::sample::select;

/// What a frame is made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) tags: usize,
    pub(crate) v6: bool,
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    Icmp,
}

impl Parts {
    /// With right checksums, as etherparse makes them.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let vlan = |id: u16| id.try_into().unwrap();
        let (v4, v6) = (|ip: u32| ip.to_be_bytes(), |ip: u32| Ipv6Addr::from(u128::from(ip) << 64 | 1).octets());
        let (source, destination) = (self.source, self.destination);
        let ip = match (self.tags, self.v6) {
            (0, false) => ethernet.ipv4(v4(source), v4(destination), 64),
            (0, true) => ethernet.ipv6(v6(source), v6(destination), 64),
            (1, false) => ethernet.single_vlan(vlan(7)).ipv4(v4(source), v4(destination), 64),
            (1, true) => ethernet.single_vlan(vlan(7)).ipv6(v6(source), v6(destination), 64),
            (_, false) => ethernet.double_vlan(vlan(8), vlan(9)).ipv4(v4(source), v4(destination), 64),
            (_, true) => ethernet.double_vlan(vlan(8), vlan(9)).ipv6(v6(source), v6(destination), 64),
        };
        let mut frame = Vec::new();
        match self.transport {
            Transport::Tcp => ip.tcp(1000, 80, 7, 512).write(&mut frame, &self.payload).unwrap(),
            Transport::Udp => ip.udp(1000, 53).write(&mut frame, &self.payload).unwrap(),
            Transport::Icmp if self.v6 => ip.icmpv6_echo_request(1, 2).write(&mut frame, &self.payload).unwrap(),
            Transport::Icmp => ip.icmpv4_echo_request(1, 2).write(&mut frame, &self.payload).unwrap(),
        }
        frame
    }

    pub(crate) fn l3(&self) -> usize {
        14 + 4 * self.tags
    }

    pub(crate) fn l4(&self) -> usize {
        self.l3() + if self.v6 { 40 } else { 20 }
    }

    /// Where the checksum of the transport is.
    pub(crate) fn checksum(&self) -> usize {
        self.l4()
            + match self.transport {
                Transport::Tcp => 16,
                Transport::Udp => 6,
                Transport::Icmp => 2,
            }
    }
}

/// A segment without tags, over IPv4.
pub(crate) fn tcp() -> Parts {
    let (source, destination) = (0x0a00_0001, 0xc000_0201);
    Parts { tags: 0, v6: false, source, destination, transport: Transport::Tcp, payload: vec![7; 20] }
}

/// Addresses of 10.0.0.0/8, and a few others.
fn address() -> impl Strategy<Value = u32> {
    prop_oneof![(0..1_u32 << 24).prop_map(|host| 10 << 24 | host), select(vec![0, u32::MAX, 0x0a00_0001, 0xc000_0201])]
}

pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    let transport = select(vec![Transport::Tcp, Transport::Udp, Transport::Icmp]);
    let payload = prop::collection::vec(any::<u8>(), 0..60);
    (0..3_usize, any::<bool>(), address(), address(), transport, payload).prop_map(
        |(tags, v6, source, destination, transport, payload)| Parts {
            tags,
            v6,
            source,
            destination,
            transport,
            payload,
        },
    )
}

/// Frames of all kinds, many of them cut off, fragments, or with bytes that are wrong.
pub(crate) fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let broken =
        (parts(), 14..200_usize, prop::option::of((0..80_usize, any::<u8>()))).prop_map(|(parts, cut, wrong)| {
            let mut frame = parts.frame();
            frame.truncate(cut);
            if let Some((at, byte)) = wrong
                && let Some(there) = frame.get_mut(at)
            {
                *there = byte;
            }
            frame
        });
    let fragment = (parts(), select(vec![0x2000_u16, 0x2001, 0x0001])).prop_map(|(parts, flags)| {
        let mut frame = parts.frame();
        if !parts.v6 {
            frame[parts.l3() + 6..parts.l3() + 8].copy_from_slice(&flags.to_be_bytes());
        }
        frame
    });
    prop_oneof![parts().prop_map(|parts| parts.frame()), broken, fragment, prop::collection::vec(any::<u8>(), 14..80)]
}

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

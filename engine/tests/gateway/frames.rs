//! Frames to send.

use etherparse::{PacketBuilder, VlanId};

const FAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// IPv4 and UDP to `port`, `len` bytes in all (at least 42); `number` makes it distinct.
pub(crate) fn udp(port: u16, number: u16, len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(FAR, NEAR).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(number, port);
    written(len - 42, |payload, frame| builder.write(frame, payload).unwrap())
}

/// The same to several, one after the other.
pub(crate) fn udps(port: u16, count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|number| udp(port, number + 1000, 64)).collect()
}

/// IPv6 and TCP SYN to `port`.
pub(crate) fn tcp6(port: u16) -> Vec<u8> {
    let address = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let builder = PacketBuilder::ethernet2(FAR, NEAR).ipv6(address(1), address(2), 64).tcp(40_000, port, 1, 1000).syn();
    written(20, |payload, frame| builder.write(frame, payload).unwrap())
}

/// UDP within VLAN `id`.
pub(crate) fn vlan(id: u16, number: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(FAR, NEAR)
        .single_vlan(VlanId::try_new(id).unwrap())
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(number, 9);
    written(30, |payload, frame| builder.write(frame, payload).unwrap())
}

/// UDP within VLAN `inner` within VLAN `outer`.
pub(crate) fn qinq(outer: u16, inner: u16, number: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(FAR, NEAR)
        .double_vlan(VlanId::try_new(outer).unwrap(), VlanId::try_new(inner).unwrap())
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(number, 9);
    written(30, |payload, frame| builder.write(frame, payload).unwrap())
}

/// A fragment of a UDP packet to `port`: the first one (offset 0, more to come), or a later one.
pub(crate) fn fragment(port: u16, first: bool) -> Vec<u8> {
    let mut frame = udp(port, 7, 80);
    let offset: u16 = if first { 0x2000 } else { 0x0004 };
    frame[20..22].copy_from_slice(&offset.to_be_bytes());
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// A frame of an ethertype and protocol that nobody knows, `len` bytes in all.
pub(crate) fn unknown(len: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; len];
    frame[..6].copy_from_slice(&NEAR);
    frame[6..12].copy_from_slice(&FAR);
    frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
    frame
}

fn written(payload: usize, write: impl FnOnce(&[u8], &mut Vec<u8>)) -> Vec<u8> {
    let payload: Vec<u8> = (0..=255).cycle().take(payload).collect();
    let mut frame = Vec::new();
    write(&payload, &mut frame);
    frame
}

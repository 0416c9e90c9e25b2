//! What one parse of a frame found.

use crate::flow_key::{self, FlowKey, mac};
use crate::port::PortId;
use crate::request::TunnelKey;
use crate::wire::arp::Arp;
use crate::wire::ethernet::Ethernet;
use crate::wire::icmp::Icmp;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::sctp::Sctp;
use crate::wire::tcp::{self, Tcp};
use crate::wire::udp::Udp;
use crate::wire::vlan::{self, Vlan};
use crate::wire::{ethertype, ip_proto};

/// A frame after one parse: its key, its outermost ethertype and its length. It owns what it found and borrows
/// nothing, so the frame may be copied or sent while the packet is being classified.
///
/// The parser sees what Linux's flow dissector sees: the frame's bytes, whatever versions and total lengths the headers
/// claim. It does not look into tunnels [FL-9].
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    key: FlowKey,
    protocol: u16,
    len: u32,
    l3_len: u32,
    mark: u32,
    tunnel: Option<TunnelKey>,
}

impl Packet {
    /// Parses `frame`, received on `port`. `None` if the frame is shorter than an Ethernet header. Beyond that,
    /// parsing cannot fail: a truncated or malformed frame yields the keys found so far, the rest reads as 0 [FL-11].
    #[inline]
    pub fn parse(frame: &[u8], port: PortId) -> Option<Packet> {
        let ethernet = Ethernet::new_checked(frame)?;
        let protocol = ethernet.ethertype();

        let mut key = FlowKey::EMPTY;
        key.set(flow_key::INDEV, u64::from(port.0) + 1);
        key.set(flow_key::DST_MAC, mac(ethernet.destination()));
        key.set(flow_key::SRC_MAC, mac(ethernet.source()));

        let (mut ethertype, mut payload) = (protocol, ethernet.payload());
        let mut l3_len = payload.len();
        if vlan::is_tpid(protocol) {
            (ethertype, payload) = tags(&mut key, protocol, payload);
            // A tag that is cut off is not taken off.
            l3_len = l3_len.checked_sub(vlan::LEN).unwrap_or(l3_len);
        }
        key.set(flow_key::ETH_TYPE, ethertype.into());
        match ethertype {
            ethertype::IPV4 => ipv4(&mut key, payload),
            ethertype::IPV6 => ipv6(&mut key, payload),
            ethertype::ARP | ethertype::RARP => arp(&mut key, payload),
            _ => {}
        }
        Some(Packet { key, protocol, len: count(frame.len()), l3_len: count(l3_len), mark: 0, tunnel: None })
    }

    /// Parses the packet anew, after `frame` was edited. Its mark and its tunnel stay.
    pub fn parse_again(&mut self, frame: &[u8]) {
        if let Some(parsed) = Packet::parse(frame, self.port()) {
            *self = Packet { mark: self.mark, tunnel: self.tunnel, ..parsed };
        }
    }

    /// The port that it came in at.
    fn port(&self) -> PortId {
        #[expect(clippy::cast_possible_truncation, reason = "it was made of a port's number")]
        PortId((self.key.get(flow_key::INDEV) - 1) as u16)
    }

    /// The fields found.
    #[inline]
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// The outermost ethertype, the VLAN TPID for a tagged frame [DP-3]. Host byte order.
    #[inline]
    pub fn protocol(&self) -> u16 {
        self.protocol
    }

    /// Whole frame, in bytes.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the frame has no bytes; a parsed packet always has some.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes behind the Ethernet header and the outer VLAN tag, if there is one: what filter and action statistics count
    /// at ingress [ST-4].
    #[inline]
    pub fn l3_len(&self) -> u32 {
        self.l3_len
    }

    /// Whether it came in at `port`; anything will do for nothing.
    #[inline]
    pub(crate) fn is_from(&self, port: Option<PortId>) -> bool {
        port.is_none_or(|port| self.key.get(flow_key::INDEV) == u64::from(port.0) + 1)
    }

    /// A number that goes with the packet, 0 at first: fw and u32 match on it.
    #[inline]
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// Sets the mark.
    #[inline]
    pub fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }

    /// The tunnel that it is meant for, none at first.
    #[inline]
    pub fn tunnel(&self) -> Option<&TunnelKey> {
        self.tunnel.as_ref()
    }

    /// Sets the tunnel.
    #[inline]
    pub(crate) fn set_tunnel(&mut self, tunnel: Option<TunnelKey>) {
        self.tunnel = tunnel;
    }
}

/// Bytes as they are counted. No port takes a frame that 32 bits cannot count.
#[inline]
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Records up to two VLAN tags, and returns the ethertype and the bytes behind them. A third tag is left alone: its TPID
/// is the ethertype, as is that of a tag that is cut off.
fn tags<'a>(key: &mut FlowKey, mut ethertype: u16, mut bytes: &'a [u8]) -> (u16, &'a [u8]) {
    let outer = (1, flow_key::VLAN_ID, flow_key::VLAN_PRIO, flow_key::VLAN_TPID);
    let inner = (2, flow_key::CVLAN_ID, flow_key::CVLAN_PRIO, flow_key::CVLAN_TPID);
    for (count, id, priority, tpid) in [outer, inner] {
        if !vlan::is_tpid(ethertype) {
            break;
        }
        let Some(tag) = Vlan::new_checked(bytes) else { break };
        key.set(id, tag.id().into());
        key.set(priority, tag.priority().into());
        key.set(tpid, ethertype.into());
        key.set(flow_key::NUM_OF_VLANS, count);
        (ethertype, bytes) = (tag.ethertype(), tag.payload());
    }
    (ethertype, bytes)
}

fn arp(key: &mut FlowKey, bytes: &[u8]) {
    let Some(arp) = Arp::new_checked(bytes) else { return };
    key.set(flow_key::ARP_OP, arp.operation().into());
    key.set(flow_key::ARP_SIP, u32::from(arp.sender_ip()).into());
    key.set(flow_key::ARP_TIP, u32::from(arp.target_ip()).into());
    key.set(flow_key::ARP_SHA, mac(arp.sender_mac()));
    key.set(flow_key::ARP_THA, mac(arp.target_mac()));
}

#[inline]
fn ipv4(key: &mut FlowKey, bytes: &[u8]) {
    let Some(ip) = Ipv4::new_checked(bytes) else { return };
    key.set_src_ipv4(ip.source());
    key.set_dst_ipv4(ip.destination());
    key.set(flow_key::IP_TOS, ip.tos().into());
    key.set(flow_key::IP_TTL, ip.ttl().into());
    key.set(flow_key::IP_PROTO, ip.protocol().into());
    if ip.is_fragment() {
        fragment(key, ip.is_first());
    } else {
        transport(key, ip.protocol(), ip.payload());
    }
}

#[inline]
fn ipv6(key: &mut FlowKey, bytes: &[u8]) {
    let Some(ip) = Ipv6::new_checked(bytes) else { return };
    let upper = ip.upper();
    key.set_src_ipv6(ip.source());
    key.set_dst_ipv6(ip.destination());
    key.set(flow_key::IP_TOS, ip.traffic_class().into());
    key.set(flow_key::IP_TTL, ip.hop_limit().into());
    key.set(flow_key::IP_PROTO, upper.protocol.into());
    match upper.fragment {
        Some(header) => fragment(key, header.is_first()),
        None => transport(key, upper.protocol, upper.payload),
    }
}

/// No fragment shows its L4 header, the first one included, so that all of them match the same filters [FL-10].
#[inline]
fn fragment(key: &mut FlowKey, first: bool) {
    let first = if first { flow_key::IP_FLAG_FIRST_FRAG } else { 0 };
    key.set(flow_key::IP_FLAGS, flow_key::IP_FLAG_FRAG | first);
}

#[inline]
fn transport(key: &mut FlowKey, protocol: u8, bytes: &[u8]) {
    match protocol {
        ip_proto::TCP => {
            let Some(tcp) = Tcp::new_checked(bytes) else { return };
            ports(key, tcp.source_port(), tcp.destination_port());
            // As in Linux's dissector, a header that claims to be shorter than itself has ports, but no flags.
            if tcp.header_len() >= tcp::MIN_LEN {
                key.set(flow_key::TCP_FLAGS, tcp.flags().into());
            }
        }
        ip_proto::UDP => {
            let Some(udp) = Udp::new_checked(bytes) else { return };
            ports(key, udp.source_port(), udp.destination_port());
        }
        ip_proto::SCTP => {
            let Some(sctp) = Sctp::new_checked(bytes) else { return };
            ports(key, sctp.source_port(), sctp.destination_port());
        }
        ip_proto::ICMP | ip_proto::ICMPV6 => {
            let Some(icmp) = Icmp::new_checked(bytes) else { return };
            key.set(flow_key::ICMP_TYPE, icmp.icmp_type().into());
            key.set(flow_key::ICMP_CODE, icmp.code().into());
        }
        _ => {}
    }
}

#[inline]
fn ports(key: &mut FlowKey, source: u16, destination: u16) {
    key.set(flow_key::SRC_PORT, source.into());
    key.set(flow_key::DST_PORT, destination.into());
}

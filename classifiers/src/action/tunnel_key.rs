//! tunnel_key: which tunnel a packet is meant for [AK-TUNNEL_KEY].

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::verdict::Control;

/// What becomes of the tunnel that goes with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelKeySpec {
    /// The tunnel; none takes off what is there.
    pub key: Option<TunnelKey>,
    /// Verdict after it.
    pub control: Control,
}

/// A tunnel: what would be in the headers around the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelKey {
    /// Between whom.
    pub ends: TunnelEnds,
    /// Its number, such as a VNI.
    pub id: Option<u32>,
    /// UDP destination port; 0 if nothing is said about it.
    pub dst_port: u16,
    /// Type of service; 0 if nothing is said about it.
    pub tos: u8,
    /// Time to live; 0 if nothing is said about it.
    pub ttl: u8,
    /// Whether there is a checksum around the packet.
    pub csum: bool,
    /// Whether what is around the packet must not be fragmented.
    pub nofrag: bool,
}

/// Source and destination of what is around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnds {
    /// Over IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// Over IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

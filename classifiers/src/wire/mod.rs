//! Headers as views over the frame's bytes.
//!
//! A view is made by `new_checked`, which makes the one length check: is the header's fixed part within `bytes`?
//! After it no accessor can go out of bounds, and the compiler knows it, because a view holds its fixed part as an array
//! and reads it at offsets known when compiling. What a header says about its own length is never
//! trusted: `payload()` is empty if the length points outside the frame. Numbers are in host byte order.

pub mod arp;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vlan;

/// Ethertypes that the parser knows.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP.
    pub const RARP: u16 = 0x8035;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad tag, the outer one of QinQ.
    pub const QINQ: u16 = 0x88a8;
}

/// Protocols that the parser knows: IPv4's protocol, IPv6's next header.
pub mod ip_proto {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload: what follows cannot be read.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// A header's fixed part: `LEN` bytes of the frame. A field that does not lie within it does not compile.
#[derive(Clone, Copy, Debug)]
struct Fixed<'a, const LEN: usize>(&'a [u8; LEN]);

impl<'a, const LEN: usize> Fixed<'a, LEN> {
    /// The fixed part and the bytes behind it; `None` if `bytes` is shorter.
    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = bytes.split_first_chunk()?;
        Some((Self(fixed), rest))
    }

    #[inline]
    fn bytes<const AT: usize, const N: usize>(self) -> [u8; N] {
        const { assert!(AT + N <= LEN, "field outside of its header") };
        let mut field = [0; N];
        field.copy_from_slice(&self.0[AT..AT + N]);
        field
    }

    #[inline]
    fn u8<const AT: usize>(self) -> u8 {
        u8::from_be_bytes(self.bytes::<AT, 1>())
    }

    #[inline]
    fn u16<const AT: usize>(self) -> u16 {
        u16::from_be_bytes(self.bytes::<AT, 2>())
    }
}

/// `bytes` without the first `len`, or nothing if there are not so many.
#[inline]
fn skip(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(len..).unwrap_or_default()
}

//! ARP and RARP, for IPv4 over Ethernet.

use std::net::Ipv4Addr;

use super::{Fixed, ethertype};

mod field {
    pub(super) const HARDWARE: usize = 0;
    pub(super) const PROTOCOL: usize = 2;
    pub(super) const HARDWARE_LEN: usize = 4;
    pub(super) const PROTOCOL_LEN: usize = 5;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SENDER_MAC: usize = 8;
    pub(super) const SENDER_IP: usize = 14;
    pub(super) const TARGET_MAC: usize = 18;
    pub(super) const TARGET_IP: usize = 24;
}

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const LEN: usize = 28;

const ETHERNET: u16 = 1;

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug)]
pub struct Arp<'a> {
    header: Fixed<'a, LEN>,
}

impl<'a> Arp<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`LEN`], or about other addresses than Ethernet's and IPv4's.
    /// After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = Fixed::split(bytes)?;
        let ours = header.u16::<{ field::HARDWARE }>() == ETHERNET
            && header.u16::<{ field::PROTOCOL }>() == ethertype::IPV4
            && header.u8::<{ field::HARDWARE_LEN }>() == 6
            && header.u8::<{ field::PROTOCOL_LEN }>() == 4;
        ours.then_some(Self { header })
    }

    /// 1 request, 2 reply, and so on.
    #[inline]
    pub fn operation(&self) -> u16 {
        self.header.u16::<{ field::OPERATION }>()
    }

    /// Sender hardware address.
    #[inline]
    pub fn sender_mac(&self) -> [u8; 6] {
        self.header.bytes::<{ field::SENDER_MAC }, 6>()
    }

    /// Sender protocol address.
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.header.bytes::<{ field::SENDER_IP }, 4>().into()
    }

    /// Target hardware address.
    #[inline]
    pub fn target_mac(&self) -> [u8; 6] {
        self.header.bytes::<{ field::TARGET_MAC }, 6>()
    }

    /// Target protocol address.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        self.header.bytes::<{ field::TARGET_IP }, 4>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const REQUEST: [u8; LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
        2, 0, 0, 0, 0, 2, 10, 0, 0, 2,
    ];

    #[test]
    fn fields_are_where_rfc_826_puts_them() {
        let arp = Arp::new_checked(&REQUEST).unwrap();
        assert_eq!(arp.operation(), 1);
        assert_eq!((arp.sender_mac(), arp.sender_ip()), ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!((arp.target_mac(), arp.target_ip()), ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn other_address_families_and_short_packets_are_refused() {
        for byte in 0..6 {
            let mut other = REQUEST;
            other[byte] ^= 0x80;
            assert!(Arp::new_checked(&other).is_none(), "byte {byte} changed");
        }
        assert!(Arp::new_checked(&REQUEST[..LEN - 1]).is_none());
    }
}

//! IPv4.

use std::net::Ipv4Addr;

use super::{Fixed, skip};

/// Where fields are.
pub(crate) mod field {
    pub(crate) const VERSION_IHL: usize = 0;
    pub(crate) const TOS: usize = 1;
    pub(crate) const TOTAL_LEN: usize = 2;
    pub(crate) const FLAGS_OFFSET: usize = 6;
    pub(crate) const TTL: usize = 8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: usize = 10;
    pub(crate) const SOURCE: usize = 12;
    pub(crate) const DESTINATION: usize = 16;
}

/// Bytes of a header without options.
pub const MIN_LEN: usize = 20;

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// An IPv4 header and what follows it.
///
/// As in Linux's dissector, the ethertype alone says that this is IPv4, and the frame's end alone says where it ends: the
/// version, the total length and the checksum are not looked at, so Ethernet padding counts as payload.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: Fixed<'a, MIN_LEN>,
    rest: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`MIN_LEN`], or if the header says that it is shorter than that.
    /// After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = Fixed::split(bytes)?;
        let ipv4 = Self { header, rest };
        (ipv4.header_len() >= MIN_LEN).then_some(ipv4)
    }

    /// Bytes of the header with its options, as it says itself: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.header.u8::<{ field::VERSION_IHL }>() & 0x0f) * 4
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.header.u8::<{ field::TOS }>()
    }

    /// Whether the packet is a fragment, first or later.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.header.u16::<{ field::FLAGS_OFFSET }>() & (MORE_FRAGMENTS | OFFSET) != 0
    }

    /// Whether the packet begins at offset 0 of the datagram it belongs to.
    #[inline]
    pub fn is_first(&self) -> bool {
        self.header.u16::<{ field::FLAGS_OFFSET }>() & OFFSET == 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.header.u8::<{ field::TTL }>()
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.header.u8::<{ field::PROTOCOL }>()
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        self.header.bytes::<{ field::SOURCE }, 4>().into()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        self.header.bytes::<{ field::DESTINATION }, 4>().into()
    }

    /// Bytes behind the options; empty if the options are cut off.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        skip(self.rest, self.header_len() - MIN_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const HEADER: [u8; 26] = [
        0x46, 0xb9, 0, 26, 0, 1, 0x40, 0, 63, 17, 0, 0,
        192, 0, 2, 1, 198, 51, 100, 2,
        1, 1, 1, 0,
        0xaa, 0xbb,
    ];

    #[test]
    fn fields_are_where_rfc_791_puts_them() {
        let ipv4 = Ipv4::new_checked(&HEADER).unwrap();
        assert_eq!((ipv4.tos(), ipv4.ttl(), ipv4.protocol()), (0xb9, 63, 17));
        assert_eq!(ipv4.source(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(ipv4.destination(), Ipv4Addr::new(198, 51, 100, 2));
        assert_eq!((ipv4.header_len(), ipv4.payload()), (24, &[0xaa, 0xbb][..]));
        assert!(!ipv4.is_fragment(), "don't fragment is not a fragment");
    }

    #[test]
    fn fragments_are_told_apart() {
        let with = |flags_offset: u16| {
            let mut header = HEADER;
            header[6..8].copy_from_slice(&flags_offset.to_be_bytes());
            let ipv4 = Ipv4::new_checked(&header).unwrap();
            (ipv4.is_fragment(), ipv4.is_first())
        };
        assert_eq!(with(0x2000), (true, true));
        assert_eq!(with(0x2001), (true, false));
        assert_eq!(with(0x0001), (true, false), "the last one");
        assert_eq!(with(0x0000), (false, true));
    }

    #[test]
    fn a_header_shorter_than_its_fixed_part_is_refused() {
        let mut header = HEADER;
        header[0] = 0x44;
        assert!(Ipv4::new_checked(&header).is_none());
        assert!(Ipv4::new_checked(&HEADER[..MIN_LEN - 1]).is_none());
    }

    #[test]
    fn options_that_end_outside_leave_no_payload() {
        let ipv4 = Ipv4::new_checked(&HEADER[..22]).unwrap();
        assert!(ipv4.payload().is_empty());
    }
}

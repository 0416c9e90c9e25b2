//! Ethernet II.

use super::Fixed;

mod field {
    pub(super) const DESTINATION: usize = 0;
    pub(super) const SOURCE: usize = 6;
    pub(super) const ETHERTYPE: usize = 12;
}

/// Bytes of an Ethernet header.
pub const LEN: usize = 14;

/// An Ethernet header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    header: Fixed<'a, LEN>,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// A view of `frame`; `None` if it is shorter than [`LEN`]. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(frame: &'a [u8]) -> Option<Self> {
        let (header, payload) = Fixed::split(frame)?;
        Some(Self { header, payload })
    }

    /// Destination MAC.
    #[inline]
    pub fn destination(&self) -> [u8; 6] {
        self.header.bytes::<{ field::DESTINATION }, 6>()
    }

    /// Source MAC.
    #[inline]
    pub fn source(&self) -> [u8; 6] {
        self.header.bytes::<{ field::SOURCE }, 6>()
    }

    /// What follows the header. Below 0x0600 it is an 802.3 length, which is not told apart here.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        self.header.u16::<{ field::ETHERTYPE }>()
    }

    /// Bytes behind the header, padding included.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_802_3_puts_them() {
        let frame = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 0xaa];
        let ethernet = Ethernet::new_checked(&frame).unwrap();
        assert_eq!(ethernet.destination(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ethernet.source(), [7, 8, 9, 10, 11, 12]);
        assert_eq!(ethernet.ethertype(), 0x86dd);
        assert_eq!(ethernet.payload(), [0xaa]);
    }

    #[test]
    fn a_runt_is_refused() {
        assert!(Ethernet::new_checked(&[0; LEN - 1]).is_none());
        assert!(Ethernet::new_checked(&[0; LEN]).is_some());
    }
}

//! 802.1Q and 802.1ad tags. The tag's own protocol id (TPID) stands before it, in the ethertype's place.

use super::{Fixed, ethertype};

mod field {
    pub(super) const TCI: usize = 0;
    pub(super) const ETHERTYPE: usize = 2;
}

/// Bytes from behind the TPID up to the next header.
pub const LEN: usize = 4;

/// Whether `ethertype` announces a tag.
#[inline]
pub fn is_tpid(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::QINQ)
}

/// A tag and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Vlan<'a> {
    header: Fixed<'a, LEN>,
    payload: &'a [u8],
}

impl<'a> Vlan<'a> {
    /// A view of the bytes behind a TPID; `None` if there are fewer than [`LEN`]. After this no accessor can go out of
    /// bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = Fixed::split(bytes)?;
        Some(Self { header, payload })
    }

    /// VLAN id, 12 bits.
    #[inline]
    pub fn id(&self) -> u16 {
        self.header.u16::<{ field::TCI }>() & 0x0fff
    }

    /// Priority, 3 bits.
    #[inline]
    pub fn priority(&self) -> u8 {
        self.header.u8::<{ field::TCI }>() >> 5
    }

    /// What follows the tag; another TPID if tags are stacked.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        self.header.u16::<{ field::ETHERTYPE }>()
    }

    /// Bytes behind the tag.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_eligible_bit_is_neither_id_nor_priority() {
        let vlan = Vlan::new_checked(&[0xb1, 0x23, 0x08, 0x00, 0xaa]).unwrap();
        assert_eq!((vlan.priority(), vlan.id()), (5, 0x123));
        assert_eq!((vlan.ethertype(), vlan.payload()), (0x0800, &[0xaa][..]));
    }

    #[test]
    fn a_short_tag_is_refused() {
        assert!(Vlan::new_checked(&[0; LEN - 1]).is_none());
        assert!(Vlan::new_checked(&[0; LEN]).is_some());
    }
}

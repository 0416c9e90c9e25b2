//! ICMP and ICMPv6, which begin alike.

use super::Fixed;

/// Where fields are.
pub(crate) mod field {
    pub(crate) const TYPE: usize = 0;
    pub(crate) const CODE: usize = 1;
    pub(crate) const CHECKSUM: usize = 2;
}

/// Bytes of the header that every message has: type, code, checksum and four bytes that depend on the type.
pub const LEN: usize = 8;

/// An ICMP or ICMPv6 header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    header: Fixed<'a, LEN>,
    payload: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`LEN`]. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = Fixed::split(bytes)?;
        Some(Self { header, payload })
    }

    /// Type of message.
    #[inline]
    pub fn icmp_type(&self) -> u8 {
        self.header.u8::<{ field::TYPE }>()
    }

    /// Code within the type.
    #[inline]
    pub fn code(&self) -> u8 {
        self.header.u8::<{ field::CODE }>()
    }

    /// Bytes behind the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_rfc_792_and_4443_put_them() {
        let icmp = Icmp::new_checked(&[3, 4, 0, 0, 0, 0, 5, 0xdc, 0xaa]).unwrap();
        assert_eq!((icmp.icmp_type(), icmp.code(), icmp.payload()), (3, 4, &[0xaa][..]));
    }

    #[test]
    fn a_short_header_is_refused() {
        assert!(Icmp::new_checked(&[0; LEN - 1]).is_none());
        assert!(Icmp::new_checked(&[0; LEN]).is_some());
    }
}

//! UDP.

use super::Fixed;

/// Where fields are.
pub(crate) mod field {
    pub(crate) const SOURCE_PORT: usize = 0;
    pub(crate) const DESTINATION_PORT: usize = 2;
    pub(crate) const LENGTH: usize = 4;
    pub(crate) const CHECKSUM: usize = 6;
}

/// Bytes of a UDP header.
pub const LEN: usize = 8;

/// A UDP header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: Fixed<'a, LEN>,
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`LEN`]. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = Fixed::split(bytes)?;
        Some(Self { header, payload })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        self.header.u16::<{ field::SOURCE_PORT }>()
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        self.header.u16::<{ field::DESTINATION_PORT }>()
    }

    /// Bytes behind the header; the length in it is not looked at.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_rfc_768_puts_them() {
        let udp = Udp::new_checked(&[0x00, 0x35, 0xc0, 0x01, 0, 9, 0, 0, 0xaa]).unwrap();
        assert_eq!((udp.source_port(), udp.destination_port(), udp.payload()), (53, 0xc001, &[0xaa][..]));
    }

    #[test]
    fn a_short_header_is_refused() {
        assert!(Udp::new_checked(&[0; LEN - 1]).is_none());
        assert!(Udp::new_checked(&[0; LEN]).is_some());
    }
}

//! SCTP's common header.

use super::Fixed;

/// Where fields are.
pub(crate) mod field {
    pub(crate) const SOURCE_PORT: usize = 0;
    pub(crate) const DESTINATION_PORT: usize = 2;
    pub(crate) const CHECKSUM: usize = 8;
}

/// Bytes of the common header.
pub const LEN: usize = 12;

/// An SCTP common header and the chunks that follow it.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<'a> {
    header: Fixed<'a, LEN>,
    payload: &'a [u8],
}

impl<'a> Sctp<'a> {
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

    /// The chunks.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_rfc_9260_puts_them() {
        let sctp = Sctp::new_checked(&[0x0b, 0x59, 0xc0, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0xaa]).unwrap();
        assert_eq!((sctp.source_port(), sctp.destination_port(), sctp.payload()), (2905, 0xc001, &[0xaa][..]));
    }

    #[test]
    fn a_short_header_is_refused() {
        assert!(Sctp::new_checked(&[0; LEN - 1]).is_none());
        assert!(Sctp::new_checked(&[0; LEN]).is_some());
    }
}

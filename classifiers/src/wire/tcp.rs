//! TCP.

use super::{Fixed, skip};

/// Where fields are.
pub(crate) mod field {
    pub(crate) const SOURCE_PORT: usize = 0;
    pub(crate) const DESTINATION_PORT: usize = 2;
    pub(crate) const OFFSET_FLAGS: usize = 12;
    pub(crate) const CHECKSUM: usize = 16;
}

/// Bytes of a header without options.
pub const MIN_LEN: usize = 20;

/// A TCP header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: Fixed<'a, MIN_LEN>,
    rest: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`MIN_LEN`]. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = Fixed::split(bytes)?;
        Some(Self { header, rest })
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

    /// Bytes of the header with its options, as it says itself: 0 to 60, of which less than 20 is a lie.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.header.u8::<{ field::OFFSET_FLAGS }>() >> 4) * 4
    }

    /// The 12 bits behind the data offset: four reserved or experimental, then CWR to FIN.
    #[inline]
    pub fn flags(&self) -> u16 {
        self.header.u16::<{ field::OFFSET_FLAGS }>() & 0x0fff
    }

    /// Bytes behind the options; empty if the options are cut off.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        skip(self.rest, self.header_len().saturating_sub(MIN_LEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const HEADER: [u8; 25] = [
        0x01, 0xbb, 0xc0, 0x00, 0, 0, 0, 1, 0, 0, 0, 2, 0x6a, 0x12, 0, 0, 0, 0, 0, 0,
        1, 1, 1, 0,
        0xaa,
    ];

    #[test]
    fn fields_are_where_rfc_9293_puts_them() {
        let tcp = Tcp::new_checked(&HEADER).unwrap();
        assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.flags()), (443, 0xc000, 0xa12));
        assert_eq!((tcp.header_len(), tcp.payload()), (24, &[0xaa][..]));
    }

    #[test]
    fn a_wrong_data_offset_never_leaves_the_bytes() {
        let mut header = HEADER;
        header[12] = 0xf0;
        assert!(Tcp::new_checked(&header).unwrap().payload().is_empty());
        header[12] = 0x00;
        assert_eq!(Tcp::new_checked(&header).unwrap().payload().len(), 5);
    }

    #[test]
    fn a_short_header_is_refused() {
        assert!(Tcp::new_checked(&HEADER[..MIN_LEN - 1]).is_none());
        assert!(Tcp::new_checked(&HEADER[..MIN_LEN]).is_some());
    }
}

//! IPv6 and its extension headers.

use std::net::Ipv6Addr;

use super::{Fixed, ip_proto, skip};

/// Where fields are.
pub(crate) mod field {
    pub(crate) const VERSION_CLASS_FLOW: usize = 0;
    pub(crate) const PAYLOAD_LEN: usize = 4;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SOURCE: usize = 8;
    pub(crate) const DESTINATION: usize = 24;
}

/// Bytes of a header without extensions.
pub const LEN: usize = 40;

/// Extension headers that are looked at in one packet.
pub const MAX_EXTENSIONS: usize = 15;

/// An IPv6 header and what follows it. The version and the payload length are not looked at, as with
/// [`Ipv4`](super::ipv4::Ipv4).
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: Fixed<'a, LEN>,
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`LEN`]. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = Fixed::split(bytes)?;
        Some(Self { header, payload })
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        let [class, _] = (self.header.u16::<{ field::VERSION_CLASS_FLOW }>() << 4).to_be_bytes();
        class
    }

    /// What follows: an extension header, or what [`Ipv6::upper`] ends at.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.header.u8::<{ field::NEXT_HEADER }>()
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.header.u8::<{ field::HOP_LIMIT }>()
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        self.header.bytes::<{ field::SOURCE }, 16>().into()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        self.header.bytes::<{ field::DESTINATION }, 16>().into()
    }

    /// Bytes behind the header, extension headers included.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Walks over the extension headers to what they lead to.
    #[inline]
    pub fn upper(&self) -> Upper<'a> {
        let (mut protocol, mut payload) = (self.next_header(), self.payload);
        for _ in 0..MAX_EXTENSIONS {
            if protocol == ip_proto::FRAGMENT {
                let Some(fragment) = Fragment::new_checked(payload) else { break };
                return Upper {
                    protocol: fragment.next_header(),
                    payload: fragment.payload(),
                    fragment: Some(fragment),
                };
            }
            let Some(extension) = Extension::new_checked(protocol, payload) else { break };
            (protocol, payload) = (extension.next_header(), extension.payload());
        }
        Upper { protocol, payload, fragment: None }
    }
}

/// What a chain of extension headers leads to.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    /// The last next-header found. If the chain is cut off, or has more than [`MAX_EXTENSIONS`] headers, this is the
    /// number of the first extension header that was not looked at.
    pub protocol: u8,
    /// The bytes that `protocol` describes.
    pub payload: &'a [u8],
    /// The fragment header, if there is one. The walk ends at it: what follows may be the middle of anything.
    pub fragment: Option<Fragment<'a>>,
}

/// An extension header that tells its own length: hop-by-hop options, routing, destination options, authentication.
#[derive(Clone, Copy, Debug)]
pub struct Extension<'a> {
    header: Fixed<'a, 2>,
    rest: &'a [u8],
    unit: usize,
}

impl<'a> Extension<'a> {
    /// A view of `bytes`, announced as `protocol`; `None` if that is not such a header, or if the header's first two
    /// bytes are cut off. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(protocol: u8, bytes: &'a [u8]) -> Option<Self> {
        let unit = match protocol {
            ip_proto::HOP_BY_HOP | ip_proto::ROUTING | ip_proto::DESTINATION_OPTIONS => 8,
            ip_proto::AH => 4,
            _ => return None,
        };
        let (header, rest) = Fixed::split(bytes)?;
        Some(Self { header, rest, unit })
    }

    /// What follows.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.header.u8::<0>()
    }

    /// Bytes of the whole header, as it says itself: at least 8.
    #[inline]
    pub fn header_len(&self) -> usize {
        8 + usize::from(self.header.u8::<1>()) * self.unit
    }

    /// Bytes behind the header; empty if it is cut off.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        skip(self.rest, self.header_len() - 2)
    }
}

/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// The header of a fragment. One that holds the whole datagram (an atomic fragment) is still a fragment here.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    header: Fixed<'a, FRAGMENT_LEN>,
    payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// A view of `bytes`; `None` if they are fewer than [`FRAGMENT_LEN`]. After this no accessor can go out of bounds.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = Fixed::split(bytes)?;
        Some(Self { header, payload })
    }

    /// What follows in the first fragment.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.header.u8::<0>()
    }

    /// Whether the fragment begins at offset 0 of the datagram.
    #[inline]
    pub fn is_first(&self) -> bool {
        self.header.u16::<2>() & 0xfff8 == 0
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

    /// An IPv6 header announcing `next`, with `payload` behind it.
    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x6a, 0xb1, 2, 3, 0, 0, next, 63];
        bytes.extend(0..32);
        bytes.extend(payload);
        bytes
    }

    /// Where the walk ends: protocol, payload, first fragment or later.
    fn walk(next: u8, payload: &[u8]) -> (u8, Vec<u8>, Option<bool>) {
        let bytes = packet(next, payload);
        let upper = Ipv6::new_checked(&bytes).unwrap().upper();
        (upper.protocol, upper.payload.to_vec(), upper.fragment.map(|fragment| fragment.is_first()))
    }

    #[test]
    fn fields_are_where_rfc_8200_puts_them() {
        let bytes = packet(17, &[0xaa]);
        let ipv6 = Ipv6::new_checked(&bytes).unwrap();
        assert_eq!((ipv6.traffic_class(), ipv6.next_header(), ipv6.hop_limit()), (0xab, 17, 63));
        assert_eq!(ipv6.source(), "1:203:405:607:809:a0b:c0d:e0f".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ipv6.destination(), "1011:1213:1415:1617:1819:1a1b:1c1d:1e1f".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ipv6.payload(), [0xaa]);
        assert!(Ipv6::new_checked(&bytes[..LEN - 1]).is_none());
    }

    #[test]
    fn the_walk_steps_over_every_length() {
        let hop_by_hop = [43, 0, 0, 0, 0, 0, 0, 0];
        let routing = [60; 1].into_iter().chain([1]).chain([0; 14]);
        let options = [51, 0, 0, 0, 0, 0, 0, 0];
        let authentication = [6, 1].into_iter().chain([0; 10]);
        let chain: Vec<u8> =
            hop_by_hop.into_iter().chain(routing).chain(options).chain(authentication).chain([0xaa]).collect();
        assert_eq!(walk(ip_proto::HOP_BY_HOP, &chain), (6, vec![0xaa], None));
    }

    #[test]
    fn the_walk_ends_at_a_fragment_header() {
        let first = [60, 0, 0, 1, 0, 0, 0, 9, 0xaa];
        assert_eq!(walk(ip_proto::FRAGMENT, &first), (60, vec![0xaa], Some(true)));
        let later = [17, 0, 0, 8, 0, 0, 0, 9, 0xaa];
        assert_eq!(walk(ip_proto::FRAGMENT, &later), (17, vec![0xaa], Some(false)));
    }

    #[test]
    fn the_walk_ends_at_esp_and_at_what_it_does_not_know() {
        for protocol in [ip_proto::ESP, 59, 135, 253] {
            assert_eq!(walk(protocol, &[17, 0, 0, 0, 0, 0, 0, 0]), (protocol, vec![17, 0, 0, 0, 0, 0, 0, 0], None));
        }
    }

    #[test]
    fn a_chain_that_is_cut_off_yields_what_was_announced() {
        assert_eq!(walk(ip_proto::DESTINATION_OPTIONS, &[17]), (60, vec![17], None));
        assert_eq!(walk(ip_proto::DESTINATION_OPTIONS, &[17, 0, 0]), (17, vec![], None));
        assert_eq!(walk(ip_proto::FRAGMENT, &[17, 0, 0, 1, 0, 0, 0]), (44, vec![17, 0, 0, 1, 0, 0, 0], None));
    }

    #[test]
    fn the_walk_is_bounded() {
        let chain = |headers: usize| {
            let mut bytes = [60, 0, 0, 0, 0, 0, 0, 0].repeat(headers - 1);
            bytes.extend([17, 0, 0, 0, 0, 0, 0, 0]);
            bytes
        };
        assert_eq!(walk(60, &chain(MAX_EXTENSIONS)).0, 17);
        assert_eq!(walk(60, &chain(MAX_EXTENSIONS + 1)).0, 60);
    }
}

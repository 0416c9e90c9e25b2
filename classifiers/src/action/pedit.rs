//! pedit: words of the packet, changed in their bits [AK-PEDIT].

use super::headers::Headers;
use crate::error::RequestError;
use crate::verdict::Control;
use crate::wire::{ethernet, ethertype, ip_proto};

/// What is written into a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeditSpec {
    /// One after the other; 1 to 128.
    pub keys: Vec<PeditKey>,
    /// Verdict after them.
    pub control: Control,
}

/// A word that is changed: `(word & keep) ^ value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeditKey {
    /// What the offset counts from.
    pub header: PeditHeader,
    /// Where the word begins, in bytes; a multiple of 4.
    pub offset: i32,
    /// Further on, by what a byte of the packet says.
    pub at: Option<PeditAt>,
    /// `value` is added to the word, in the bits that are not kept.
    pub add: bool,
    /// What is written, in network byte order.
    pub value: u32,
    /// Which bits stay.
    pub keep: u32,
}

/// A byte that says how much further on a word is: `(byte & mask) >> shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeditAt {
    /// Where it is, from the header's beginning.
    pub offset: u32,
    /// Which bits count.
    pub mask: u32,
    /// Less than 32.
    pub shift: u32,
}

/// What offsets count from. A packet without that header is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeditHeader {
    /// What follows the Ethernet header and the outer VLAN tag, whatever it is; what is in front has negative offsets.
    Network,
    /// The Ethernet header, without the outer VLAN tag.
    Eth,
    /// IPv4.
    Ip4,
    /// IPv6.
    Ip6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

const KEYS_MAX: usize = 128;

impl PeditSpec {
    /// Whether there can be such edits.
    pub(super) fn validate(&self) -> Result<(), RequestError> {
        match &self.keys[..] {
            [] => Err(RequestError::Invalid("pedit: no keys")),
            keys if keys.len() > KEYS_MAX => Err(RequestError::Invalid("pedit: more than 128 keys")),
            keys if keys.iter().any(|key| key.offset % 4 != 0) => {
                Err(RequestError::Invalid("pedit: offsets are multiples of 4"))
            }
            keys if keys.iter().any(|key| key.at.is_some_and(|at| at.shift >= u32::BITS)) => {
                Err(RequestError::Invalid("pedit: a shift of 32 and more"))
            }
            _ => Ok(()),
        }
    }

    /// Edits `frame`, up to the first key that has no place in it; `false` if there is such a key.
    pub(super) fn edit(&self, frame: &mut [u8]) -> bool {
        self.keys.iter().all(|key| key.edit(frame).is_some())
    }
}

impl PeditKey {
    fn edit(&self, frame: &mut [u8]) -> Option<()> {
        let headers = Headers::of(frame)?;
        let base = self.header.base(&headers)?;
        // Offsets are those of the frame without its outer tag.
        let place = |at: i64| match usize::try_from(at).ok()? {
            at if at < ADDRESSES => Some(at),
            at => Some(at + headers.tag),
        };
        let mut start = base + i64::from(self.offset);
        if let Some(PeditAt { offset, mask, shift }) = self.at {
            let byte = *frame.get(place(base + i64::from(offset))?)?;
            start += i64::from((u32::from(byte) & mask) >> shift);
        }
        let mut places = [None; 4];
        let mut word = [0; 4];
        for ((at, place_of), byte) in (start..).zip(&mut places).zip(&mut word) {
            *place_of = place(at);
            if let Some(at) = *place_of {
                *byte = *frame.get(at)?;
            } // otherwise in front of the packet
        }
        let word = u32::from_be_bytes(word);
        let value = if self.add { word.wrapping_add(self.value) & !self.keep } else { self.value };
        let new = ((word & self.keep) ^ value).to_be_bytes();
        if (places.iter().zip(new)).any(|(place, new)| place.is_none() && new != 0) {
            return None;
        }
        for (place, new) in places.into_iter().zip(new) {
            if let Some(at) = place {
                frame[at] = new;
            }
        }
        Some(())
    }
}

/// Bytes of the two MAC addresses.
const ADDRESSES: usize = 12;

impl PeditHeader {
    /// Where the header begins in the frame without its outer tag.
    fn base(self, headers: &Headers) -> Option<i64> {
        let l4 = |protocol: u8| headers.l4.filter(|l4| l4.protocol == protocol).map(|l4| l4.at);
        let at = match self {
            PeditHeader::Eth => return Some(0),
            PeditHeader::Network => Some(ethernet::LEN + headers.tag),
            PeditHeader::Ip4 => (headers.ethertype == ethertype::IPV4).then_some(headers.l3),
            PeditHeader::Ip6 => (headers.ethertype == ethertype::IPV6).then_some(headers.l3),
            PeditHeader::Tcp => l4(ip_proto::TCP),
            PeditHeader::Udp => l4(ip_proto::UDP),
        };
        i64::try_from(at? - headers.tag).ok()
    }
}

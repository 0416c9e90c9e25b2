//! Headers: where they are in a frame, for actions that edit them.

use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::vlan::{self, Vlan};
use crate::wire::{ethernet, ethertype};

/// Where headers begin, in bytes from the frame's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    /// Bytes of the outer VLAN tag: 4, or 0 if there is none.
    pub(super) tag: usize,
    /// What is behind all tags, two at most.
    pub(super) ethertype: u16,
    /// Where that begins.
    pub(super) l3: usize,
    /// What IP carries, if its header is all there, unless this is a fragment but the first.
    pub(super) l4: Option<L4>,
}

/// What IP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct L4 {
    /// IP protocol.
    pub(super) protocol: u8,
    /// Where its header begins; perhaps the frame's end.
    pub(super) at: usize,
    /// More of it is in other packets.
    pub(super) fragment: bool,
}

impl Headers {
    /// Those of `frame`; nothing if it is shorter than an Ethernet header.
    pub(super) fn of(frame: &[u8]) -> Option<Headers> {
        let ethernet = Ethernet::new_checked(frame)?;
        let (mut ethertype, mut payload) = (ethernet.ethertype(), ethernet.payload());
        for _ in 0..2 {
            let Some(tag) = Vlan::new_checked(payload).filter(|_| vlan::is_tpid(ethertype)) else { break };
            (ethertype, payload) = (tag.ethertype(), tag.payload());
        }
        let tag = if outer_tag(frame) == Some(true) { vlan::LEN } else { 0 };
        let l4 = match ethertype {
            ethertype::IPV4 => Ipv4::new_checked(payload).filter(Ipv4::is_first).map(|ip| L4 {
                protocol: ip.protocol(),
                at: frame.len() - ip.payload().len(),
                fragment: ip.is_fragment(),
            }),
            ethertype::IPV6 => Ipv6::new_checked(payload).map(|ip| ip.upper()).and_then(|upper| {
                let first = upper.fragment.is_none_or(|fragment| fragment.is_first());
                let at = frame.len() - upper.payload.len();
                first.then_some(L4 { protocol: upper.protocol, at, fragment: upper.fragment.is_some() })
            }),
            _ => None,
        };
        Some(Headers { tag, ethertype, l3: frame.len() - payload.len(), l4 })
    }
}

/// Whether `frame` has an outer VLAN tag; nothing if it is cut off.
pub(super) fn outer_tag(frame: &[u8]) -> Option<bool> {
    let ethernet = Ethernet::new_checked(frame)?;
    match vlan::is_tpid(ethernet.ethertype()) {
        true if frame.len() < ethernet::LEN + vlan::LEN => None,
        tagged => Some(tagged),
    }
}

/// `N` bytes of `frame` from `at` on; nothing if it is cut off.
pub(super) fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

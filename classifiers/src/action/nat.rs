//! nat: another IPv4 prefix, without state [AK-NAT].

use std::net::Ipv4Addr;

use super::checksum;
use super::headers::Headers;
use crate::verdict::Control;
use crate::wire::{ethertype, ip_proto};

/// Which addresses become which others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatSpec {
    /// Source addresses; destination addresses otherwise.
    pub egress: bool,
    /// Addresses that equal this one in the bits of the mask are changed.
    pub old: Ipv4Addr,
    /// Which bits count, and are changed.
    pub mask: u32,
    /// What they become.
    pub new: Ipv4Addr,
    /// Verdict after it.
    pub control: Control,
}

/// Where fields are, from the beginning of an IPv4 header.
mod ip {
    pub(super) const CHECKSUM: usize = 10;
    pub(super) const SOURCE: usize = 12;
    pub(super) const DESTINATION: usize = 16;
    pub(super) const MIN_LEN: usize = 20;
}

/// Where checksums are, from the beginning of their headers; and bytes of the ICMP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;
const ICMP_LEN: usize = 8;

impl NatSpec {
    /// Edits `frame`. `None`: it is cut off.
    pub(super) fn edit(&self, frame: &mut [u8]) -> Option<()> {
        let headers = Headers::of(frame)?;
        if headers.ethertype != ethertype::IPV4 {
            return Some(());
        }
        let l3 = headers.l3;
        if frame.len() < l3 + ip::MIN_LEN {
            return None;
        }
        let (ours, theirs) = match self.egress {
            true => (ip::SOURCE, ip::DESTINATION),
            false => (ip::DESTINATION, ip::SOURCE),
        };
        let old = bytes(frame, l3 + ours)?;
        let new = self.translate(old);
        let l4 = headers.l4.map(|l4| (l4.protocol, l4.at));
        // All that will be touched must be there before anything is.
        let checksum = match l4 {
            Some((ip_proto::TCP, at)) if new.is_some() => Some(at + TCP_CHECKSUM),
            Some((ip_proto::UDP, at)) if new.is_some() => Some(at + UDP_CHECKSUM),
            _ => None,
        };
        if let Some(at) = checksum {
            bytes::<2>(frame, at)?;
        }
        let inner = match l4 {
            Some((ip_proto::ICMP, at)) if is_error(*frame.get(at)?) => {
                let inner = at + ICMP_LEN;
                bytes::<{ ip::MIN_LEN }>(frame, inner)?;
                // What the error is about went the other way.
                let old = bytes(frame, inner + theirs)?;
                self.translate(old).map(|new| (at, inner, old, new))
            }
            _ => None,
        };
        if let Some(new) = new {
            put(frame, l3 + ours, new);
            update(frame, l3 + ip::CHECKSUM, old, new);
            if let Some(at) = checksum {
                // For UDP, 0 stands for none: a checksum that becomes 0 is written the other way.
                let udp = matches!(l4, Some((ip_proto::UDP, _)));
                if !udp || frame[at..at + 2] != [0, 0] {
                    update(frame, at, old, new);
                    if udp && frame[at..at + 2] == [0, 0] {
                        put(frame, at, [0xff, 0xff]);
                    }
                }
            }
        }
        if let Some((icmp, inner, old, new)) = inner {
            let before: [u8; 2] = bytes(frame, inner + ip::CHECKSUM)?;
            put(frame, inner + theirs, new);
            update(frame, inner + ip::CHECKSUM, old, new);
            let after: [u8; 2] = bytes(frame, inner + ip::CHECKSUM)?;
            update(frame, icmp + ICMP_CHECKSUM, old, new);
            update(frame, icmp + ICMP_CHECKSUM, [before[0], before[1], 0, 0], [after[0], after[1], 0, 0]);
        }
        Some(())
    }

    /// What `address` becomes; nothing if it is none of those that are changed.
    fn translate(&self, address: [u8; 4]) -> Option<[u8; 4]> {
        let address = u32::from_be_bytes(address);
        let new = address & !self.mask | u32::from(self.new) & self.mask;
        ((address ^ u32::from(self.old)) & self.mask == 0).then_some(new.to_be_bytes())
    }
}

/// Whether ICMP messages of this type carry the packet that they are about.
fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

fn put<const N: usize>(frame: &mut [u8], at: usize, new: [u8; N]) {
    frame[at..at + N].copy_from_slice(&new);
}

/// Changes the checksum at `at` as an address has changed.
fn update(frame: &mut [u8], at: usize, old: [u8; 4], new: [u8; 4]) {
    if let Some(field) = frame.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut()) {
        checksum::update(field, old, new);
    }
}

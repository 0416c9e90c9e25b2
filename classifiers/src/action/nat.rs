//! nat: another IPv4 prefix, without state [AK-NAT].

use std::net::Ipv4Addr;

use super::checksum;
use super::headers::{Headers, bytes};
use crate::verdict::Control;
use crate::wire::{ethertype, icmp, ip_proto, ipv4, tcp, udp};

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

impl NatSpec {
    /// Edits `frame`. `None`: it is cut off.
    pub(super) fn edit(&self, frame: &mut [u8]) -> Option<()> {
        let headers = Headers::of(frame)?;
        if headers.ethertype != ethertype::IPV4 {
            return Some(());
        }
        let l3 = headers.l3;
        if frame.len() < l3 + ipv4::MIN_LEN {
            return None;
        }
        let (ours, theirs) = match self.egress {
            true => (ipv4::field::SOURCE, ipv4::field::DESTINATION),
            false => (ipv4::field::DESTINATION, ipv4::field::SOURCE),
        };
        let old = bytes(frame, l3 + ours)?;
        let new = self.translate(old);
        let l4 = headers.l4.map(|l4| (l4.protocol, l4.at));
        // All that will be touched must be there before anything is.
        let checksum = match l4 {
            Some((ip_proto::TCP, at)) if new.is_some() => Some(at + tcp::field::CHECKSUM),
            Some((ip_proto::UDP, at)) if new.is_some() => Some(at + udp::field::CHECKSUM),
            _ => None,
        };
        if let Some(at) = checksum {
            bytes::<2>(frame, at)?;
        }
        let inner = match l4 {
            Some((ip_proto::ICMP, at)) if is_error(*frame.get(at)?) => {
                let inner = at + icmp::LEN;
                bytes::<{ ipv4::MIN_LEN }>(frame, inner)?;
                // What the error is about went the other way.
                let old = bytes(frame, inner + theirs)?;
                self.translate(old).map(|new| (at, inner, old, new))
            }
            _ => None,
        };
        if let Some(new) = new {
            put(frame, l3 + ours, new);
            update(frame, l3 + ipv4::field::CHECKSUM, old, new);
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
            let before: [u8; 2] = bytes(frame, inner + ipv4::field::CHECKSUM)?;
            put(frame, inner + theirs, new);
            update(frame, inner + ipv4::field::CHECKSUM, old, new);
            let after: [u8; 2] = bytes(frame, inner + ipv4::field::CHECKSUM)?;
            update(frame, icmp + icmp::field::CHECKSUM, old, new);
            update(frame, icmp + icmp::field::CHECKSUM, [before[0], before[1], 0, 0], [after[0], after[1], 0, 0]);
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

fn put<const N: usize>(frame: &mut [u8], at: usize, new: [u8; N]) {
    frame[at..at + N].copy_from_slice(&new);
}

/// Changes the checksum at `at` as an address has changed.
fn update(frame: &mut [u8], at: usize, old: [u8; 4], new: [u8; 4]) {
    if let Some(field) = frame.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut()) {
        checksum::update(field, old, new);
    }
}

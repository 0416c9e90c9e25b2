//! csum: checksums made anew [AK-CSUM].

use super::checksum::{add, crc32c, finish, sum};
use super::headers::{Headers, L4, bytes};
use crate::verdict::Control;
use crate::wire::{ethertype, icmp, ip_proto, ipv4, ipv6, sctp, tcp, udp};

/// Which checksums are made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsumSpec {
    /// Which: at least one.
    pub targets: CsumTargets,
    /// Verdict after it.
    pub control: Control,
}

/// A set of checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CsumTargets(u8);

impl CsumTargets {
    /// That of the IPv4 header.
    pub const IP: CsumTargets = CsumTargets(1);
    /// ICMP and ICMPv6.
    pub const ICMP: CsumTargets = CsumTargets(2);
    /// IGMP.
    pub const IGMP: CsumTargets = CsumTargets(4);
    /// TCP.
    pub const TCP: CsumTargets = CsumTargets(8);
    /// UDP.
    pub const UDP: CsumTargets = CsumTargets(16);
    /// UDP-Lite.
    pub const UDPLITE: CsumTargets = CsumTargets(32);
    /// SCTP.
    pub const SCTP: CsumTargets = CsumTargets(64);

    /// Each one, in the order in which they are listed.
    pub const ALL: [CsumTargets; 7] = [
        CsumTargets::IP,
        CsumTargets::ICMP,
        CsumTargets::IGMP,
        CsumTargets::TCP,
        CsumTargets::UDP,
        CsumTargets::UDPLITE,
        CsumTargets::SCTP,
    ];

    /// These, and those of `other`.
    #[must_use]
    pub const fn with(self, other: CsumTargets) -> CsumTargets {
        CsumTargets(self.0 | other.0)
    }

    /// Whether some of `other` are among these.
    pub const fn has(self, other: CsumTargets) -> bool {
        self.0 & other.0 != 0
    }
}

const IGMP: u8 = 2;
const UDPLITE: u8 = 136;

/// How the checksum of a protocol is made.
struct Layout {
    target: CsumTargets,
    /// Where it is in the header.
    at: usize,
    /// Bytes of the header.
    len: usize,
    /// It covers addresses, length and protocol too: over IPv4, over IPv6.
    pseudo: [bool; 2],
}

impl Layout {
    fn of(protocol: u8, v6: bool) -> Option<Layout> {
        let (target, at, len, pseudo) = match protocol {
            ip_proto::ICMP if !v6 => (CsumTargets::ICMP, icmp::field::CHECKSUM, 8, [false, false]),
            ip_proto::ICMPV6 if v6 => (CsumTargets::ICMP, icmp::field::CHECKSUM, 4, [false, true]),
            IGMP if !v6 => (CsumTargets::IGMP, icmp::field::CHECKSUM, 8, [false, false]), // laid out like ICMP
            ip_proto::TCP => (CsumTargets::TCP, tcp::field::CHECKSUM, tcp::MIN_LEN, [true, true]),
            ip_proto::UDP => (CsumTargets::UDP, udp::field::CHECKSUM, udp::LEN, [true, true]),
            UDPLITE => (CsumTargets::UDPLITE, udp::field::CHECKSUM, udp::LEN, [true, true]),
            ip_proto::SCTP => (CsumTargets::SCTP, sctp::field::CHECKSUM, sctp::LEN, [false, false]),
            _ => return None,
        };
        Some(Layout { target, at, len, pseudo })
    }
}

impl CsumSpec {
    /// Edits `frame`. `None`: it is cut off, or its lengths make no sense; perhaps some checksums are made by then.
    pub(super) fn edit(&self, frame: &mut [u8]) -> Option<()> {
        let headers = Headers::of(frame)?;
        let l3 = headers.l3;
        match headers.ethertype {
            ethertype::IPV4 => {
                let header_len = usize::from(frame.get(l3)? & 0x0f) * 4;
                let total = usize::from(u16_at(frame, l3 + ipv4::field::TOTAL_LEN)?);
                if header_len < ipv4::MIN_LEN || total < header_len || frame.len() < l3 + total {
                    return None;
                }
                self.transport(frame, headers.l4, l3 + total, l3 + ipv4::field::SOURCE..l3 + ipv4::MIN_LEN)?;
                if self.targets.has(CsumTargets::IP) {
                    let header = &mut frame[l3..l3 + header_len];
                    header[ipv4::field::CHECKSUM..ipv4::field::CHECKSUM + 2].fill(0);
                    let checksum = finish(sum(0, header));
                    header[ipv4::field::CHECKSUM..ipv4::field::CHECKSUM + 2].copy_from_slice(&checksum);
                }
                Some(())
            }
            ethertype::IPV6 => {
                let end = l3 + ipv6::LEN + usize::from(u16_at(frame, l3 + ipv6::field::PAYLOAD_LEN)?);
                if frame.len() < end {
                    return None;
                }
                self.transport(frame, headers.l4, end, l3 + ipv6::field::SOURCE..l3 + ipv6::LEN)
            }
            _ => Some(()),
        }
    }

    /// The checksum of what IP carries, which ends at `end`. A fragment's is that of the whole, which is not here: it is left
    /// alone.
    fn transport(&self, frame: &mut [u8], l4: Option<L4>, end: usize, addresses: std::ops::Range<usize>) -> Option<()> {
        let v6 = addresses.len() == 32;
        let Some(L4 { protocol, at, fragment: false }) = l4 else { return Some(()) };
        let Some(layout) = Layout::of(protocol, v6).filter(|layout| self.targets.has(layout.target)) else {
            return Some(());
        };
        let mut len = end.checked_sub(at).filter(|len| *len >= layout.len)?;
        let mut covered = len;
        let field = at + layout.at..at + layout.at + 2;
        if matches!(protocol, ip_proto::UDP | UDPLITE) {
            let said = usize::from(u16_at(frame, at + udp::field::LENGTH)?);
            match protocol {
                ip_proto::UDP if !v6 && frame[field.clone()] == [0, 0] => return Some(()), // it has none
                ip_proto::UDP => (len, covered) = (said, said),
                _ if said > 0 => covered = said,
                _ => {}
            }
            if covered < layout.len || at + covered > end {
                return None;
            }
        }
        if protocol == ip_proto::SCTP {
            let field = at + layout.at..at + layout.at + 4;
            let crc = crc32c(&[&frame[at..field.start], &[0; 4], &frame[field.end..end]]);
            frame[field].copy_from_slice(&crc.to_le_bytes());
            return Some(());
        }
        frame[field.clone()].fill(0);
        let mut total = sum(0, &frame[at..at + covered]);
        if layout.pseudo[usize::from(v6)] {
            total = sum(total, &frame[addresses]);
            #[expect(clippy::cast_possible_truncation, reason = "lengths of IP have 16 bits")]
            let len = len as u16;
            total = add(add(total, len), protocol.into());
        }
        let checksum = match finish(total) {
            [0, 0] if matches!(protocol, ip_proto::UDP | UDPLITE) => [0xff, 0xff], // 0 stands for none
            checksum => checksum,
        };
        frame[field].copy_from_slice(&checksum);
        Some(())
    }
}

fn u16_at(frame: &[u8], at: usize) -> Option<u16> {
    bytes(frame, at).map(u16::from_be_bytes)
}

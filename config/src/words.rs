//! The small grammars: prefixes, ports, flags, as people write them. Each takes the words of one value and says what is
//! wrong with them; the caller knows the place. Beside it stands its inverse, `show_...`, for listings.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::Value as Json;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::request::ETH_P_ALL;

use crate::Transport;
use crate::error::Wrong;
use crate::table::{Node, Value};

/// Protocols of filters by name: any, then ethertypes.
pub(crate) const PROTOCOLS: [(&str, u16); 11] = [
    ("all", ETH_P_ALL),
    ("ip", 0x0800),
    ("ipv4", 0x0800),
    ("ipv6", 0x86dd),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("802.1Q", 0x8100),
    ("802.1ad", 0x88a8),
    ("mpls_uc", 0x8847),
    ("mpls_mc", 0x8848),
    ("lldp", 0x88cc),
];

/// IP protocols by name.
const IP_PROTOS: [(&str, u8); 15] = [
    ("tcp", 6),
    ("udp", 17),
    ("sctp", 132),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ipip", 4),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("dccp", 33),
];

const TCP_FLAGS: [(&str, u64); 9] = [
    ("fin", 0x001),
    ("syn", 0x002),
    ("rst", 0x004),
    ("psh", 0x008),
    ("ack", 0x010),
    ("urg", 0x020),
    ("ece", 0x040),
    ("cwr", 0x080),
    ("ae", 0x100),
];

const IP_FLAGS: [(&str, u64); 2] = [("frag", flow_key::IP_FLAG_FRAG), ("firstfrag", flow_key::IP_FLAG_FIRST_FRAG)];

const TRANSPORTS: [(&str, Transport); 3] =
    [("tcp", Transport::Tcp), ("udp", Transport::Udp), ("sctp", Transport::Sctp)];

/// A value and which of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Masked {
    pub(crate) value: u64,
    pub(crate) mask: u64,
}

/// A port to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortMatch {
    Masked(Masked),
    Range(u16, u16),
}

/// `text` in back quotes, on one line, and not too long.
pub(crate) fn quote(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// `text` on one line, and not too long.
pub(crate) fn shown(text: &str) -> String {
    let dots = if text.chars().nth(60).is_some() { "..." } else { "" };
    text.chars().take(60).flat_map(char::escape_debug).chain(dots.chars()).collect()
}

/// The one of `known` that `word` is most likely meant to be, if they are much alike.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short, and the distance takes time with the product of both lengths.
    let word = word.get(..64).unwrap_or(word).to_lowercase();
    let distances = known.map(|known| (strsim::damerau_levenshtein(&word, &known.to_lowercase()), known));
    let (distance, nearest) = distances.min()?;
    (distance <= (nearest.len() + 1) / 3).then_some(nearest)
}

/// What to write instead of `word`: the nearest of `known`, or any of them.
pub(crate) fn instead<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("one of {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// A word that must be one of `known`, whatever the case of its letters.
pub fn choice<T: Copy>(word: &str, known: &[(&str, T)]) -> Result<T, Wrong> {
    known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, value)| *value).ok_or_else(|| {
        Wrong::new(format!("{} is not known", quote(word))).hint(instead(word, known.iter().map(|(name, _)| *name)))
    })
}

/// `protocol = ...`: an ethertype or `all`.
pub(crate) fn protocol(node: &Node) -> Result<u16, Wrong> {
    ethertype_of(node, &PROTOCOLS)
}

/// `vlan_ethtype = ...`: a name or a number.
pub(crate) fn ethertype(node: &Node) -> Result<u16, Wrong> {
    ethertype_of(node, &PROTOCOLS[1..])
}

fn ethertype_of(node: &Node, names: &[(&str, u16)]) -> Result<u16, Wrong> {
    match &node.value {
        Value::Text(word) => match word.strip_prefix("0x").map(|digits| u16::from_str_radix(digits, 16)) {
            Some(Ok(number @ 0x600..)) => Ok(number),
            _ => choice(word, names),
        },
        _ => node.number(0x600..=0xffff),
    }
}

/// The inverse of [`protocol`] and [`ethertype`].
pub(crate) fn show_protocol(ethertype: u16) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == ethertype);
    known.map_or_else(|| format!("{ethertype:#06x}"), |(name, _)| (*name).to_owned())
}

/// `"ospf"` or `112`.
pub(crate) fn ip_proto(node: &Node) -> Result<u8, Wrong> {
    match &node.value {
        Value::Text(word) => choice(word, &IP_PROTOS),
        _ => node.number(0..=255),
    }
}

/// The inverse of [`ip_proto`].
pub(crate) fn show_ip_proto(proto: u64) -> Json {
    let known = IP_PROTOS.iter().find(|(_, known)| u64::from(*known) == proto);
    known.map_or_else(|| proto.into(), |(name, _)| (*name).into())
}

/// `"1:10"`: a class, as tc writes it.
pub(crate) fn class(text: &str) -> Result<u32, Wrong> {
    let hex = |digits: &str| if digits.is_empty() { Some(0) } else { u16::from_str_radix(digits, 16).ok() };
    let halves = text.split_once(':').and_then(|(major, minor)| Some((hex(major)?, hex(minor)?)));
    halves.map(|(major, minor)| u32::from(major) << 16 | u32::from(minor)).ok_or_else(|| {
        Wrong::new(format!("{} is not a class", quote(text))).hint("write it as \"1:10\", both in hexadecimal digits")
    })
}

/// The inverse of [`class`].
pub(crate) fn show_class(class: u32) -> String {
    format!("{:x}:{:x}", class >> 16, class & 0xffff)
}

/// `"tcp/22"`
pub(crate) fn transport_port(text: &str) -> Result<(Transport, u16), Wrong> {
    let wrong = || Wrong::new(format!("{} is not a port", quote(text))).hint("write it as \"tcp/22\"");
    let (transport, port) = text.split_once('/').ok_or_else(wrong)?;
    Ok((choice(transport, &TRANSPORTS)?, port.parse().map_err(|_| wrong())?))
}

/// `"192.0.2.1"`
pub(crate) fn address(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!("{} is not an address", quote(text)));
        match text.contains('/') {
            true => wrong.hint("leave out the prefix length"),
            false => wrong.hint("write it as \"192.0.2.1\" or \"2001:db8::1\""),
        }
    })
}

/// `"10.0.0.0/8"`, `"2001:db8::1"`, or with any mask `"10.0.0.1/255.0.0.255"`: address and mask.
pub(crate) fn prefix(text: &str) -> Result<(IpAddr, IpAddr), Wrong> {
    let net = match text.split_once('/') {
        None => text.parse::<IpAddr>().ok().map(IpNet::from).map(|net| (net.addr(), net.netmask())),
        Some((address, mask)) if mask.contains(['.', ':']) => match (address.parse(), mask.parse()) {
            (Ok(address @ IpAddr::V4(_)), Ok(mask @ IpAddr::V4(_)))
            | (Ok(address @ IpAddr::V6(_)), Ok(mask @ IpAddr::V6(_))) => Some((address, mask)),
            _ => None,
        },
        Some(_) => text.parse::<IpNet>().ok().map(|net| (net.addr(), net.netmask())),
    };
    net.ok_or_else(|| {
        Wrong::new(format!("{} is not a prefix", quote(text)))
            .hint("write it as \"10.0.0.0/8\", \"2001:db8::/32\" or a single address")
    })
}

/// The inverse of [`prefix`].
pub(crate) fn show_prefix(address: IpAddr, mask: IpAddr) -> String {
    let all = if address.is_ipv4() { 32 } else { 128 };
    match ipnet::ip_mask_to_prefix(mask) {
        Ok(bits) if bits == all => address.to_string(),
        Ok(bits) => format!("{address}/{bits}"),
        Err(_) => format!("{address}/{mask}"),
    }
}

/// `"10.0.0.0/8"`, IPv4 only.
pub(crate) fn prefix_v4(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), Wrong> {
    match prefix(text)? {
        (IpAddr::V4(address), IpAddr::V4(mask)) => Ok((address, mask)),
        _ => Err(Wrong::new(format!("{} is not an IPv4 prefix", quote(text))).hint("ARP knows IPv4 alone")),
    }
}

/// `"02:00:00:00:00:01"`, `"01:00:5e:00:00:00/25"`, `"01:00:00:00:00:00/01:00:00:00:00:00"`.
pub(crate) fn mac(text: &str) -> Result<Masked, Wrong> {
    let wrong = || {
        Wrong::new(format!("{} is not a MAC address", quote(text)))
            .hint("write it as \"02:00:00:00:00:01\", with /24 or /ff:ff:ff:00:00:00 after it for a mask")
    };
    let all = flow_key::DST_MAC.max();
    let (value, mask) = match text.split_once('/') {
        None => (text, Some(all)),
        Some((value, mask)) if mask.contains(':') => (value, mac_number(mask)),
        Some((value, bits)) => {
            (value, bits.parse::<u32>().ok().filter(|bits| *bits <= 48).map(|bits| all & !(all >> bits)))
        }
    };
    Ok(Masked { value: mac_number(value).ok_or_else(wrong)?, mask: mask.ok_or_else(wrong)? })
}

/// The inverse of [`mac`].
pub(crate) fn show_mac(Masked { value, mask }: Masked) -> String {
    let show = |number: u64| {
        let [_, _, bytes @ ..] = number.to_be_bytes();
        bytes.map(|byte| format!("{byte:02x}")).join(":")
    };
    let all = flow_key::DST_MAC.max();
    let bits = (mask << 16).leading_ones();
    match mask {
        _ if mask == all => show(value),
        _ if mask == all & !(all >> bits) => format!("{}/{bits}", show(value)),
        _ => format!("{}/{}", show(value), show(mask)),
    }
}

fn mac_number(text: &str) -> Option<u64> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then(|| flow_key::mac(bytes))
}

/// `64`, `"0x10"`, `"0x10/0x1c"`, or one of `names`: a number up to `max`, all ones being a mask.
pub(crate) fn masked(node: &Node, max: u64, names: &[(&str, u64)]) -> Result<Masked, Wrong> {
    let Value::Text(text) = &node.value else {
        let value = node.number(0..=max)?;
        return Ok(Masked { value, mask: max });
    };
    if let Some((_, value)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(Masked { value: *value, mask: max });
    }
    let (value, mask) = text.split_once('/').map_or((text.as_str(), None), |(value, mask)| (value, Some(mask)));
    let value = number(value, max, names)?;
    let mask = mask.map_or(Ok(max), |mask| number(mask, max, &[]))?;
    Ok(Masked { value, mask })
}

/// [`masked`] of 32 bits: value and mask.
#[expect(clippy::cast_possible_truncation, reason = "both are at most u32::MAX")]
pub(crate) fn masked_u32(node: &Node) -> Result<(u32, u32), Wrong> {
    masked(node, u32::MAX.into(), &[]).map(|Masked { value, mask }| (value as u32, mask as u32))
}

/// The inverse of [`masked`].
pub(crate) fn show_masked(Masked { value, mask }: Masked, max: u64, names: &[(&str, u64)]) -> Json {
    match names.iter().find(|(_, known)| *known == value) {
        _ if mask != max => format!("{value:#x}/{mask:#x}").into(),
        Some((name, _)) => (*name).into(),
        None => value.into(),
    }
}

fn number(text: &str, max: u64, names: &[(&str, u64)]) -> Result<u64, Wrong> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match value {
        Ok(value) if value <= max => Ok(value),
        Ok(value) => Err(Wrong::new(format!("{value} is out of range")).hint(format!("it goes from 0 to {max}"))),
        Err(_) if names.is_empty() => {
            Err(Wrong::new(format!("{} is not a number", quote(text))).hint("write 64, \"0x40\" or \"0x40/0xc0\""))
        }
        Err(_) => choice(text, names),
    }
}

/// `443`, `"1000-2000"`, `"0x0400/0xfc00"`.
pub(crate) fn port_match(node: &Node) -> Result<PortMatch, Wrong> {
    if let Value::Text(text) = &node.value
        && let Some((min, max)) = text.split_once('-')
    {
        let limit = u64::from(u16::MAX);
        let (min, max) = (number(min.trim(), limit, &[])?, number(max.trim(), limit, &[])?);
        return match (u16::try_from(min), u16::try_from(max)) {
            (Ok(min), Ok(max)) if min < max => Ok(PortMatch::Range(min, max)),
            _ => Err(Wrong::new(format!("{} is an empty range", quote(text))).hint("write the lower port first")),
        };
    }
    masked(node, u64::from(u16::MAX), &[]).map(PortMatch::Masked)
}

/// `"syn,!ack"`, `0x02`, `"0x02/0x12"`.
pub(crate) fn tcp_flags(node: &Node) -> Result<Masked, Wrong> {
    let max = flow_key::TCP_FLAGS.max();
    match &node.value {
        Value::Text(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => flags(text, "!", &TCP_FLAGS),
        _ => masked(node, max, &[]),
    }
}

/// The inverse of [`tcp_flags`].
pub(crate) fn show_tcp_flags(masked: Masked) -> Json {
    let named = TCP_FLAGS.iter().fold(0, |all, (_, bit)| all | bit);
    match masked.mask & !named == 0 && masked.value & !masked.mask == 0 {
        true => show_flags(masked, "!", &TCP_FLAGS).into(),
        false => show_masked(masked, flow_key::TCP_FLAGS.max(), &[]),
    }
}

/// `"frag,nofirstfrag"`
pub(crate) fn ip_flags(text: &str) -> Result<Masked, Wrong> {
    flags(text, "no", &IP_FLAGS)
}

/// The inverse of [`ip_flags`].
pub(crate) fn show_ip_flags(masked: Masked) -> String {
    show_flags(masked, "no", &IP_FLAGS)
}

/// Words joined by commas; `not` before a word asks for the flag to be absent. Flags that are not named do not count.
fn flags(text: &str, not: &str, known: &[(&str, u64)]) -> Result<Masked, Wrong> {
    let mut flags = Masked { value: 0, mask: 0 };
    for word in text.split(',').map(str::trim) {
        let (set, name) = word.strip_prefix(not).map_or((true, word), |name| (false, name));
        let bit = choice(name, known)?;
        if flags.mask & bit != 0 {
            return Err(Wrong::new(format!("{} is named twice", quote(name))).hint("once is enough"));
        }
        flags.mask |= bit;
        flags.value |= if set { bit } else { 0 };
    }
    Ok(flags)
}

fn show_flags(Masked { value, mask }: Masked, not: &str, known: &[(&str, u64)]) -> String {
    let words = known.iter().filter(|(_, bit)| mask & bit != 0);
    words.map(|(name, bit)| format!("{}{name}", if value & bit == 0 { not } else { "" })).collect::<Vec<_>>().join(",")
}

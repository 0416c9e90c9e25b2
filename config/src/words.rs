//! The small grammars: prefixes, ports, flags, actions, as people write them. Each takes the words of one value and says
//! what is wrong with them; the caller knows the place.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
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
pub(crate) fn choice<T: Copy>(word: &str, known: &[(&str, T)]) -> Result<T, Wrong> {
    known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, value)| *value).ok_or_else(|| {
        Wrong::new(format!("{} is not known", quote(word))).hint(instead(word, known.iter().map(|(name, _)| *name)))
    })
}

/// `protocol = ...`: an ethertype or `all`.
pub(crate) fn protocol(node: &Node) -> Result<u16, Wrong> {
    match &node.value {
        Value::Text(word) => choice(word, &PROTOCOLS),
        _ => node.number(0x600..=0xffff),
    }
}

/// `vlan_ethtype = ...`: a name or a number.
pub(crate) fn ethertype(node: &Node) -> Result<u16, Wrong> {
    match &node.value {
        Value::Text(word) => choice(word, &PROTOCOLS[1..]),
        _ => node.number(0x600..=0xffff),
    }
}

/// `"ospf"` or `112`.
pub(crate) fn ip_proto(node: &Node) -> Result<u8, Wrong> {
    match &node.value {
        Value::Text(word) => choice(word, &IP_PROTOS),
        _ => node.number(0..=255),
    }
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

/// `"10.0.0.0/8"` or `"2001:db8::1"`: address and mask.
pub(crate) fn prefix(text: &str) -> Result<(IpAddr, IpAddr), Wrong> {
    let net = match text.contains('/') {
        true => text.parse::<IpNet>().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    net.map(|net| (net.addr(), net.netmask())).ok_or_else(|| {
        Wrong::new(format!("{} is not a prefix", quote(text)))
            .hint("write it as \"10.0.0.0/8\", \"2001:db8::/32\" or a single address")
    })
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

/// `"frag,nofirstfrag"`
pub(crate) fn ip_flags(text: &str) -> Result<Masked, Wrong> {
    flags(text, "no", &IP_FLAGS)
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

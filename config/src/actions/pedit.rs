//! `pedit ip ttl set 64 and tcp dport set 8080`: fields by name, or words by offset, `network+12 set 0x7f000001 keep 0x0`.

use std::net::{Ipv4Addr, Ipv6Addr};

use tidegate_classifiers::request::PeditHeader::{self, Eth, Ip4, Ip6, Tcp, Udp};
use tidegate_classifiers::request::{ActionSpec, PeditAt, PeditKey, PeditSpec};

use super::{Words, show_then};
use crate::error::Wrong;
use crate::words::{instead, quote};

/// A field that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// `ip`, `tcp`.
    pub header: &'static str,
    name: &'static str,
    /// The header that its place counts from.
    pub counts_from: PeditHeader,
    bytes: Bytes,
    form: Form,
}

/// Some bytes of a header, and which of their bits are a field.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// Where they begin, from the header's beginning.
    pub start: i32,
    /// How many: those of a number, at most 4, lie within one aligned word.
    pub len: u32,
    /// Bits by which a number is moved to the left.
    shift: u32,
    /// Which bits a number may change.
    mask: u32,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Number,
    Ipv4,
    Ipv6,
    Mac,
}

/// What is done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// It becomes this.
    Set(u128),
    /// This is added to it.
    Add(u128),
    /// All its bits become 0.
    Clear,
    /// All its bits become what they are not.
    Invert,
    /// Nothing.
    Preserve,
}

const fn number(
    header: &'static str,
    name: &'static str,
    counts_from: PeditHeader,
    (start, len, shift, mask): (i32, u32, u32, u32),
) -> Field {
    Field { header, name, counts_from, bytes: Bytes { start, len, shift, mask }, form: Form::Number }
}

const fn other(
    header: &'static str,
    name: &'static str,
    counts_from: PeditHeader,
    start: i32,
    len: u32,
    form: Form,
) -> Field {
    Field { header, name, counts_from, bytes: Bytes { start, len, shift: 0, mask: u32::MAX }, form }
}

/// Fields by name. Of several with one place, listings show the first.
const FIELDS: [Field; 32] = [
    other("eth", "dst", Eth, 0, 6, Form::Mac),
    other("eth", "src", Eth, 6, 6, Form::Mac),
    number("eth", "type", Eth, (12, 2, 0, 0xffff)),
    other("ip", "src", Ip4, 12, 4, Form::Ipv4),
    other("ip", "dst", Ip4, 16, 4, Form::Ipv4),
    number("ip", "tos", Ip4, (1, 1, 0, 0xff)),
    number("ip", "dsfield", Ip4, (1, 1, 0, 0xff)),
    number("ip", "precedence", Ip4, (1, 1, 0, 0xff)),
    number("ip", "ihl", Ip4, (0, 1, 0, 0x0f)),
    number("ip", "ttl", Ip4, (8, 1, 0, 0xff)),
    number("ip", "protocol", Ip4, (9, 1, 0, 0xff)),
    number("ip", "ce", Ip4, (6, 1, 0, 0x80)),
    number("ip", "df", Ip4, (6, 1, 0, 0x40)),
    number("ip", "mf", Ip4, (6, 1, 0, 0x20)),
    number("ip", "firstfrag", Ip4, (6, 1, 0, 0x1f)),
    number("ip", "nofrag", Ip4, (6, 1, 0, 0x3f)),
    number("ip", "sport", Ip4, (20, 2, 0, 0xffff)),
    number("ip", "dport", Ip4, (22, 2, 0, 0xffff)),
    number("ip", "icmp_type", Ip4, (20, 1, 0, 0xff)),
    number("ip", "icmp_code", Ip4, (21, 1, 0, 0xff)),
    other("ip6", "src", Ip6, 8, 16, Form::Ipv6),
    other("ip6", "dst", Ip6, 24, 16, Form::Ipv6),
    number("ip6", "traffic_class", Ip6, (0, 4, 20, 0x0ff0_0000)),
    number("ip6", "flow_lbl", Ip6, (0, 4, 0, 0x000f_ffff)),
    number("ip6", "payload_len", Ip6, (4, 2, 0, 0xffff)),
    number("ip6", "nexthdr", Ip6, (6, 1, 0, 0xff)),
    number("ip6", "hoplimit", Ip6, (7, 1, 0, 0xff)),
    number("tcp", "sport", Tcp, (0, 2, 0, 0xffff)),
    number("tcp", "dport", Tcp, (2, 2, 0, 0xffff)),
    number("tcp", "flags", Tcp, (13, 1, 0, 0xff)),
    number("udp", "sport", Udp, (0, 2, 0, 0xffff)),
    number("udp", "dport", Udp, (2, 2, 0, 0xffff)),
];

/// Bytes that no packet has.
const FAR: u32 = 1 << 20;

/// Headers of raw words.
const HEADERS: [(&str, PeditHeader); 6] = [
    ("network", PeditHeader::Network),
    ("eth", PeditHeader::Eth),
    ("ip", PeditHeader::Ip4),
    ("ip6", PeditHeader::Ip6),
    ("tcp", PeditHeader::Tcp),
    ("udp", PeditHeader::Udp),
];

fn fields() -> impl Iterator<Item = Field> + Clone {
    FIELDS.into_iter()
}

impl Field {
    /// The field of this name.
    pub fn find(header: &str, name: &str) -> Option<Field> {
        fields().find(|field| (field.header, field.name) == (header, name))
    }

    /// What is written for a command: one word, or several for what is longer. Nothing if it cannot be done.
    pub fn keys(&self, counts_from: PeditHeader, command: Command, retain: Option<u32>) -> Option<Vec<PeditKey>> {
        self.bytes.keys(counts_from, command, retain)
    }

    /// A value of it.
    pub fn value(&self, text: &str) -> Option<u128> {
        match self.form {
            Form::Number => parse_number(text).map(u128::from),
            Form::Ipv4 => text.parse::<Ipv4Addr>().ok().map(|ip| u32::from(ip).into()),
            Form::Ipv6 => text.parse::<Ipv6Addr>().ok().map(u128::from),
            Form::Mac => crate::words::mac(text).ok().filter(|_| !text.contains('/')).map(|mac| mac.value.into()),
        }
    }
}

impl Bytes {
    /// Whole bytes, that are no field of a name; nothing if they do not lie in one aligned word, or further away than any packet
    /// is long.
    pub fn whole(start: i32, len: u32) -> Option<Bytes> {
        let mask = if len == 4 { u32::MAX } else { (1 << (8 * len)) - 1 };
        let fits = start.rem_euclid(4).unsigned_abs() + len <= 4 && start.unsigned_abs() <= FAR;
        fits.then_some(Bytes { start, len, shift: 0, mask })
    }

    /// See [`Field::keys`]; `retain` says which bits of a number may be changed, instead of its own.
    pub fn keys(&self, header: PeditHeader, command: Command, retain: Option<u32>) -> Option<Vec<PeditKey>> {
        let wide = self.len > 4;
        let largest = match self.len {
            16 => u128::MAX,
            len if self.shift == 0 => (1 << (8 * len)) - 1,
            _ => u128::from(self.mask >> self.shift),
        };
        let mask = match retain {
            Some(_) if wide => return None,
            Some(retain) => u128::from(retain),
            None if wide => largest,
            None => u128::from(self.mask),
        };
        let (value, mask, keep_all, add) = match command {
            Command::Set(value) if value <= largest => (value << self.shift & mask, mask, false, false),
            Command::Add(value) if value <= largest && !wide => (value << self.shift & mask, mask, false, true),
            Command::Set(_) | Command::Add(_) => return None,
            Command::Clear => (0, mask, false, false),
            Command::Invert => (mask, mask, true, false),
            Command::Preserve => (0, 0, true, false),
        };
        let len = i32::try_from(self.len).ok()?;
        let first = self.start - self.start.rem_euclid(4);
        let words = (first..self.start + len).step_by(4).map(|offset| {
            // The part of the number that is in this word.
            let right = 8 * (self.start + len - offset - 4);
            let part = |number: u128| {
                let moved = if right >= 0 { number >> right } else { number << -right };
                #[expect(clippy::cast_possible_truncation, reason = "the lowest 32 bits are meant")]
                let part = moved as u32;
                part
            };
            let keep = if keep_all { u32::MAX } else { !part(mask) };
            PeditKey { header, offset, at: None, add, value: part(value), keep }
        });
        Some(words.collect())
    }
}

/// What comes after `pedit`.
pub(super) fn read(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let example = "pedit ip ttl set 64";
    let mut keys = Vec::new();
    loop {
        let word = words.word(example)?;
        match raw(word) {
            Some((header, offset)) => keys.push(read_raw(words, header, offset)?),
            None => keys.extend(read_field(words, word)?),
        }
        if words.option(&["and"]).is_none() {
            break;
        }
    }
    if let Some(key) = keys.iter().find(|key| key.offset % 4 != 0) {
        return Err(Wrong::new(format!("{} is no multiple of 4", key.offset))
            .hint("words are aligned, keep says which bits stay"));
    }
    Ok(PeditSpec { keys, control: words.then()? }.into())
}

/// `tcp+12`
fn raw(word: &str) -> Option<(PeditHeader, i32)> {
    let at = word.find(['+', '-'])?;
    let (name, offset) = word.split_at(at);
    let header = HEADERS.iter().find(|(known, _)| *known == name)?.1;
    Some((header, offset.parse().ok()?))
}

fn read_raw(words: &mut Words<'_>, header: PeditHeader, offset: i32) -> Result<PeditKey, Wrong> {
    let example = "pedit network+12 set 0x7f000001 keep 0x0";
    let command = words.word(example)?;
    let add = match command {
        "set" => false,
        "add" => true,
        other => return Err(Wrong::new(format!("{} is no edit", quote(other))).hint("set or add")),
    };
    let value = hex_or_number(words.word(example)?)?;
    let (mut keep, mut at) = (0, None);
    while let Some(option) = words.option(&["keep", "at"]) {
        match option {
            "keep" => keep = hex_or_number(words.word(example)?)?,
            _ => {
                let example = "pedit network+20 set 1 at 0 mask 0x0f shift 0";
                let offset = words.number(example, 0, u32::MAX)?;
                words.expect("mask", example)?;
                let mask = hex_or_number(words.word(example)?)?;
                words.expect("shift", example)?;
                at = Some(PeditAt { offset, mask, shift: words.number(example, 0, 31)? });
            }
        }
    }
    Ok(PeditKey { header, offset, at, add, value, keep })
}

fn read_field(words: &mut Words<'_>, header: &str) -> Result<Vec<PeditKey>, Wrong> {
    let example = "pedit ip ttl set 64";
    if !fields().any(|field| field.header == header) {
        let known = ["eth", "ip", "ip6", "tcp", "udp"].into_iter();
        return Err(Wrong::new(format!("{} is no header", quote(header))).hint(instead(header, known)));
    }
    let name = words.word(example)?;
    let field = Field::find(header, name).ok_or_else(|| {
        let known = fields().filter(|field| field.header == header).map(|field| field.name);
        Wrong::new(format!("{} is no field of {header}", quote(name))).hint(instead(name, known))
    })?;
    let command = words.word(example)?;
    let mut value = || -> Result<u128, Wrong> {
        let text = words.word(example)?;
        field.value(text).ok_or_else(|| {
            Wrong::new(format!("{} is no value of {header} {name}", quote(text))).hint("see `man tc-pedit`")
        })
    };
    let command = match command {
        "set" => Command::Set(value()?),
        "add" => Command::Add(value()?),
        "clear" => Command::Clear,
        "invert" => Command::Invert,
        other => {
            let known = ["set", "add", "clear", "invert"].into_iter();
            return Err(Wrong::new(format!("{} is no edit", quote(other))).hint(instead(other, known)));
        }
    };
    let keys = field.keys(field.counts_from, command, None);
    keys.ok_or_else(|| Wrong::new(format!("{header} {name} is not that long")).hint("write a smaller number"))
}

fn hex_or_number(text: &str) -> Result<u32, Wrong> {
    parse_number(text).ok_or_else(|| Wrong::new(format!("{} is not a number of 32 bits", quote(text))))
}

fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok().filter(|_| !text.starts_with('+')),
    }
}

/// The inverse of [`read`], with `pedit`.
pub(super) fn show(spec: &PeditSpec) -> String {
    let keys: Vec<String> = spec.keys.iter().map(show_key).collect();
    format!("pedit {}{}", keys.join(" and "), show_then(spec.control))
}

/// By name if it is one whole field.
fn show_key(key: &PeditKey) -> String {
    let command = if key.add { "add" } else { "set" };
    let named = fields().filter(|field| field.counts_from == key.header && field.bytes.len <= 4).find_map(|field| {
        let end = field.bytes.start.checked_add_unsigned(field.bytes.len)?;
        let in_place = u32::try_from(key.offset.checked_add(4)?.checked_sub(end)?).ok().filter(|bytes| *bytes < 4)? * 8;
        let number = key.value >> in_place >> field.bytes.shift;
        let set = if key.add { Command::Add(number.into()) } else { Command::Set(number.into()) };
        let same = field.keys(key.header, set, None).is_some_and(|keys| keys == [*key]);
        let value = match field.form {
            Form::Ipv4 => Ipv4Addr::from(number).to_string(),
            _ => number.to_string(),
        };
        same.then(|| format!("{} {} {command} {value}", field.header, field.name))
    });
    named.unwrap_or_else(|| {
        let header = HEADERS.iter().find(|(_, header)| *header == key.header).map_or("network", |(name, _)| name);
        let at =
            key.at.map(|at| format!(" at {} mask {:#x} shift {}", at.offset, at.mask, at.shift)).unwrap_or_default();
        format!("{header}{:+} {command} {:#x} keep {:#x}{at}", key.offset, key.value, key.keep)
    })
}

//! u32: words of the packet, and the tables that filters lie in.

use serde_json::{Map, Value};

use crate::arguments::{Failure, Words, hex, number, stands_for};
use crate::filter;
use crate::printer::Printer;

/// A key: which bits of the word at an offset, counted from the IP header or from the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    value: u32,
    mask: u32,
    offset: i32,
    next_header: bool,
}

/// Reads the options of a filter.
pub(crate) fn read(text: Option<&str>, words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(text) = text {
        let number = handle(text).ok_or_else(|| Failure::new("Illegal filter ID"))?;
        if number != 0 {
            table.insert("handle".into(), show_handle(number).into());
        }
    }
    let mut keys = Vec::new();
    let mut matches = Map::new();
    let mut place = None;
    let mut bucket = None;
    while let Some(word) = words.next() {
        let illegal = || Failure::new(format!("Illegal \"{word}\""));
        let table_of = |words: &mut Words<'_>| {
            let handle = handle(words.value()?).ok_or_else(illegal)?;
            match handle & 0xfff {
                0 => Ok(handle),
                _ => Err(Failure::new(format!("\"{word}\" must be a hash table."))),
            }
        };
        match word {
            _ if stands_for(word, "match") => match words.take("mark") {
                true => _ = matches.insert("mark".into(), mark(words).ok_or_else(illegal)?),
                false => selector(words, &mut keys).ok_or_else(illegal)?,
            },
            _ if stands_for(word, "offset") => offset(words, &mut matches).ok_or_else(illegal)?,
            _ if stands_for(word, "hashkey") => {
                matches.insert("hash".into(), hash(words).ok_or_else(illegal)?.into());
            }
            _ if stands_for(word, "divisor") => {
                let divisor = words.peek().and_then(number).filter(|divisor| (1..=256).contains(divisor));
                let divisor = divisor.filter(|divisor| divisor.is_power_of_two()).ok_or_else(illegal)?;
                words.next();
                matches.insert("divisor".into(), divisor.into());
            }
            _ if stands_for(word, "link") => {
                let link = table_of(words)?;
                matches.insert("link".into(), show_handle(link).into());
            }
            "ht" => place = Some(table_of(words)?),
            "sample" => {
                let mut sample = Vec::new();
                selector(words, &mut sample).ok_or_else(illegal)?;
                let divisor = match words.take("divisor") {
                    true => words.value().ok().and_then(number).filter(|divisor| *divisor > 0).ok_or_else(illegal)?,
                    false => 256,
                };
                let Some(Key { value, mask, .. }) = sample.first() else { return Err(illegal()) };
                bucket = Some(((value & mask) >> mask.trailing_zeros().min(31)) % divisor);
            }
            "indev" => _ = matches.insert("indev".into(), words.value()?.into()),
            "order" => {
                let order = words.peek().and_then(number).filter(|order| *order <= 0xfff).ok_or_else(illegal)?;
                words.next();
                let at = text.and_then(handle).unwrap_or(0);
                table.insert("handle".into(), show_handle(at & !0xfff | order).into());
            }
            _ if filter::read_common(word, words, table)? => {}
            _ => return Err(filter::what_is(word)),
        }
    }
    if place.is_some() || bucket.is_some() {
        // Without a table, the bucket is of the priority's own.
        let place = place.unwrap_or(ROOT << 20);
        let place = bucket.map_or(place, |bucket| place & !0xff_fff | bucket << 12);
        matches.insert("table".into(), show_handle(place).into());
    }
    if !keys.is_empty() {
        matches.insert("keys".into(), keys.iter().map(Key::words).collect());
    }
    table.insert("match".into(), matches.into());
    // A table has no actions; of others the list must be there, and be it empty.
    table.entry("actions").or_insert_with(|| Value::Array(Vec::new()));
    Ok(())
}

/// In a handle: the root table of the priority that is asked.
const ROOT: u32 = 0xfff;

/// `800::1`, `1:`, `0x80000001`, `none`.
pub(crate) fn handle(text: &str) -> Option<u32> {
    let part =
        |digits: &str, max: u32| if digits.is_empty() { Some(0) } else { hex(digits).filter(|part| *part <= max) };
    let mut parts = text.splitn(3, ':');
    match (parts.next()?, parts.next(), parts.next()) {
        ("none", None, None) => Some(0),
        ("root", None, None) => Some(ROOT << 20),
        (number, None, _) => hex(number),
        (table, Some(bucket), node) => {
            Some(part(table, 0xfff)? << 20 | part(bucket, 0xff)? << 12 | part(node.unwrap_or_default(), 0xfff)?)
        }
    }
}

/// As tc and the file write it.
fn show_handle(handle: u32) -> String {
    let (bucket, node) = (handle >> 12 & 0xff, handle & 0xfff);
    let bucket = if bucket == 0 { String::new() } else { format!("{bucket:x}") };
    let node = if node == 0 { String::new() } else { format!(":{node:x}") };
    format!("{:x}:{bucket}{node}", handle >> 20)
}

/// `mark VALUE MASK`
fn mark(words: &mut Words<'_>) -> Option<Value> {
    let (value, mask) = (number(words.next()?)?, hex(words.next()?)?);
    Some(format!("{value:#x}/{mask:#x}").into())
}

/// What comes after `match`: `ip src 10.0.0.0/8`, `u16 0x800 0xffff at -2`, `tcp dst 80 0xffff`.
fn selector(words: &mut Words<'_>, keys: &mut Vec<Key>) -> Option<()> {
    match words.next()? {
        "u32" => field(words, 4, 0, false, keys),
        "u16" => field(words, 2, 0, false, keys),
        "u8" => field(words, 1, 0, false, keys),
        "ip" => ip(words, keys),
        "ip6" => ip6(words, keys),
        "tcp" | "udp" => match words.next()? {
            "src" => field(words, 2, 0, true, keys),
            "dst" => field(words, 2, 2, true, keys),
            _ => None,
        },
        "icmp" => match words.next()? {
            "type" => field(words, 1, 0, true, keys),
            "code" => field(words, 1, 1, true, keys),
            _ => None,
        },
        "ether" => {
            let offset = match words.next()? {
                "src" => -8,
                "dst" => -14,
                _ => return None,
            };
            let mut bytes = words.next()?.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
            for at in offset..offset + 6 {
                pack(keys, u32::from(bytes.next()??), 0xff, 1, at, false)?;
            }
            bytes.next().is_none().then_some(())
        }
        _ => None,
    }
}

fn ip(words: &mut Words<'_>, keys: &mut Vec<Key>) -> Option<()> {
    match words.next()? {
        "src" => address_v4(words, 12, keys),
        "dst" => address_v4(words, 16, keys),
        "tos" | "dsfield" | "precedence" => field(words, 1, 1, false, keys),
        "ihl" => field(words, 1, 0, false, keys),
        "protocol" => field(words, 1, 9, false, keys),
        "icmp_type" => field(words, 1, 20, false, keys),
        "icmp_code" => field(words, 1, 21, false, keys),
        "sport" => field(words, 2, 20, false, keys),
        "dport" => field(words, 2, 22, false, keys),
        "nofrag" => pack(keys, 0, 0x3fff, 2, 6, false),
        "firstfrag" => pack(keys, 0x2000, 0x3fff, 2, 6, false),
        "df" => pack(keys, 0x4000, 0x4000, 2, 6, false),
        "mf" => pack(keys, 0x2000, 0x2000, 2, 6, false),
        _ => None,
    }
}

fn ip6(words: &mut Words<'_>, keys: &mut Vec<Key>) -> Option<()> {
    match words.next()? {
        "src" => address_v6(words, 8, keys),
        "dst" => address_v6(words, 24, keys),
        "protocol" => field(words, 1, 6, false, keys),
        "flowlabel" => {
            let (value, mask) = (number(words.next()?)?, hex(words.next()?)?);
            pack(keys, value & 0xf_ffff, mask & 0xf_ffff, 4, 0, false)
        }
        "sport" => field(words, 2, 40, false, keys),
        "dport" => field(words, 2, 42, false, keys),
        "icmp_type" => field(words, 1, 40, false, keys),
        "icmp_code" => field(words, 1, 41, false, keys),
        _ => None,
    }
}

/// `VALUE MASK`, and `at OFFSET` to begin elsewhere.
fn field(words: &mut Words<'_>, width: i32, offset: i32, next_header: bool, keys: &mut Vec<Key>) -> Option<()> {
    let (value, mask) = (number(words.next()?)?, hex(words.next()?)?);
    let (offset, next_header) = match words.take("at") {
        true => at(words.next()?)?,
        false => (offset, next_header),
    };
    pack(keys, value, mask, width, offset, next_header)
}

/// `12`, `-2`, `nexthdr+0`
fn at(text: &str) -> Option<(i32, bool)> {
    let (next_header, text) = text.strip_prefix("nexthdr+").map_or((false, text), |rest| (true, rest));
    let offset = match text.strip_prefix('-') {
        Some(digits) => -i32::try_from(number(digits)?).ok()?,
        None => i32::try_from(number(text)?).ok()?,
    };
    Some((offset, next_header))
}

fn address_v4(words: &mut Words<'_>, offset: i32, keys: &mut Vec<Key>) -> Option<()> {
    let text = words.next()?;
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    let (address, bits) = match address {
        "any" | "all" | "default" => (0, 0),
        address => (u32::from(address.parse::<std::net::Ipv4Addr>().ok()?), bits.parse::<u32>().ok()?),
    };
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
    pack(keys, address, mask, 4, offset, false)
}

fn address_v6(words: &mut Words<'_>, offset: i32, keys: &mut Vec<Key>) -> Option<()> {
    let text = words.next()?;
    let (address, bits) = text.split_once('/').unwrap_or((text, "128"));
    let address = u128::from(address.parse::<std::net::Ipv6Addr>().ok()?);
    let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.parse().ok()?)?).unwrap_or(0);
    let words_of =
        |bits: u128| bits.to_be_bytes().as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
    let (values, masks): (Vec<u32>, Vec<u32>) = (words_of(address), words_of(mask));
    for ((value, mask), at) in values.into_iter().zip(masks).zip((offset..).step_by(4)) {
        if mask != 0 {
            pack(keys, value, mask, 4, at, false)?;
        }
    }
    Some(())
}

/// Adds a field of `width` bytes to the key of its word. None if it goes over a word's end, or contradicts what is there.
fn pack(keys: &mut Vec<Key>, value: u32, mask: u32, width: i32, offset: i32, next_header: bool) -> Option<()> {
    let aligned = offset & !3;
    let shift = u32::try_from(8 * (4 - width - (offset - aligned))).ok()?;
    let limit = u32::MAX >> (32 - 8 * width.unsigned_abs());
    if mask > limit || value > limit {
        return None;
    }
    let (value, mask) = ((value & mask) << shift, mask << shift);
    match keys.iter_mut().find(|key| key.offset == aligned && key.next_header == next_header) {
        None => keys.push(Key { value, mask, offset: aligned, next_header }),
        Some(key) if (key.value ^ value) & key.mask & mask != 0 => return None,
        Some(key) => {
            key.value |= value;
            key.mask |= mask;
        }
    }
    Some(())
}

impl Key {
    /// As the file writes it.
    fn words(&self) -> Value {
        let from = if self.next_header { "nexthdr+" } else { "" };
        format!("{:#010x}/{:#010x} at {from}{}", self.value, self.mask, self.offset).into()
    }
}

/// `plus 4 at 0 mask 0f00 shift 6 eat`, in any order.
fn offset(words: &mut Words<'_>, matches: &mut Map<String, Value>) -> Option<()> {
    let mut parts = Vec::new();
    loop {
        match words.peek() {
            Some("plus") => parts.push(format!("plus {}", number(words.second()?)?)),
            Some("at") => parts.push(format!("at {}", at(words.second()?)?.0)),
            Some("mask") => parts.push(format!("mask {:#06x}", hex(words.second()?)?)),
            Some("shift") => parts.push(format!("shift {}", number(words.second()?)?)),
            Some("eat") => {
                words.next();
                matches.insert("eat".into(), true.into());
                continue;
            }
            _ => break,
        }
        words.next();
        words.next();
    }
    if !parts.is_empty() {
        matches.insert("offset".into(), parts.join(" ").into());
    }
    Some(())
}

/// `mask 0x0000ff00 at 12`
fn hash(words: &mut Words<'_>) -> Option<String> {
    let mut mask = None;
    let mut offset = 0;
    loop {
        if words.take("mask") {
            mask = Some(hex(words.next()?)?);
        } else if words.take("at") {
            offset = at(words.next()?)?.0;
        } else {
            return mask.map(|mask| format!("{mask:#010x} at {offset}"));
        }
    }
}

/// The options of a filter.
pub(crate) fn print(filter: &Value, printer: &mut Printer) {
    let text = filter["handle"].as_str().unwrap_or_default();
    let at = handle(text).unwrap_or(0);
    let matches = &filter["match"];
    printer.field("fh", text, format_args!("fh {text} "));
    if at & 0xfff != 0 {
        printer.field("order", at & 0xfff, format_args!("order {} ", at & 0xfff));
    }
    if let Some(divisor) = matches["divisor"].as_u64() {
        printer.field("ht_divisor", divisor, format_args!("ht divisor {divisor} "));
        return;
    }
    let (table, bucket) = (format!("{:x}", at >> 20), format!("{:x}", at >> 12 & 0xff));
    printer.text(format_args!("key "));
    printer.field("key_ht", &*table, format_args!("ht {table} "));
    printer.field("bkt", &*bucket, format_args!("bkt {bucket} "));
    if let Some(class) = filter["class"].as_str() {
        printer.field("flowid", class, format_args!("flowid {class} "));
    }
    if let Some(link) = matches["link"].as_str() {
        printer.field("link", link, format_args!("link {link} "));
    }
    if filter["skip_hw"] == true {
        printer.field("skip_hw", true, format_args!("skip_hw "));
    }
    printer.field("not_in_hw", true, format_args!("not_in_hw "));
    if printer.style.stats {
        let count = |key: &str| filter["stats"][key].as_u64().unwrap_or(0);
        let (runs, hits) = (count("runs"), count("packets"));
        printer.field("rule_hit", runs, format_args!(" (rule hit {runs} "));
        printer.field("success", hits, format_args!("success {hits})"));
    }
    print_selector(matches, printer);
    if let Some(port) = matches["indev"].as_str() {
        printer.line();
        printer.field("indev", port, format_args!("  input dev {port}"));
    }
}

fn print_selector(matches: &Value, printer: &mut Printer) {
    let keys = matches["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    match keys {
        [] => {}
        [key] => printer.object(Some("match"), |printer| print_key(key, printer)),
        keys => printer.list(Some("match"), |printer| {
            keys.iter().for_each(|key| printer.object(None, |printer| print_key(key, printer)));
        }),
    }
    let mark = &matches["mark"];
    let (value, mask) = match mark.as_str().and_then(|mark| mark.split_once('/')) {
        Some((value, mask)) => (hex(value), hex(mask)),
        None => (mark.as_u64().and_then(|mark| u32::try_from(mark).ok()), Some(u32::MAX)),
    };
    if let (Some(value), Some(mask)) = (value, mask) {
        printer.line();
        printer.field("fwmark_value", format!("{value:#x}"), format_args!("  mark {value:#06x} "));
        printer.field("fwmark_mask", format!("{mask:#x}"), format_args!("{mask:#06x}"));
    }
    if let Some(offset) = matches["offset"].as_str() {
        print_offset(offset, printer);
    }
    if matches["eat"] == true {
        if matches["offset"].is_null() {
            printer.line();
            printer.text(format_args!("   "));
        }
        printer.field("eat", true, format_args!(" eat "));
    }
    if let Some((mask, at)) = matches["hash"].as_str().and_then(|hash| hash.split_once(" at ")) {
        let mask = hex(mask).unwrap_or(0);
        printer.line();
        printer.field("hash_mask", format!("{mask:x}"), format_args!("    hash mask {mask:08x} "));
        printer.field("hash_off", at.parse::<i32>().unwrap_or(0), format_args!("at {at} "));
    }
}

/// A key in the words of the file.
fn print_key(key: &Value, printer: &mut Printer) {
    let (word, at) = key.as_str().and_then(|key| key.split_once(" at ")).unwrap_or_default();
    let (value, mask) = word.split_once('/').unwrap_or((word, "0xffffffff"));
    let (value, mask) = (hex(value).unwrap_or(0), hex(mask).unwrap_or(0));
    let (from, offset) = at.strip_prefix("nexthdr+").map_or(("", at), |offset| ("nexthdr+", offset));
    printer.line();
    printer.field("value", format!("{value:x}"), format_args!("  match {value:08x}"));
    printer.field("mask", format!("{mask:x}"), format_args!("/{mask:08x} "));
    printer.field("offmask", from, format_args!("at {from}"));
    printer.field("off", offset.parse::<i32>().unwrap_or(0), format_args!("{offset}"));
}

fn print_offset(text: &str, printer: &mut Printer) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let value = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1).copied());
    printer.line();
    printer.text(format_args!("    offset "));
    if let Some(mask) = value("mask").and_then(hex) {
        let (shift, at) = (value("shift").unwrap_or("0"), value("at").unwrap_or("0"));
        printer.field("offset_mask", format!("{mask:x}"), format_args!("{mask:04x}"));
        printer.field("offset_shift", shift.parse::<u32>().unwrap_or(0), format_args!(">>{shift} "));
        printer.field("offset_off", at.parse::<i32>().unwrap_or(0), format_args!("at {at} "));
    }
    if let Some(plus) = value("plus").filter(|plus| *plus != "0") {
        printer.field("plus", plus.parse::<u32>().unwrap_or(0), format_args!("plus {plus} "));
    }
}

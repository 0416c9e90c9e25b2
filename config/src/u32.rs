//! Matches of kind u32: words of the packet, and the tables that hold them.

use serde_json::{Map, Value as Json};
use tidegate_classifiers::request::{U32Field, U32Hash, U32Key, U32Mark, U32Node, U32Offset, U32Spec};

use crate::actions::port_id;
use crate::error::{Problems, Wrong};
use crate::names::Names;
use crate::place::Place;
use crate::table::{Node, Table, Value};
use crate::words::{self, Masked, quote};

/// What keys with `nexthdr+` begin with.
const NEXT_HEADER: &str = "nexthdr+";

/// Reads the match of a filter: of a table, if it has `divisor`, else of a node.
pub(crate) fn read(mut table: Table, ports: &Names, problems: &mut Problems) -> U32Spec {
    let divisor = table.read("divisor", problems, |node| node.number(1..=256));
    let keys = table.read_list("keys", problems, |node| key(node.text()?));
    let node = U32Node {
        table: table.read("table", problems, handle).unwrap_or(0),
        keys: keys.unwrap_or_default().into_iter().map(|(key, _): (U32Key, Place)| key).collect(),
        mark: table.read("mark", problems, mark).unwrap_or_default(),
        link: table.read("link", problems, handle),
        hash: table.read("hash", problems, |node| hash(node.text()?)),
        offset: table.read("offset", problems, |node| offset(node.text()?)),
        eat: table.read("eat", problems, Node::boolean).unwrap_or(false),
        indev: table.read("indev", problems, |node| ports.find(node.text()?).map(port_id)),
        class: None,
    };
    let place = table.place;
    table.finish(problems);
    match divisor {
        None => U32Spec::Node(Box::new(node)),
        Some(divisor) => {
            if node != U32Node::default() {
                problems.push(
                    place,
                    Wrong::new("match: a table has a divisor and nothing else").hint("make it two filters"),
                );
            }
            U32Spec::Table { divisor }
        }
    }
}

/// The keys of a match, such that [`read`] makes it again.
pub(crate) fn show(spec: &U32Spec, ports: &Names) -> Map<String, Json> {
    let mut keys = Map::new();
    let mut put = |key: &str, shown: Option<Json>| keys.extend(shown.map(|shown| (key.to_owned(), shown)));
    match spec {
        U32Spec::Table { divisor } => put("divisor", Some((*divisor).into())),
        U32Spec::Node(node) => {
            put("table", (node.table != 0).then(|| show_handle(node.table).into()));
            put("keys", (!node.keys.is_empty()).then(|| node.keys.iter().map(show_key).collect()));
            let U32Mark { value, mask } = node.mark;
            let mark = Masked { value: value.into(), mask: mask.into() };
            put("mark", (mask != 0).then(|| words::show_masked(mark, u32::MAX.into(), &[])));
            put("link", node.link.map(|link| show_handle(link).into()));
            put("hash", node.hash.map(|hash| format!("{:#010x} at {}", hash.mask, hash.offset).into()));
            put("offset", node.offset.map(|offset| show_offset(offset).into()));
            put("eat", node.eat.then_some(true.into()));
            put("indev", node.indev.map(|port| ports.name(port.0.into()).unwrap_or("*").into()));
        }
    }
    keys
}

/// `"1:"` for a table, `"1:5"` with a bucket, `"1:5:800"` and `"1::800"` with a node; hexadecimal. Or a number.
pub(crate) fn handle(node: &Node) -> Result<u32, Wrong> {
    let Value::Text(text) = &node.value else { return node.number(1..=u32::MAX) };
    let part = |digits: &str, max: u32| match digits {
        "" => Some(0),
        digits => u32::from_str_radix(digits, 16).ok().filter(|number| *number <= max),
    };
    let mut parts = text.splitn(3, ':');
    let mut next = |max| part(parts.next().unwrap_or_default(), max);
    let handle = match (next(0xfff), next(0xff), next(0xfff)) {
        (Some(table), Some(bucket), Some(node)) if text.contains(':') => Some(table << 20 | bucket << 12 | node),
        _ => None,
    };
    handle.ok_or_else(|| {
        Wrong::new(format!("{} is not a handle of u32", quote(text)))
            .hint("write it as \"800::1\": table, bucket and node, in hexadecimal digits")
    })
}

/// The inverse of [`handle`].
pub(crate) fn show_handle(handle: u32) -> String {
    let (table, bucket, node) = (handle >> 20, handle >> 12 & 0xff, handle & 0xfff);
    let bucket = if bucket == 0 { String::new() } else { format!("{bucket:x}") };
    let node = if node == 0 { String::new() } else { format!(":{node:x}") };
    format!("{table:x}:{bucket}{node}")
}

/// `"0x0a000000/0xff000000 at 12"`, `"0x00160000/0xffff0000 at nexthdr+0"`.
fn key(text: &str) -> Result<U32Key, Wrong> {
    let wrong = || {
        Wrong::new(format!("{} is not a key of u32", quote(text)))
            .hint("write it as \"0x0a000000/0xff000000 at 12\", value and mask of the word that begins there")
    };
    let (word, at) = text.split_once(" at ").ok_or_else(wrong)?;
    let (value, mask) = word.split_once('/').unwrap_or((word, "0xffffffff"));
    let (next_header, offset) = at.trim().strip_prefix(NEXT_HEADER).map_or((false, at.trim()), |rest| (true, rest));
    let (value, mask) = (hex(value).ok_or_else(wrong)?, hex(mask).ok_or_else(wrong)?);
    Ok(U32Key { value, mask, offset: offset.parse().map_err(|_| wrong())?, next_header })
}

fn show_key(key: &U32Key) -> Json {
    let from = if key.next_header { NEXT_HEADER } else { "" };
    format!("{:#010x}/{:#010x} at {from}{}", key.value, key.mask, key.offset).into()
}

/// `"0x0000ff00 at 12"`
fn hash(text: &str) -> Result<U32Hash, Wrong> {
    let parts = text.split_once(" at ");
    parts.and_then(|(mask, at)| Some(U32Hash { mask: hex(mask)?, offset: at.trim().parse().ok()? })).ok_or_else(|| {
        Wrong::new(format!("{} does not select a bucket", quote(text)))
            .hint("write it as \"0x0000ff00 at 12\", mask of the word that begins there")
    })
}

/// `"plus 4"`, `"at 0 mask 0x0f00 shift 6"`, or both.
fn offset(text: &str) -> Result<U32Offset, Wrong> {
    let wrong = || {
        Wrong::new(format!("{} is not an offset of u32", quote(text)))
            .hint("write it as \"plus 4 at 0 mask 0x0f00 shift 6\"")
    };
    let mut offset = U32Offset::default();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(wrong)?;
        match word {
            "plus" => offset.plus = value.parse().map_err(|_| wrong())?,
            "at" => offset.field.get_or_insert_default().offset = value.parse().map_err(|_| wrong())?,
            "mask" => {
                let mask = hex(value).and_then(|mask| u16::try_from(mask).ok());
                offset.field.get_or_insert_default().mask = mask.ok_or_else(wrong)?;
            }
            "shift" => {
                let shift = value.parse().ok().filter(|shift| *shift < 16);
                offset.field.get_or_insert_default().shift = shift.ok_or_else(wrong)?;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(offset)
}

fn show_offset(U32Offset { plus, field }: U32Offset) -> String {
    match field {
        None => format!("plus {plus}"),
        Some(U32Field { offset, mask, shift }) => format!("plus {plus} at {offset} mask {mask:#06x} shift {shift}"),
    }
}

/// `0x1`, `"0x1/0xff"`
fn mark(node: &Node) -> Result<U32Mark, Wrong> {
    let (value, mask) = words::masked_u32(node)?;
    Ok(U32Mark { value, mask })
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

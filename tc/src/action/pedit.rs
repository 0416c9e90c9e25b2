//! pedit: `pedit ex munge ip ttl set 64 munge offset 12 u16 set 0x1234 retain 0xff`.

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, PeditAt, PeditHeader, PeditKey, PeditSpec};
use tidegate_classifiers::verdict::Control;
use tidegate_config::actions::pedit::{Bytes, Command, Field};

use super::{index_follows, print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words, hex, number, stands_for};
use crate::printer::Printer;

const HEADERS: [(PeditHeader, &str); 6] = [
    (PeditHeader::Network, "network"),
    (PeditHeader::Eth, "eth"),
    (PeditHeader::Ip4, "ipv4"),
    (PeditHeader::Ip6, "ipv6"),
    (PeditHeader::Tcp, "tcp"),
    (PeditHeader::Udp, "udp"),
];

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let extended = words.take("ex");
    let mut keys = Vec::new();
    while words.take_any(&["munge"]) {
        let place = words.clone();
        keys.extend(munge(words, extended).map_err(|failure| Failure {
            text: format!("{}\nBad pedit construct ({})", failure.text, place.peek().unwrap_or_default()),
            ..failure
        })?);
    }
    if keys.is_empty() && index_follows(words, table) {
        return Ok(None);
    }
    let control = verdict_or(words, Control::Ok)?;
    match keys.is_empty() {
        true => Err(Failure::new("pedit: munge must be given")),
        false => Ok(Some(PeditSpec { keys, control }.into())),
    }
}

fn munge(words: &mut Words<'_>, extended: bool) -> Result<Vec<PeditKey>, Failure> {
    let header = words.value()?;
    if stands_for(header, "offset") {
        return raw(words, extended);
    }
    let name = words.value()?;
    let bad = || Failure::new("bad pedit parsing");
    let field = Field::find(header, name).ok_or_else(bad)?;
    let beyond_ip = matches!(name, "sport" | "dport" | "icmp_type" | "icmp_code") && header == "ip";
    let counts_from = match header {
        _ if extended && beyond_ip => return Err(bad()),
        _ if extended => field.counts_from,
        "ip" => PeditHeader::Network,
        _ => return Err(Failure::new("Munge parameters not supported. Use 'pedit ex munge ...'.")),
    };
    let command = command(words, extended, |text| match number(text) {
        Some(number) => Some(number.into()),
        None => field.value(text),
    })?;
    let retain = retain(words)?;
    field.keys(counts_from, command, retain).ok_or_else(bad)
}

/// `offset 12 u16 [at 0 0f 2] set 0x1234`
fn raw(words: &mut Words<'_>, extended: bool) -> Result<Vec<PeditKey>, Failure> {
    let bad = || Failure::new("bad pedit parsing");
    let text = words.value()?;
    let offset = match text.strip_prefix('-') {
        Some(text) => number(text).and_then(|offset| 0_i32.checked_sub_unsigned(offset)),
        None => number(text).and_then(|offset| offset.try_into().ok()),
    };
    let len = match words.value()? {
        "u32" => 4,
        "u16" => 2,
        "u8" => 1,
        _ => return Err(bad()),
    };
    let bytes = offset.and_then(|offset| Bytes::whole(offset, len));
    let bytes = bytes.ok_or_else(|| Failure::new("offsets must be in one word of 32 bits"))?;
    let at = match words.take("at") {
        false => None,
        true => {
            let offset = words.value().map(number)?.ok_or_else(bad)?;
            let mask = words.value().map(hex)?.ok_or_else(bad)?;
            Some(PeditAt { offset, mask, shift: words.value().map(number)?.ok_or_else(bad)? })
        }
    };
    let command = command(words, extended, |text| number(text).map(u128::from))?;
    let keys = bytes.keys(PeditHeader::Network, command, retain(words)?).ok_or_else(bad)?;
    Ok(keys.into_iter().map(|key| PeditKey { at, ..key }).collect())
}

fn command(words: &mut Words<'_>, extended: bool, value: impl Fn(&str) -> Option<u128>) -> Result<Command, Failure> {
    let bad = || Failure::new("bad pedit parsing");
    let word = words.value()?;
    let known = ["invert", "set", "add", "preserve", "clear"];
    match known.into_iter().find(|name| stands_for(word, name)).ok_or_else(bad)? {
        "invert" => Ok(Command::Invert),
        "preserve" => Ok(Command::Preserve),
        "clear" => Ok(Command::Clear),
        "add" if !extended => Err(Failure::new("Non extended mode. only 'set' command is supported")),
        "add" => value(words.value()?).map(Command::Add).ok_or_else(bad),
        _ => value(words.value()?).map(Command::Set).ok_or_else(bad),
    }
}

fn retain(words: &mut Words<'_>) -> Result<Option<u32>, Failure> {
    match words.take_any(&["retain"]) {
        false => Ok(None),
        true => words.value().map(number)?.map(Some).ok_or_else(|| Failure::new("Illegal \"retain\"")),
    }
}

pub(super) fn print(spec: &PeditSpec, action: &Value, printer: &mut Printer) {
    printer.field("kind", "pedit", format_args!(" pedit "));
    print_control("action ", spec.control, " ", printer);
    let count = spec.keys.len();
    printer.field("nkeys", count, format_args!("keys {count}"));
    printer.line();
    print_holders(" \t index ", action, printer);
    printer.list(Some("keys"), |printer| {
        for (number, key) in spec.keys.iter().enumerate() {
            printer.object(None, |printer| {
                printer.line();
                printer.text(format_args!("\t key #{number}  at "));
                let header = HEADERS.iter().find(|(header, _)| *header == key.header).map_or("", |(_, name)| name);
                let network = key.header == PeditHeader::Network;
                printer.field("htype", header, format_args!("{}", if network { "" } else { header }));
                match network {
                    true => printer.field("offset", key.offset, format_args!("{}", key.offset)),
                    false => printer.field("offset", key.offset, format_args!("{:+}", key.offset)),
                }
                match key.add {
                    true => printer.field("cmd", "add", format_args!(": add")),
                    false => printer.field("cmd", "set", format_args!(": val")),
                }
                printer.field("val", format!("{:x}", key.value), format_args!(" {:08x}", key.value));
                printer.field("mask", format!("{:x}", key.keep), format_args!(" mask {:08x}", key.keep));
            });
        }
    });
}

/// From a listing of tc, which does not tell `at`.
pub(super) fn import(listed: &Value) -> Result<String, String> {
    let keys = listed["keys"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|key| {
        let text = |name: &str| key[name].as_str().map(|text| text.trim_start_matches("0x"));
        let header = match text("htype")? {
            "ipv4" => "ip",
            "ipv6" => "ip6",
            other => other,
        };
        Some(format!(
            "{header}{:+} {} 0x{} keep 0x{}",
            key["offset"].as_i64()?,
            text("cmd")?,
            text("val")?,
            text("mask")?
        ))
    });
    let keys: Vec<String> = keys.collect::<Option<_>>().ok_or("a key of pedit that is not known")?;
    Ok(format!("pedit {}", keys.join(" and ")))
}

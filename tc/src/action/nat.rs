//! nat: `nat egress 10.0.0.0/24 192.0.2.0`.

use std::net::Ipv4Addr;

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, NatSpec};
use tidegate_classifiers::verdict::Control;

use super::{index_follows, print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words};
use crate::printer::Printer;

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let egress = match words.peek().and_then(|word| ["egress", "ingress"].into_iter().find(|name| *name == word)) {
        Some(direction) => direction == "egress",
        None if index_follows(words, table) => return Ok(None),
        None => return Err(Failure::new("nat: ingress or egress must be given")),
    };
    words.next();
    let (old, mask) = prefix(words.value()?)?;
    let new = words.value()?;
    let new = new.parse().map_err(|_| Failure::wrong(new, "an IPv4 address is expected"))?;
    Ok(Some(NatSpec { egress, old, mask, new, control: verdict_or(words, Control::Ok)? }.into()))
}

/// An address or a prefix. As in tc, `any` is no more than 0.0.0.0.
fn prefix(text: &str) -> Result<(Ipv4Addr, u32), Failure> {
    if ["default", "any", "all"].into_iter().any(|name| text == name) {
        return Ok((Ipv4Addr::UNSPECIFIED, u32::MAX));
    }
    let wrong = || Failure::wrong(text, "an IPv4 prefix is expected");
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    let bits = bits.parse::<u32>().ok().filter(|bits| *bits <= 32).ok_or_else(wrong)?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    Ok((address.parse().map_err(|_| wrong())?, mask))
}

pub(super) fn print(spec: &NatSpec, action: &Value, printer: &mut Printer) {
    printer.field("type", "nat", format_args!(" nat "));
    let direction = if spec.egress { "egress" } else { "ingress" };
    printer.field("direction", direction, format_args!("{direction}"));
    let old = format!("{}/{}", spec.old, spec.mask.leading_ones());
    printer.field("old_addr", old.as_str(), format_args!(" {old}"));
    let new = spec.new.to_string();
    printer.field("new_addr", new.as_str(), format_args!(" {new}"));
    print_control(" ", spec.control, "", printer);
    printer.line();
    print_holders("\t index ", action, printer);
}

/// From a listing of tc.
pub(super) fn import(listed: &Value) -> String {
    let text = |key: &str| listed[key].as_str().unwrap_or_default().to_owned();
    format!("nat {} {} {}", text("direction"), text("old_addr"), text("new_addr"))
}

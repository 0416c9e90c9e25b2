//! csum: `csum ip4h and tcp`.

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, CsumSpec, CsumTargets};
use tidegate_classifiers::verdict::Control;

use super::{index_follows, print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words, stands_for};
use crate::printer::Printer;

/// In the order in which they are listed.
const TARGETS: [(&str, CsumTargets); 7] = [
    ("iph", CsumTargets::IP),
    ("icmp", CsumTargets::ICMP),
    ("igmp", CsumTargets::IGMP),
    ("tcp", CsumTargets::TCP),
    ("udp", CsumTargets::UDP),
    ("udplite", CsumTargets::UDPLITE),
    ("sctp", CsumTargets::SCTP),
];

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let mut targets = CsumTargets::default();
    while let Some(word) = words.peek() {
        let iph = ["ip4h", "ipv4h"].into_iter().any(|name| stands_for(word, name)).then_some(CsumTargets::IP);
        let known = TARGETS.iter().find(|(name, _)| stands_for(word, name)).map(|(_, target)| *target);
        match known.or(iph) {
            Some(target) => targets = targets.with(target),
            None if word == "and" || word == "or" => {}
            None => break,
        }
        words.next();
    }
    let control = verdict_or(words, Control::Ok)?;
    match targets == CsumTargets::default() {
        false => Ok(Some(CsumSpec { targets, control }.into())),
        true if index_follows(words, table) => Ok(None),
        true => Err(Failure::new("csum: at least one checksum must be given")),
    }
}

pub(super) fn print(spec: &CsumSpec, action: &Value, printer: &mut Printer) {
    printer.field("kind", "csum", format_args!("csum "));
    let names: Vec<_> = TARGETS.iter().filter(|(_, target)| spec.targets.has(*target)).map(|(name, _)| *name).collect();
    let names = names.join(", ");
    printer.field("csum", names.as_str(), format_args!("({names}) "));
    print_control("action ", spec.control, "", printer);
    printer.line();
    print_holders("\tindex ", action, printer);
}

/// From a listing of tc.
pub(super) fn import(listed: &Value) -> String {
    let names = listed["csum"].as_str().unwrap_or_default().split(", ");
    let names = names.map(|name| if name == "iph" { "ip" } else { name });
    format!("csum {}", names.collect::<Vec<_>>().join(" "))
}

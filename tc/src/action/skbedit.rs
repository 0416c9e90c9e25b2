//! skbedit: `skbedit mark 7/0xff`.

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, SkbeditSpec};
use tidegate_classifiers::verdict::Control;

use super::{index_follows, print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words, number, stands_for};
use crate::printer::Printer;

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let mut mark = None;
    while let Some(word) = words.peek() {
        let known = ["queue_mapping", "priority", "mark", "ptype", "inheritdsfield"];
        match known.into_iter().find(|name| stands_for(word, name)) {
            Some("mark") => {
                words.next();
                let text = words.value()?;
                let wrong = || Failure::new("Illegal \"mark\"");
                let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
                let mask = mask.map(|mask| number(mask).ok_or_else(wrong)).transpose()?;
                mark = Some((number(value).ok_or_else(wrong)?, mask));
            }
            Some(name) => return Err(Failure::new(format!("skbedit {name}: a packet here has nothing of the kind"))),
            None => break,
        }
    }
    let control = verdict_or(words, Control::Pipe)?;
    match mark {
        Some((mark, mask)) => Ok(Some(SkbeditSpec { mark, mask, control }.into())),
        None if index_follows(words, table) => Ok(None),
        None => Err(Failure::new("skbedit: mark must be given")),
    }
}

pub(super) fn print(spec: &SkbeditSpec, action: &Value, printer: &mut Printer) {
    printer.field("kind", "skbedit", format_args!("skbedit "));
    printer.field("mark", spec.mark, format_args!(" mark {}", spec.mark));
    if let Some(mask) = spec.mask {
        printer.field("mask", format!("{mask:x}"), format_args!("/{mask:#x}"));
    }
    print_control(" ", spec.control, "", printer);
    printer.line();
    print_holders("\t index ", action, printer);
}

/// From a listing of tc.
pub(super) fn import(listed: &Value) -> Result<String, String> {
    let foreign = ["queue_mapping", "priority", "ptype", "inheritdsfield"];
    match foreign.into_iter().find(|key| listed.get(key).is_some()) {
        Some(key) => Err(format!("skbedit {key}: a packet here has nothing of the kind")),
        None => {
            let mask = listed["mask"].as_str().map(|mask| format!("/0x{}", mask.trim_start_matches("0x")));
            Ok(format!("skbedit mark {}{}", listed["mark"], mask.unwrap_or_default()))
        }
    }
}

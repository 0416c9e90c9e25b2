//! sample: `sample rate 100 group 7 trunc 128`.

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, SampleSpec};
use tidegate_classifiers::verdict::Control;

use super::{index_follows, print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words, decimal, stands_for};
use crate::printer::Printer;

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let (mut rate, mut group, mut trunc) = (None, None, None);
    while let Some(word) = words.peek() {
        let options = [("rate", &mut rate), ("group", &mut group), ("trunc", &mut trunc)];
        let Some((name, option)) = options.into_iter().find(|(name, _)| stands_for(word, name)) else { break };
        words.next();
        let text = words.value()?;
        *option = Some(decimal(text).ok_or_else(|| Failure::new(format!("Illegal {name} {text}")))?);
    }
    let control = verdict_or(words, Control::Pipe)?;
    match (rate, group) {
        (Some(rate), Some(group)) => Ok(Some(SampleSpec { rate, group, trunc, control }.into())),
        (None, None) if index_follows(words, table) => Ok(None),
        (None, _) => Err(Failure::new("param \"rate\" not set")),
        (Some(_), None) => Err(Failure::new("param \"group\" not set")),
    }
}

pub(super) fn print(spec: &SampleSpec, action: &Value, printer: &mut Printer) {
    printer.field("kind", "sample", format_args!("sample "));
    printer.field("rate", spec.rate, format_args!("rate 1/{} ", spec.rate));
    printer.field("group", spec.group, format_args!("group {}", spec.group));
    if let Some(trunc) = spec.trunc {
        printer.field("trunc_size", trunc, format_args!(" trunc_size {trunc}"));
    }
    print_control(" ", spec.control, "", printer);
    printer.line();
    print_holders("\t index ", action, printer);
}

/// From a listing of tc.
pub(super) fn import(listed: &Value) -> String {
    let trunc = listed["trunc_size"].as_u64().map(|trunc| format!(" trunc {trunc}")).unwrap_or_default();
    format!("sample rate {} group {}{trunc}", listed["rate"], listed["group"])
}

//! `sample rate 100 group 7`: one packet in so many is shown to whoever listens to the group. `trunc 128` may follow, then
//! `then CONTROL`; without it, as with `pipe`, the next action runs.

use tidegate_classifiers::request::{ActionSpec, SampleSpec};

use super::{Words, show_then};
use crate::error::Wrong;

const EXAMPLE: &str = "sample rate 100 group 7";

/// What comes after `sample`.
pub(super) fn read(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    words.expect("rate", EXAMPLE)?;
    let rate = words.number(EXAMPLE, 1, u32::MAX)?;
    words.expect("group", EXAMPLE)?;
    let group = words.number(EXAMPLE, 0, u32::MAX)?;
    let trunc = match words.option(&["trunc"]) {
        Some(_) => Some(words.number("sample rate 100 group 7 trunc 128", 0, u32::MAX)?),
        None => None,
    };
    Ok(SampleSpec { rate, group, trunc, control: words.then()? }.into())
}

/// The inverse of [`read`], with `sample`.
pub(super) fn show(spec: &SampleSpec) -> String {
    let trunc = spec.trunc.map(|trunc| format!(" trunc {trunc}")).unwrap_or_default();
    format!("sample rate {} group {}{trunc}{}", spec.rate, spec.group, show_then(spec.control))
}

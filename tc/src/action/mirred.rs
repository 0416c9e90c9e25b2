//! mirred: `mirred egress mirror dev lan`.

use serde_json::{Map, Value};
use tidegate_classifiers::verdict::Control;
use tidegate_config::actions::show_control;

use super::{is_verdict, print_verdict, read_index, verdict};
use crate::arguments::{Failure, Words, number, stands_for};
use crate::printer::Printer;

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    read_index(words, table)?;
    if table.contains_key("index") {
        table.insert("kind".into(), "mirred".into());
        return Ok(());
    }
    let direction = words.value()?;
    let direction = ["egress", "ingress"]
        .into_iter()
        .find(|known| stands_for(direction, known))
        .ok_or_else(|| Failure::new(format!("mirred option not supported {direction}")))?;
    let mut what = None;
    let mut target = None;
    loop {
        match words.peek() {
            Some(word) if what.is_none() && stands_for(word, "mirror") => what = Some("mirror"),
            Some(word) if what.is_none() && stands_for(word, "redirect") => what = Some("redirect"),
            Some(word) if stands_for(word, "index") => {
                read_index(words, table)?;
                continue;
            }
            Some(word @ ("dev" | "blockid")) => {
                words.next();
                let (value, both) = (words.peek(), target.is_some());
                let text = match value.and_then(number).filter(|index| *index > 0) {
                    _ if both => return Err(Failure::new("mirred: \"dev\" and \"blockid\" are mutually exclusive")),
                    _ if word == "dev" => value.unwrap_or_default().to_owned(),
                    Some(index) => format!("block {index}"),
                    None => return Err(Failure::new("Illegal \"blockid\"")),
                };
                target = Some(text);
                words.value()?;
                continue;
            }
            _ => break,
        }
        words.next();
    }
    let (Some(what), Some(target)) = (what, target) else {
        return Err(Failure::new("mirred: a direction, mirror or redirect, and a dev or blockid must be given"));
    };
    let into = if direction == "ingress" { " ingress" } else { "" };
    let then = match what {
        "mirror" if words.peek().is_some_and(is_verdict) => match verdict(words)? {
            Control::Pipe => String::new(),
            verdict => format!(" then {}", show_control(verdict)),
        },
        _ => String::new(),
    };
    table.insert("action".into(), format!("{what} {target}{into}{then}").into());
    read_index(words, table)
}

pub(super) fn print(what: &str, words: &[&str], printer: &mut Printer) {
    let (block, rest) = match words {
        ["block", index, rest @ ..] if index.parse::<u32>().is_ok() => (index.parse::<u32>().ok(), rest),
        [_, rest @ ..] => (None, rest),
        [] => (None, words),
    };
    let (direction, rest) = match rest {
        ["ingress", rest @ ..] => ("ingress", rest),
        _ => ("egress", rest),
    };
    let verdict = match rest {
        ["then", verdict @ ..] => verdict,
        _ if what == "redirect" => &["stolen"],
        _ => &["pipe"],
    };
    printer.field("kind", "mirred", format_args!("mirred "));
    let title = |word: &str| word.split_at(1).0.to_uppercase() + word.split_at(1).1;
    printer.field("mirred_action", what, format_args!("({} {} ", title(direction), title(what)));
    printer.field("direction", direction, format_args!("to "));
    match block {
        Some(index) => printer.field("to_blockid", index, format_args!("block {index})")),
        None => {
            let dev = words.first().copied().unwrap_or("*");
            printer.field("to_dev", dev, format_args!("device {dev})"));
        }
    }
    print_verdict(" ", verdict, "", printer);
    printer.line();
}

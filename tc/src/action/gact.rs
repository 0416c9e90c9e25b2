//! gact: `drop`, `pass random determ drop 2`.

use serde_json::{Map, Value};
use tidegate_config::actions::show_control;

use super::{print_verdict, read_index, verdict};
use crate::arguments::{Failure, Words, decimal, stands_for};
use crate::printer::Printer;

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    table.insert("kind".into(), "gact".into());
    if !words.peek().is_some_and(|word| stands_for(word, "index")) {
        let mut action = show_control(verdict(words)?);
        if words.take_any(&["random"]) {
            let mode = words.value()?;
            let mode = ["netrand", "determ"].into_iter().find(|known| stands_for(mode, known));
            let mode = mode.ok_or_else(|| Failure::new("Illegal \"random type\""))?;
            let second = show_control(verdict(words)?);
            let one_in = words.value()?;
            let one_in = decimal(one_in).filter(|one_in| *one_in <= 10_000);
            let one_in = one_in.ok_or_else(|| Failure::new("Illegal probability val"))?;
            action = format!("{action} random {mode} {second} {}", one_in.max(1));
        }
        table.shift_remove("kind");
        table.insert("action".into(), action.into());
    }
    read_index(words, table)
}

pub(super) fn print(words: &[&str], printer: &mut Printer) {
    printer.field("kind", "gact", format_args!("gact "));
    let at = words.iter().position(|word| *word == "random").unwrap_or(words.len());
    let (first, random) = words.split_at(at);
    print_verdict("action ", first, "", printer);
    let (mode, second, one_in) = match random {
        [_, mode, second @ .., one_in] => (*mode, second, *one_in),
        _ => ("none", &["pass"][..], "0"),
    };
    printer.object(Some("prob"), |printer| {
        printer.line();
        printer.field("random_type", mode, format_args!("\t random type {mode}"));
        print_verdict(" ", second, " ", printer);
        printer.field("val", one_in.parse::<u32>().unwrap_or(0), format_args!("val {one_in}"));
    });
    printer.line();
}

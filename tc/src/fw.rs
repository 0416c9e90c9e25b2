//! fw: the packet's mark.

use serde_json::{Map, Value};

use crate::arguments::{Failure, Words, number};
use crate::filter;
use crate::printer::Printer;

/// Reads the options of a filter: the mark is its handle.
pub(crate) fn read(handle: Option<&str>, words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    let mut matches = Map::new();
    if let Some(handle) = handle {
        let illegal = || Failure::new(format!("Illegal \"handle\" {handle}"));
        let (mark, mask) = handle.split_once('/').map_or((handle, None), |(mark, mask)| (mark, Some(mask)));
        let mark = number(mark).ok_or_else(illegal)?;
        filter::put_handle(table, mark);
        let mark = match mask {
            None => mark.into(),
            Some(mask) => format!("{mark:#x}/{:#x}", number(mask).ok_or_else(illegal)?).into(),
        };
        matches.insert("mark".into(), mark);
    }
    while let Some(word) = words.next() {
        if word == "indev" {
            matches.insert("indev".into(), words.value()?.into());
        } else if !filter::read_common(word, words, table)? {
            return Err(filter::what_is(word));
        }
    }
    table.insert("match".into(), matches.into());
    Ok(())
}

/// The options of a filter.
pub(crate) fn print(filter: &Value, printer: &mut Printer) {
    let handle = &filter["handle"];
    let number = handle.as_u64().unwrap_or(0);
    let matches = &filter["match"];
    let mask = matches["mark"].as_str().and_then(|mark| mark.split_once('/')).map(|(_, mask)| mask);
    printer.field("handle", handle.clone(), format_args!("handle {number:#x}"));
    if let Some(mask) = mask {
        printer.field("fw", mask, format_args!("/{mask}"));
    }
    printer.text(format_args!(" "));
    if let Some(class) = filter["class"].as_str() {
        printer.field("classid", class, format_args!("classid {class} "));
    }
    if let Some(port) = matches["indev"].as_str() {
        printer.field("indev", port, format_args!("input dev {port} "));
    }
}

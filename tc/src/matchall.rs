//! matchall: every packet.

use serde_json::{Map, Value};

use crate::arguments::{Failure, Words, number};
use crate::filter;
use crate::printer::Printer;

/// Reads the options of a filter.
pub(crate) fn read(handle: Option<&str>, words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(handle) = handle {
        let number = number(handle);
        let number = number.ok_or_else(|| Failure::new(format!("Illegal handle \"{handle}\", must be numeric.")))?;
        filter::put_handle(table, number);
    }
    while let Some(word) = words.next() {
        if !filter::read_common(word, words, table)? {
            return Err(filter::what_is(word));
        }
    }
    Ok(())
}

/// The options of a filter.
pub(crate) fn print(filter: &Value, printer: &mut Printer) {
    filter::print_handle(filter, printer);
    if let Some(class) = filter["class"].as_str() {
        printer.field("flowid", class, format_args!("flowid {class} "));
    }
    filter::print_hardware(filter, printer);
}

//! tc chain: chains and their templates.

use serde_json::Value;
use tidegate_client::wire::Request;

use crate::arguments::{Failure, Words};
use crate::command::{Command, Verb};
use crate::filter::{self, Listed, Which};
use crate::flower;
use crate::printer::Printer;

/// `tc chain VERB ...`
pub(crate) fn command(verb: Verb, words: &mut Words<'_>) -> Result<Command, Failure> {
    let which = Which::read(words)?;
    if verb == Verb::Show {
        return match words.peek() {
            None => Ok(Command::ShowChains(which)),
            Some(word) => Err(Failure::syntax(format!(" What is \"{word}\"? Try \"tc chain help\""))),
        };
    }
    let mut table = which.table()?;
    table.entry("chain").or_insert_with(|| 0.into());
    if let Some(kind) = words.next() {
        table.entry("protocol").or_insert_with(|| "all".into());
        filter::read_kind(kind, None, words, &mut table).map_err(|failure| failure.or_code(1))?;
    }
    table.retain(|key, _| ["on", "chain", "protocol", "kind", "match"].contains(&key.as_str()));
    if !table.contains_key("kind") || matches!(verb, Verb::Delete | Verb::Get) {
        table.retain(|key, _| ["on", "chain"].contains(&key.as_str()));
    }
    let chain = Value::from(table);
    let request = match verb {
        Verb::Add | Verb::Replace => Request::AddChain { chain },
        Verb::Change => Request::ChangeChain { chain },
        Verb::Delete => Request::DeleteChain { chain },
        Verb::Get | Verb::Show => return Ok(Command::GetChain { chain, which }),
    };
    Ok(Command::Do { request, refused: filter::REFUSED })
}

/// A chain, as it is listed for `which`.
pub(crate) fn print(chain: &Value, which: &Which, how: Listed, printer: &mut Printer) {
    printer.object(None, |printer| {
        filter::print_how(how, printer);
        printer.text(format_args!("chain "));
        match &chain["on"] {
            Value::String(on) => {
                let port = on.strip_suffix("/egress").unwrap_or(on);
                if which.port.is_none() {
                    printer.field("dev", port, format_args!("dev {port} "));
                }
                printer.field("parent", "ffff:", format_args!("parent ffff: "));
            }
            _ => filter::print_place(chain, which, how, printer),
        }
        let kind = chain["kind"].as_str();
        if let Some(kind) = kind {
            printer.field("kind", kind, format_args!("{kind} "));
        }
        let index = &chain["chain"];
        printer.field("chain", index.clone(), format_args!("chain {index} "));
        if kind.is_some() {
            printer.object(Some("options"), |printer| flower::print_keys(chain, printer));
        }
        printer.line();
    });
}

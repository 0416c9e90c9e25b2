//! tc qdisc, tc class: `ingress` and `clsact` stand for the hooks of a port.

use std::collections::BTreeMap;

use tidegate_client::wire::{BlockInfo, Request};

use crate::arguments::{Failure, Words, number};
use crate::command::{Command, Refused, Verb};
use crate::printer::Printer;

const REFUSED: Refused = Refused { code: 2, trailer: "" };

/// `tc qdisc VERB ...`
pub(crate) fn command(verb: Verb, words: &mut Words<'_>) -> Result<Command, Failure> {
    let mut port = None;
    let mut blocks = [None, None];
    let mut kind = None;
    while let Some(word) = words.next() {
        match word {
            "dev" => port = Some(words.value()?.to_owned()),
            "handle" | "parent" => _ = words.value()?,
            "root" => {}
            "ingress_block" | "egress_block" => {
                let value = words.value()?;
                let index = number(value).filter(|index| *index > 0);
                let index = index.ok_or_else(|| Failure::wrong(value, "invalid block index value"))?;
                blocks[usize::from(word == "egress_block")] = Some(index);
            }
            word => {
                kind = Some(word.to_owned());
                break;
            }
        }
    }
    if verb == Verb::Show {
        return Ok(Command::ShowQdiscs { port });
    }
    while let Some(word) = words.next() {
        match word {
            "handle" => _ = words.value()?,
            _ => return Err(Failure { text: format!("What is \"{word}\"?"), code: Some(1) }),
        }
    }
    let Some(port) = port else {
        return Err(Failure { text: "RTNETLINK answers: No such device".into(), code: Some(2) });
    };
    let refuse = |text: &str| Err(Failure { text: format!("Error: {text}"), code: Some(2) });
    let request = match (verb, kind.as_deref()) {
        (_, None) => return refuse("Handle cannot be zero."),
        (Verb::Delete, Some("ingress" | "clsact")) => Request::Unbind { port },
        (Verb::Add, Some("ingress")) => {
            if blocks[1].is_some() {
                return refuse("Egress block sharing is not supported.");
            }
            Request::Bind { port, ingress: Some(blocks[0].unwrap_or(0)), egress: None }
        }
        (Verb::Add, Some("clsact")) => {
            let [ingress, egress] = blocks.map(|block| Some(block.unwrap_or(0)));
            Request::Bind { port, ingress, egress }
        }
        (_, Some("ingress" | "clsact")) => return refuse("Change operation not supported by specified qdisc."),
        (_, Some(_)) => return refuse("Specified qdisc kind is unknown."),
    };
    Ok(Command::Do { request, refused: REFUSED })
}

/// `tc class VERB ...`: hooks have none.
pub(crate) fn class_command(verb: Verb, words: &mut Words<'_>) -> Result<Command, Failure> {
    while let Some(word) = words.next() {
        if word == "dev" {
            words.value()?;
        }
    }
    match verb {
        Verb::Show => Ok(Command::Nothing(String::new())),
        _ => Err(Failure { text: "Error: Class does not support changes.".into(), code: Some(2) }),
    }
}

/// The hooks of one port.
#[derive(Default)]
struct Hooks {
    /// Index of each hook's block, if one is bound: ingress, egress.
    blocks: [Option<u32>; 2],
}

/// The qdiscs of `port`, or of all.
pub(crate) fn print(blocks: &[BlockInfo], port: Option<&str>, printer: &mut Printer) {
    let mut ports: BTreeMap<&str, Hooks> = BTreeMap::new();
    for block in blocks {
        for hook in &block.hooks {
            let (name, egress) = hook.strip_suffix("/egress").map_or((hook.as_str(), 0), |name| (name, 1));
            ports.entry(name).or_default().blocks[egress] = Some(block.index);
        }
    }
    for (name, Hooks { blocks }) in ports.iter().filter(|(name, _)| port.is_none_or(|port| port == **name)) {
        let kind = if blocks[1].is_some() { "clsact" } else { "ingress" };
        printer.object(None, |printer| {
            printer.text(format_args!("qdisc "));
            printer.field("kind", kind, format_args!("{kind} "));
            printer.field("handle", "ffff:", format_args!("ffff: "));
            if port.is_none() {
                printer.field("dev", *name, format_args!("dev {name} "));
            }
            printer.field("parent", "ffff:fff1", format_args!("parent ffff:fff1 "));
            for (block, key) in blocks.iter().zip(["ingress_block", "egress_block"]) {
                if let Some(index @ 1..) = *block {
                    printer.field(key, index, format_args!("{key} {index} "));
                }
            }
            printer.object(Some("options"), |_| {});
            if kind == "ingress" {
                printer.text(format_args!("---------------- "));
            }
            printer.line();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Style;

    /// [CL-5], [CL-6]
    #[test]
    fn hooks_are_listed_as_qdiscs() {
        let block = |on: &str, index, hooks: &[&str]| BlockInfo {
            on: on.into(),
            index,
            hooks: hooks.iter().map(|hook| (*hook).to_owned()).collect(),
            configured: false,
        };
        let blocks = [block("v0", 0, &["v0"]), block("v1", 0, &["v1/egress"]), block("", 21, &["v1", "v2"])];
        let printed = |port, style| {
            let mut printer = Printer::new(style);
            printer.begin_listing();
            print(&blocks, port, &mut printer);
            printer.end_listing();
            printer.take()
        };
        assert_eq!(
            printed(None, Style::default()),
            "qdisc ingress ffff: dev v0 parent ffff:fff1 ---------------- \n\
             qdisc clsact ffff: dev v1 parent ffff:fff1 ingress_block 21 \n\
             qdisc ingress ffff: dev v2 parent ffff:fff1 ingress_block 21 ---------------- \n"
        );
        assert_eq!(
            printed(Some("v1"), Style { json: true, ..Style::default() }),
            "[{\"kind\":\"clsact\",\"handle\":\"ffff:\",\"parent\":\"ffff:fff1\",\"ingress_block\":21,\"options\":{}}]\n"
        );
    }
}

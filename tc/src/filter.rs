//! tc filter: where, which, and what kind.

use serde_json::{Map, Value, json};
use tidegate_client::wire::{BlockName, Request};

use crate::action;
use crate::arguments::{Failure, Words, class, number, stands_for};
use crate::command::{Command, Refused, Verb};
use crate::printer::Printer;
use crate::{flower, fw, matchall, u32};

/// Names of protocols, and how the file calls them.
const PROTOCOLS: [(&str, &str); 11] = [
    ("all", "all"),
    ("ip", "ip"),
    ("ipv4", "ip"),
    ("ipv6", "ipv6"),
    ("arp", "arp"),
    ("rarp", "rarp"),
    ("802.1q", "802.1Q"),
    ("802.1ad", "802.1ad"),
    ("mpls_uc", "mpls_uc"),
    ("mpls_mc", "mpls_mc"),
    ("lldp", "lldp"),
];

/// Exit code of mistakes in the options of a kind, and of devices that are not there [CL-2].
const LOCAL: u8 = 1;

/// A refusal of requests about filters and chains.
pub(crate) const REFUSED: Refused = Refused { code: 2, trailer: "We have an error talking to the gateway" };

/// What a command line about filters or chains says before the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) port: Option<String>,
    pub(crate) block: Option<u32>,
    pub(crate) parent: Option<Parent>,
    pub(crate) chain: Option<u32>,
    pub(crate) priority: Option<u32>,
    pub(crate) protocol: Option<String>,
    pub(crate) handle: Option<String>,
}

/// The hook of a port, and how it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// `ingress`
    Ingress,
    /// `egress`
    Egress,
    /// `parent ffff:`, which is ingress too.
    Qdisc,
}

impl Parent {
    fn read(handle: &str) -> Result<Parent, Failure> {
        let handle = class(handle).ok_or_else(|| Failure::wrong(handle, "Invalid parent ID"))?;
        match handle.as_str() {
            "ffff:0" => Ok(Parent::Qdisc),
            "ffff:fff2" => Ok(Parent::Ingress),
            "ffff:fff3" => Ok(Parent::Egress),
            _ => Err(Failure {
                text: format!("Error: Parent Qdisc doesn't exists.\n{}", REFUSED.trailer),
                code: Some(2),
            }),
        }
    }

    /// Whether what is asked for is at the egress hook.
    fn is_egress(self) -> bool {
        self == Parent::Egress
    }
}

impl Which {
    /// Reads up to the kind.
    pub(crate) fn read(words: &mut Words<'_>) -> Result<Which, Failure> {
        let mut which = Which::default();
        while let Some(word) = words.peek() {
            let names = ["dev", "root", "ingress", "egress", "block", "parent", "handle", "chain", "estimator"];
            let known =
                names.contains(&word) || PRIORITY.iter().any(|name| stands_for(word, name)) || word == "protocol";
            if !known {
                break;
            }
            words.next();
            match word {
                "dev" => which.port = Some(words.value()?.to_owned()),
                "ingress" => which.parent = Some(Parent::Ingress),
                "egress" => which.parent = Some(Parent::Egress),
                "root" => which.parent = Some(Parent::read("none:")?),
                "parent" => which.parent = Some(Parent::read(words.value()?)?),
                "block" => {
                    let value = words.value()?;
                    let index = number(value).filter(|index| *index > 0);
                    which.block = Some(index.ok_or_else(|| Failure::wrong(value, "invalid block index value"))?);
                }
                "handle" => which.handle = Some(words.value()?.to_owned()),
                "chain" => {
                    let value = words.value()?;
                    let chain = number(value).ok_or_else(|| Failure::wrong(value, "invalid chain index value"))?;
                    which.chain = Some(chain);
                }
                "protocol" => {
                    let value = words.value()?;
                    let protocol = protocol(value).ok_or_else(|| Failure::wrong(value, "invalid protocol"))?;
                    which.protocol = Some(protocol);
                }
                "estimator" => return Err(Failure::syntax("estimators are not supported")),
                _ => {
                    let value = words.value()?;
                    let priority = number(value).filter(|priority| *priority <= 0xffff); // [CL-3]
                    which.priority = Some(priority.ok_or_else(|| Failure::wrong(value, "invalid priority value"))?);
                }
            }
        }
        if which.port.is_some() && which.block.is_some() {
            return Err(Failure::syntax("Error: \"dev\" and \"block\" are mutually exclusive"));
        }
        Ok(which)
    }

    /// The block that is meant.
    pub(crate) fn on(&self) -> Result<BlockName, Failure> {
        match (&self.port, self.block) {
            (_, Some(index)) => Ok(BlockName::Index(index)),
            (Some(port), None) if self.parent.is_some_and(Parent::is_egress) => {
                Ok(BlockName::Name(format!("{port}/egress")))
            }
            (Some(port), None) => Ok(BlockName::Name(port.clone())),
            (None, None) => Err(Failure { text: "RTNETLINK answers: No such device".into(), code: Some(REFUSED.code) }),
        }
    }

    /// As a table in the words of the file.
    pub(crate) fn table(&self) -> Result<Map<String, Value>, Failure> {
        let mut table = Map::new();
        table.insert("on".into(), self.on()?.to_value());
        if let Some(chain) = self.chain {
            table.insert("chain".into(), chain.into());
        }
        if let Some(priority) = self.priority.filter(|priority| *priority > 0) {
            table.insert("priority".into(), priority.into());
        }
        if let Some(protocol) = &self.protocol {
            table.insert("protocol".into(), protocol.as_str().into());
        }
        Ok(table)
    }
}

const PRIORITY: [&str; 2] = ["preference", "priority"];

/// `tc filter VERB ...`
pub(crate) fn command(verb: Verb, words: &mut Words<'_>) -> Result<Command, Failure> {
    let mut which = Which::read(words)?;
    if verb == Verb::Show {
        return match words.peek() {
            None => Ok(Command::ShowFilters(which)),
            Some(word) => Err(Failure::syntax(format!(" What is \"{word}\"? Try \"tc filter help\""))),
        };
    }
    if matches!(verb, Verb::Add | Verb::Replace) && which.protocol.is_none() {
        which.protocol = Some("all".into()); // [CL-3]
    }
    let mut table = which.table()?;
    let kind = words.next();
    match kind {
        Some(kind) => {
            read_kind(kind, which.handle.as_deref(), words, &mut table).map_err(|failure| failure.or_code(LOCAL))?
        }
        None if which.handle.is_some() => {
            return Err(Failure::syntax("Must specify filter type when using \"handle\""));
        }
        None => {}
    }
    let filter = match verb {
        Verb::Get | Verb::Delete => {
            table.retain(|key, _| ["on", "chain", "priority", "protocol", "kind", "handle"].contains(&key.as_str()));
            Value::from(table)
        }
        _ if kind.is_none() => {
            let text = format!("Error: Filter kind and protocol must be specified.\n{}", REFUSED.trailer);
            return Err(Failure { text, code: Some(REFUSED.code) });
        }
        _ => {
            table.entry("actions").or_insert_with(|| json!([]));
            Value::from(table)
        }
    };
    let request = match verb {
        Verb::Add => Request::AddFilter { filter },
        Verb::Replace => Request::ReplaceFilter { filter },
        Verb::Change => Request::ChangeFilter { filter },
        Verb::Delete => Request::DeleteFilter { filter },
        Verb::Get | Verb::Show => {
            let missing = [
                (which.protocol.is_none(), "protocol"),
                (which.priority.is_none(), "priority"),
                (which.handle.is_none(), "handle"),
                (kind.is_none(), "type"),
            ];
            if let Some((_, what)) = missing.iter().find(|(missing, _)| *missing) {
                return Err(Failure::syntax(format!("Must specify filter {what}")));
            }
            return Ok(Command::GetFilter { filter, which });
        }
    };
    Ok(Command::Do { request, refused: REFUSED })
}

/// Reads the options of `kind`.
pub(crate) fn read_kind(
    kind: &str,
    handle: Option<&str>,
    words: &mut Words<'_>,
    table: &mut Map<String, Value>,
) -> Result<(), Failure> {
    table.insert("kind".into(), kind.into());
    match kind {
        "flower" => flower::read(handle, words, table),
        "matchall" => matchall::read(handle, words, table),
        "fw" => fw::read(handle, words, table),
        "u32" => u32::read(handle, words, table),
        _ => match words.peek() {
            None => Ok(()),
            Some(word) => {
                Err(Failure::new(format!("Unknown filter \"{kind}\", hence option \"{word}\" is unparsable")))
            }
        },
    }
}

/// Options that every kind has. Returns whether `word` is one.
pub(crate) fn read_common(word: &str, words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<bool, Failure> {
    match word {
        "skip_hw" | "skip_sw" => _ = table.insert(word.into(), true.into()),
        "action" => _ = table.insert("actions".into(), action::read_list(words)?.into()),
        "flowid" => put_class(words, table)?,
        _ if word.len() > 1 && stands_for(word, "classid") => put_class(words, table)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn put_class(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    let class = class(words.value()?).ok_or_else(|| Failure::new("Illegal \"classid\""))?;
    table.insert("class".into(), class.into());
    Ok(())
}

/// A handle of 0 means none.
pub(crate) fn put_handle(table: &mut Map<String, Value>, handle: u32) {
    if handle != 0 {
        table.insert("handle".into(), handle.into());
    }
}

pub(crate) fn what_is(word: &str) -> Failure {
    Failure::new(format!("What is \"{word}\"?"))
}

/// A protocol in the words of the file.
pub(crate) fn protocol(word: &str) -> Option<String> {
    let known = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, name)| (*name).to_owned());
    known.or_else(|| match number(word)? {
        3 => Some("all".into()),
        number @ 0..=0xffff => Some(format!("{number:#06x}")),
        _ => None,
    })
}

/// A filter, or the head of a priority, as it is listed for `which`; `all` leaves nothing out.
pub(crate) fn print(filter: &Value, which: &Which, how: Listed, printer: &mut Printer) {
    printer.object(None, |printer| {
        print_how(how, printer);
        printer.text(format_args!("filter "));
        print_place(filter, which, how, printer);
        print_what(filter, which, how, printer);
    });
}

/// Why a filter is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// It was asked for: what the listing is restricted to is left out.
    Show,
    /// It was asked for by all of its numbers.
    Get,
    /// It was added, replaced, changed.
    Event(&'static str),
}

/// What happened, if something did.
pub(crate) fn print_how(how: Listed, printer: &mut Printer) {
    if let Listed::Event(what @ ("added" | "replaced" | "deleted")) = how {
        printer.field(what, true, format_args!("{what} "));
    }
}

/// `dev v0 ingress`, as far as the listing leaves it open.
pub(crate) fn print_place(filter: &Value, which: &Which, how: Listed, printer: &mut Printer) {
    match &filter["on"] {
        Value::Number(index) if which.block.is_none() => {
            printer.field("block", index.clone(), format_args!("block {index} "));
        }
        Value::String(on) => {
            let (port, egress) = on.strip_suffix("/egress").map_or((on.as_str(), false), |port| (port, true));
            if which.port.is_none() {
                printer.field("dev", port, format_args!("dev {port} "));
            }
            match which.parent {
                Some(Parent::Qdisc) if how == Listed::Get => {
                    printer.field("parent", "ffff:", format_args!("parent ffff: "))
                }
                Some(_) if how == Listed::Show => {}
                _ if egress => printer.field("egress", true, format_args!("egress ")),
                _ => printer.field("ingress", true, format_args!("ingress ")),
            }
        }
        _ => {}
    }
}

/// What comes after the place.
fn print_what(filter: &Value, which: &Which, how: Listed, printer: &mut Printer) {
    let fixed = |given: bool| given && how == Listed::Show;
    if !fixed(which.protocol.is_some())
        && let Some(protocol) = filter["protocol"].as_str()
    {
        printer.field("protocol", protocol, format_args!("protocol {protocol} "));
    }
    if !fixed(which.priority.is_some()) {
        let priority = &filter["priority"];
        printer.field("pref", priority.clone(), format_args!("pref {priority} "));
    }
    let kind = filter["kind"].as_str().unwrap_or_default();
    printer.field("kind", kind, format_args!("{kind} "));
    if !fixed(which.chain.is_some()) {
        let chain = filter["chain"].as_u64().unwrap_or(0);
        printer.field("chain", chain, format_args!("chain {chain} "));
    }
    // The head of a priority has nothing more.
    if !filter["stats"].is_null() {
        printer.object(Some("options"), |printer| {
            match kind {
                "flower" => flower::print(filter, printer),
                "matchall" => matchall::print(filter, printer),
                "fw" => fw::print(filter, printer),
                _ => u32::print(filter, printer),
            }
            action::print_list(filter["actions"].as_array().map(Vec::as_slice).unwrap_or_default(), printer);
        });
    }
    printer.line();
}

/// `handle 0x1`
pub(crate) fn print_handle(filter: &Value, printer: &mut Printer) {
    if let Some(handle) = filter["handle"].as_u64() {
        printer.field("handle", handle, format_args!("handle {handle:#x} "));
    }
}

/// What is said about hardware [HW-9].
pub(crate) fn print_hardware(filter: &Value, printer: &mut Printer) {
    let skip = (filter["skip_hw"] == true).then_some("skip_hw");
    for word in skip.into_iter().chain(["not_in_hw"]) {
        printer.line();
        printer.field(word, true, format_args!("  {word}"));
    }
}

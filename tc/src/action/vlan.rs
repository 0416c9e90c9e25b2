//! vlan: `vlan push id 10 protocol 802.1ad priority 3`.

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, VlanEdit, VlanSpec};
use tidegate_classifiers::verdict::Control;

use super::{print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words, number, stands_for};
use crate::printer::Printer;

const TPIDS: [(&str, u16); 2] = [("802.1Q", 0x8100), ("802.1ad", 0x88a8)];

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let mut what = None;
    let (mut id, mut tpid, mut priority) = (None, TPIDS[0].1, None);
    while let Some(word) = words.peek() {
        let known = ["pop", "push", "modify", "pop_eth", "push_eth", "id", "protocol", "priority"];
        let Some(name) = known.into_iter().find(|name| stands_for(word, name)) else { break };
        words.next();
        match name {
            "pop_eth" | "push_eth" => {
                return Err(Failure::new(format!("vlan {name}: a port here sends nothing but Ethernet")));
            }
            "pop" | "push" | "modify" => {
                if what.replace(name).is_some() {
                    return Err(Failure::new(format!("unexpected \"{word}\" - action already specified")));
                }
            }
            _ if !matches!(what, Some("push" | "modify")) => {
                return Err(Failure::wrong(word, "only valid for push/modify"));
            }
            "id" => id = Some(value(words, "id is invalid", |text| number(text)?.try_into().ok())?),
            "priority" => {
                priority = Some(value(words, "prio is invalid", |text| {
                    number(text).filter(|priority| *priority <= 7)?.try_into().ok()
                })?);
            }
            _ => {
                tpid = value(words, "protocol is invalid", |text| {
                    TPIDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, tpid)| *tpid)
                })?;
            }
        }
    }
    let control = verdict_or(words, Control::Pipe)?;
    let missing = || Failure::new(format!("id needs to be set for {}", what.unwrap_or_default()));
    let edit = match what {
        Some("pop") => VlanEdit::Pop,
        Some("push") => VlanEdit::Push { tpid, id: id.ok_or_else(missing)?, priority: priority.unwrap_or(0) },
        Some(_) => VlanEdit::Modify { tpid, id: id.ok_or_else(missing)?, priority },
        None if super::index_follows(words, table) => return Ok(None),
        None => return Err(Failure::new("vlan: pop, push or modify must be given")),
    };
    Ok(Some(VlanSpec { edit, control }.into()))
}

fn value<T>(words: &mut Words<'_>, wrong: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    let text = words.value()?;
    read(text).ok_or_else(|| Failure::wrong(text, wrong))
}

pub(super) fn print(spec: &VlanSpec, action: &Value, printer: &mut Printer) {
    printer.field("kind", "vlan", format_args!("vlan "));
    let (what, tag) = match spec.edit {
        VlanEdit::Pop => ("pop", None),
        VlanEdit::Push { tpid, id, priority } => ("push", Some((tpid, id, Some(priority)))),
        VlanEdit::Modify { tpid, id, priority } => ("modify", Some((tpid, id, priority))),
    };
    printer.field("vlan_action", what, format_args!(" {what}"));
    if let Some((tpid, id, priority)) = tag {
        printer.field("id", id, format_args!(" id {id}"));
        let protocol = if tpid == TPIDS[0].1 { TPIDS[0].0 } else { TPIDS[1].0 };
        printer.field("protocol", protocol, format_args!(" protocol {protocol}"));
        if let Some(priority) = priority {
            printer.field("priority", priority, format_args!(" priority {priority}"));
        }
    }
    print_control(" ", spec.control, "", printer);
    printer.line();
    print_holders("\t index ", action, printer);
}

/// From a listing of tc.
pub(super) fn import(listed: &Value) -> Result<String, String> {
    let what = listed["vlan_action"].as_str().unwrap_or_default();
    match what {
        "pop" => Ok("vlan pop".into()),
        "push" | "modify" => {
            let protocol = listed["protocol"].as_str().unwrap_or("802.1Q");
            let priority =
                listed["priority"].as_u64().map(|priority| format!(" priority {priority}")).unwrap_or_default();
            Ok(format!("vlan {what} {} protocol {protocol}{priority}", listed["id"]))
        }
        _ => Err(format!("the gateway has no vlan {what}")),
    }
}

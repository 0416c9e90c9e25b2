//! Requests as JSON, in the words of the file: what the control socket carries.

use serde_json::Value as Json;
use tidegate_classifiers::request::{ActionKind, ActionUse, ChainSpec, FilterKey, FilterSpec, KindName};

use crate::error::{ConfigErrors, Problems, Wrong};
use crate::filter;
use crate::names::Scope;
use crate::place::{Place, Source};
use crate::table::{Node, Table};
use crate::words::{choice, protocol};
use crate::{actions, flower, u32};

/// A filter, with the keys of `[[filter]]` but `on`. Two come back where its match suits both IPv4 and IPv6 and nothing
/// says which is meant. Priority and handle are 0 where they are not given.
///
/// # Errors
/// Everything that is wrong with it.
pub fn filter(json: Json, scope: Scope<'_>) -> Result<Vec<FilterSpec>, ConfigErrors> {
    read("filter", json, |table, problems| {
        let wanted = filter::read(table, scope, problems);
        wanted
            .into_iter()
            .flat_map(|wanted| {
                let first = wanted.priority.map_or(0, |(priority, _)| priority);
                wanted.specs(first)
            })
            .collect()
    })
}

/// Which filters: `chain`, `priority`, `protocol`, `kind` and `handle`, as far as they are given [RQ-4].
///
/// # Errors
/// Everything that is wrong with it.
pub fn filter_key(json: Json, scope: Scope<'_>) -> Result<FilterKey, ConfigErrors> {
    read("filter", json, |mut table, problems| {
        let kind =
            table.read("kind", problems, |node| Ok(choice(node.text()?, &filter::KINDS).unwrap_or(KindName::Unknown)));
        let key = FilterKey {
            chain: filter::read_chain(&mut table, scope, problems).unwrap_or(0),
            priority: filter::read_priority(&mut table, problems).flatten().map_or(0, |(priority, _)| priority),
            protocol: table.read("protocol", problems, protocol).unwrap_or(0),
            handle: table.read("handle", problems, u32::handle).unwrap_or(0),
            kind,
        };
        table.finish(problems);
        key
    })
}

/// A chain: its number or name as `chain`, and a template as `kind`, `protocol` and `match` if there is to be one [TM-1].
///
/// # Errors
/// Everything that is wrong with it.
pub fn chain(json: Json, scope: Scope<'_>) -> Result<ChainSpec, ConfigErrors> {
    read("chain", json, |mut table, problems| {
        let index = filter::read_chain(&mut table, scope, problems).unwrap_or(0);
        let template = table.has_any(&["kind", "match"]).then(|| filter::kinds(&mut table, scope.ports, problems).0);
        if let Some([_, _, ..]) = template.as_deref() {
            problems.push(table.place, Wrong::new("the template is for two protocols").hint("add protocol = \"ip\""));
        }
        table.finish(problems);
        ChainSpec { index, template: template.and_then(|mut kinds| Some(kinds.pop()?.1)) }
    })
}

/// Actions that stand alone: a list of action words, or of tables with `action`, `kind`, `index` and `cookie`.
///
/// # Errors
/// Everything that is wrong with them.
pub fn actions(json: Json, scope: Scope<'_>) -> Result<Vec<ActionUse>, ConfigErrors> {
    let mut problems = Problems::default();
    let node = Node::from_json(json, Place { source: problems.source(Source::named("actions".into())), offset: 0 });
    let nodes = filter::elements("actions", node, &mut problems);
    let read = nodes.into_iter().filter_map(|node| actions::read(node, "actions", scope, &mut problems)).collect();
    problems.finish(read)
}

/// Which action: `kind` and `index`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn action_key(json: Json) -> Result<(ActionKind, u32), ConfigErrors> {
    read("action", json, |mut table, problems| {
        let (kind, index) = actions::read_place(&mut table, problems);
        for (key, there) in [("kind", kind.is_some()), ("index", index.is_some())] {
            if !there {
                table.missing(key, "kind = \"gact\", index = 7");
            }
        }
        table.finish(problems);
        (kind.unwrap_or(ActionKind::Gact), index.unwrap_or(0))
    })
}

/// Value and mask of a key of a flower match that is a number, whichever words say it. `v6`: the match is for IPv6.
pub fn number(key: &str, words: &Json, v6: bool) -> Option<(u64, u64)> {
    flower::number(key, &Node::from_json(words.clone(), Place::default()), v6)
}

/// An ethertype by its words.
pub fn ethertype(words: &str) -> Option<u16> {
    protocol(&Node::from_json(words.into(), Place::default())).ok()
}

fn read<T>(what: &str, json: Json, read: impl FnOnce(Table, &mut Problems) -> T) -> Result<T, ConfigErrors> {
    let mut problems = Problems::default();
    let place = Place { source: problems.source(Source::named(what.to_owned())), offset: 0 };
    let table = Table::from_node(format!("the {what}"), Node::from_json(json, place), &mut problems);
    let value = read(table, &mut problems);
    problems.finish(value)
}

//! `[[filter]]`: one filter of the file.

use tidegate_classifiers::request::{ACTIONS_MAX, ActionSpec, CHAIN_MAX, ETH_P_ALL, KindSpec};
use tidegate_classifiers::verdict::Control;

use crate::actions::action;
use crate::error::{Problems, Wrong};
use crate::flower;
use crate::names::{self, Names};
use crate::place::Place;
use crate::table::{Node, Table, Value};
use crate::words::{choice, protocol, quote};

/// A filter that the file wants in a block.
pub(crate) struct Wanted {
    /// Place of the filter as a whole.
    pub(crate) place: Place,
    pub(crate) chain: u32,
    pub(crate) name: Option<(String, Place)>,
    pub(crate) priority: Option<(u32, Place)>,
    pub(crate) handle: Option<(u32, Place)>,
    /// Protocol, and kind with its match: two where the filter is for both IPv4 and IPv6; none if they are wrong.
    pub(crate) kinds: Vec<(u16, KindSpec)>,
    pub(crate) actions: Vec<(ActionSpec, Place)>,
}

/// The names that filters use.
pub(crate) struct Scope<'a> {
    pub(crate) ports: &'a Names,
    pub(crate) blocks: &'a Names,
    /// The chain names of each block.
    pub(crate) chains: &'a [Names],
    /// Port and block of each port that is bound to a block of another name.
    pub(crate) bound: &'a [(String, String)],
}

/// Reads a filter, and which block it is for. None if that is not known: then it is reported.
pub(crate) fn read(node: Node, scope: &Scope<'_>, problems: &mut Problems) -> Option<(usize, Wanted)> {
    let mut table = Table::from_node("[[filter]]", node, problems);
    let place = table.place;
    let block = block(&mut table, scope, problems);
    let chain_names = block.and_then(|block| scope.chains.get(block));

    let chain = match table.take("chain") {
        None => Some(0),
        Some(node) => problems.accept(node.place, chain(&node, chain_names).map_err(|wrong| wrong.of("chain"))),
    };
    let name = table.read("name", problems, |node| {
        let name = node.text()?;
        names::check(name)?;
        Ok((name.to_owned(), node.place))
    });
    let priority = match table.take("priority") {
        None => Some(None),
        Some(node) => {
            let number = node.number(1..=u32::MAX).map_err(|wrong| wrong.of("priority"));
            problems.accept(node.place, number).map(|number| Some((number, node.place)))
        }
    };
    let handle = table.read("handle", problems, |node| Ok((node.number(1..=u32::MAX)?, node.place)));
    let kinds = kinds(&mut table, scope.ports, problems);
    let actions = actions(&mut table, scope.ports, chain_names, problems);
    table.finish(problems);
    Some((block?, Wanted { place, chain: chain?, name, priority: priority?, handle, kinds, actions }))
}

fn block(table: &mut Table, scope: &Scope<'_>, problems: &mut Problems) -> Option<usize> {
    let Some(node) = table.take("on") else {
        table.missing("on", "say which port or block it is for: on = \"wan\"");
        return None;
    };
    let found = node.text().and_then(|name| {
        scope.blocks.find(name).map_err(|unknown| match scope.bound.iter().find(|(port, _)| port == name) {
            Some((_, block)) => Wrong::new(format!("port {} is bound to block {}", quote(name), quote(block)))
                .hint(format!("write on = \"{block}\"")),
            None => unknown,
        })
    });
    problems.accept(node.place, found.map_err(|wrong| wrong.of("on"))).map(|block| block as usize)
}

/// A name or a number. `names` is None if the block is not known.
fn chain(node: &Node, names: Option<&Names>) -> Result<u32, Wrong> {
    match (&node.value, names) {
        (Value::Text(name), Some(names)) => names.find(name),
        (Value::Text(_), None) => Ok(0),
        _ => node.number(0..=CHAIN_MAX),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Flower,
    Matchall,
}

fn kinds(table: &mut Table, ports: &Names, problems: &mut Problems) -> Vec<(u16, KindSpec)> {
    let kind = table
        .read("kind", problems, |node| choice(node.text()?, &[("flower", Kind::Flower), ("matchall", Kind::Matchall)]));
    let protocol = match table.take("protocol") {
        None => Ok(None),
        Some(node) => {
            problems.accept(node.place, protocol(&node).map_err(|wrong| wrong.of("protocol"))).map(Some).ok_or(())
        }
    };
    let matches = table.take("match");
    if let (Some(Kind::Matchall), Some(node)) = (kind, &matches) {
        problems.push(node.key, Wrong::new("match: kind \"matchall\" has none").hint("leave out kind, or the match"));
    }
    match (kind, matches) {
        (Some(Kind::Matchall), _) | (None, None) => {
            protocol.map(|protocol| vec![(protocol.unwrap_or(ETH_P_ALL), KindSpec::Matchall)]).unwrap_or_default()
        }
        (_, matches) => {
            let keys = match matches {
                Some(node) => Table::from_node("match", node, problems),
                None => Table::new("match", table.place, Default::default()),
            };
            let found = flower::read(keys, protocol.unwrap_or(None), ports, problems);
            let kinds = found.into_iter().map(|(protocol, spec)| (protocol, KindSpec::Flower(Box::new(spec))));
            protocol.map(|_| kinds.collect()).unwrap_or_default()
        }
    }
}

fn actions(
    table: &mut Table,
    ports: &Names,
    chains: Option<&Names>,
    problems: &mut Problems,
) -> Vec<(ActionSpec, Place)> {
    let mut written = 0;
    let mut parse = |node: &Node| {
        written += 1;
        action(node.text()?, ports, chains)
    };
    let one = table.take("action");
    let list = table.read_list("actions", problems, &mut parse);
    let actions = match (one, list) {
        (Some(node), Some(_)) => {
            let wrong = Wrong::new("action: there is `actions` as well").hint("put all of them in actions");
            problems.push(node.place, wrong);
            return Vec::new();
        }
        (Some(node), None) => {
            let parsed = problems.accept(node.place, parse(&node).map_err(|wrong| wrong.of("action")));
            parsed.map(|action| vec![(action, node.place)]).unwrap_or_default()
        }
        (None, Some(list)) => list,
        (None, None) => {
            table.missing("action", "to do nothing but count, write action = \"pass\"");
            return Vec::new();
        }
    };
    // [AC-9]
    if let Some((_, place)) = actions.get(ACTIONS_MAX) {
        problems.push(*place, Wrong::new(format!("actions: more than {ACTIONS_MAX}")).hint("go on in a chain: goto"));
    }
    for (action, place) in &actions {
        for control in action.controls() {
            if let Control::Jump(skipped) = control
                && skipped as usize > written
            {
                let wrong = Wrong::new(format!("jump {skipped} leads past the end"));
                problems
                    .push(*place, wrong.hint(format!("the filter has {written} actions, and is left after the last")));
            }
        }
    }
    actions
}

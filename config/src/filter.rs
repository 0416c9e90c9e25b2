//! `[[filter]]`: one filter, of the file or of a request.

use tidegate_classifiers::request::{
    ACTIONS_MAX, ActionUse, CHAIN_MAX, ETH_P_ALL, FilterOptions, FilterSpec, KindName, KindSpec, U32Spec,
};
use tidegate_classifiers::verdict::Control;

use crate::error::{Problems, Wrong};
use crate::names::{self, Names, Scope};
use crate::place::Place;
use crate::table::{Node, Table, Value};
use crate::words::{choice, protocol, quote};
use crate::{actions, flower, fw, u32, words};

pub(crate) const KINDS: [(&str, KindName); 4] =
    [("flower", KindName::Flower), ("matchall", KindName::Matchall), ("fw", KindName::Fw), ("u32", KindName::U32)];

/// A filter that somebody wants in a block.
pub(crate) struct Wanted {
    /// Place of the filter as a whole.
    pub(crate) place: Place,
    pub(crate) chain: u32,
    pub(crate) name: Option<(String, Place)>,
    pub(crate) priority: Option<(u32, Place)>,
    pub(crate) handle: Option<(u32, Place)>,
    /// Protocol, and kind with its match: two where the filter is for both IPv4 and IPv6; none if they are wrong.
    pub(crate) kinds: Vec<(u16, KindSpec)>,
    pub(crate) actions: Vec<(ActionUse, Place)>,
    pub(crate) options: FilterOptions,
}

impl Wanted {
    /// The filter, once for each of [`Wanted::kinds`]: the first at priority `first`, a second one after it; 0 leaves
    /// priorities to the plane.
    pub(crate) fn specs(self, first: u32) -> impl Iterator<Item = FilterSpec> {
        let name: Box<str> = self.name.map(|(name, _)| name.into()).unwrap_or_default();
        (0..).zip(self.kinds).map(move |(offset, (protocol, kind))| FilterSpec {
            chain: self.chain,
            priority: if first == 0 { 0 } else { first.saturating_add(offset) },
            protocol,
            handle: self.handle.map_or(0, |(handle, _)| handle),
            kind,
            actions: self.actions.iter().map(|(action, _)| action.clone()).collect(),
            name: name.clone(),
            options: self.options,
        })
    }
}

/// The names that a file gives.
pub(crate) struct FileNames<'a> {
    pub(crate) ports: &'a Names,
    pub(crate) blocks: &'a Names,
    /// The chain names of each block.
    pub(crate) chains: &'a [Names],
    /// Port and block of each port that is bound to a block of another name.
    pub(crate) bound: &'a [(String, String)],
}

/// Reads a filter of the file, and which block it is for. None if that is not known: then it is reported.
pub(crate) fn read_placed(node: Node, names: &FileNames<'_>, problems: &mut Problems) -> Option<(usize, Wanted)> {
    let mut table = Table::from_node("[[filter]]", node, problems);
    let block = block(&mut table, names, problems);
    let chains = block.and_then(|block| names.chains.get(block));
    let wanted = read(table, Scope { ports: names.ports, chains }, problems);
    Some((block?, wanted?))
}

/// Reads a filter. None if something is wrong that decides where it goes: that is reported.
pub(crate) fn read(mut table: Table, scope: Scope<'_>, problems: &mut Problems) -> Option<Wanted> {
    let place = table.place;
    let chain = read_chain(&mut table, scope, problems);
    let name = table.read("name", problems, |node| {
        let name = node.text()?;
        names::check(name)?;
        Ok((name.to_owned(), node.place))
    });
    let priority = read_priority(&mut table, problems);
    let handle = table.take("handle");
    let class = table.read("class", problems, |node| words::class(node.text()?));
    let skip_hw = table.read("skip_hw", problems, Node::boolean).unwrap_or(false);
    // Hardware that could do it alone: there is none [HW-9].
    table.read("skip_sw", problems, |node| match node.boolean()? {
        false => Ok(()),
        true => Err(Wrong::new("no hardware could do it").hint("leave it out")),
    });
    let (mut kinds, mark) = kinds(&mut table, scope.ports, problems);
    let options = match kinds.first_mut() {
        Some((_, KindSpec::U32(U32Spec::Node(node)))) => {
            node.class = class;
            FilterOptions { class: None, skip_hw }
        }
        _ => FilterOptions { class, skip_hw },
    };
    let handle = handle.and_then(|node| {
        let in_tables = matches!(kinds.first(), Some((_, KindSpec::U32(_))));
        let read = if in_tables { u32::handle(&node) } else { node.number(1..=u32::MAX) };
        Some((problems.accept(node.place, read.map_err(|wrong| wrong.of("handle")))?, node.place))
    });
    if let (Some((handle, place)), Some(mark)) = (handle, mark)
        && handle != mark
    {
        problems.push(place, Wrong::new("handle: is not the mark").hint("leave it out"));
    }
    let handle = handle.or(mark.map(|mark| (mark, place)));
    let actions = actions(&mut table, scope, problems);
    table.finish(problems);
    Some(Wanted { place, chain: chain?, name, priority: priority?, handle, kinds, actions, options })
}

/// The field `chain`: a name or a number, 0 if it is not there. None if it is wrong.
pub(crate) fn read_chain(table: &mut Table, scope: Scope<'_>, problems: &mut Problems) -> Option<u32> {
    match table.take("chain") {
        None => Some(0),
        Some(node) => problems.accept(node.place, chain(&node, scope.chains).map_err(|wrong| wrong.of("chain"))),
    }
}

/// The field `priority`, if it is there. None if it is wrong.
pub(crate) fn read_priority(table: &mut Table, problems: &mut Problems) -> Option<Option<(u32, Place)>> {
    match table.take("priority") {
        None => Some(None),
        Some(node) => {
            let number = node.number(1..=u32::MAX).map_err(|wrong| wrong.of("priority"));
            problems.accept(node.place, number).map(|number| Some((number, node.place)))
        }
    }
}

fn block(table: &mut Table, names: &FileNames<'_>, problems: &mut Problems) -> Option<usize> {
    let Some(node) = table.take("on") else {
        table.missing("on", "say which port or block it is for: on = \"wan\"");
        return None;
    };
    let found = node.text().and_then(|name| {
        names.blocks.find(name).map_err(|unknown| match names.bound.iter().find(|(port, _)| port == name) {
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

/// Protocol and kind with its match, as [`Wanted::kinds`]; and the mark that is the handle, of kind fw.
pub(crate) fn kinds(table: &mut Table, ports: &Names, problems: &mut Problems) -> (Vec<(u16, KindSpec)>, Option<u32>) {
    let kind = table.read("kind", problems, |node| choice(node.text()?, &KINDS));
    let protocol = match table.take("protocol") {
        None => Ok(None),
        Some(node) => {
            problems.accept(node.place, protocol(&node).map_err(|wrong| wrong.of("protocol"))).map(Some).ok_or(())
        }
    };
    let matches = table.take("match");
    if let (Some(KindName::Matchall), Some(node)) = (kind, &matches) {
        problems.push(node.key, Wrong::new("match: kind \"matchall\" has none").hint("leave out kind, or the match"));
    }
    let default = if matches.is_some() { KindName::Flower } else { KindName::Matchall };
    let keys = match matches {
        Some(node) => Table::from_node("match", node, problems),
        None => Table::new("match", table.place, Default::default()),
    };
    let mut mark = None;
    let kinds = match kind.unwrap_or(default) {
        KindName::Flower => {
            let found = flower::read(keys, protocol.unwrap_or(None), ports, problems);
            found.into_iter().map(|(protocol, spec)| (protocol, KindSpec::Flower(Box::new(spec)))).collect()
        }
        KindName::Fw => {
            let read = fw::read(keys, ports, problems);
            mark = read.map(|(mark, _)| mark);
            read.map(|(_, spec)| (ETH_P_ALL, KindSpec::Fw(spec))).into_iter().collect()
        }
        KindName::U32 => vec![(ETH_P_ALL, KindSpec::U32(u32::read(keys, ports, problems)))],
        KindName::Matchall | KindName::Unknown => vec![(ETH_P_ALL, KindSpec::Matchall)],
    };
    let Ok(protocol) = protocol else { return (Vec::new(), mark) };
    (kinds.into_iter().map(|(follows, kind)| (protocol.unwrap_or(follows), kind)).collect(), mark)
}

fn actions(table: &mut Table, scope: Scope<'_>, problems: &mut Problems) -> Vec<(ActionUse, Place)> {
    let (one, list) = (table.take("action"), table.take("actions"));
    let (key, nodes) = match (one, list) {
        (Some(node), Some(_)) => {
            let wrong = Wrong::new("action: there is `actions` as well").hint("put all of them in actions");
            problems.push(node.place, wrong);
            return Vec::new();
        }
        (Some(node), None) => ("action", vec![node]),
        (None, Some(node)) => ("actions", elements("actions", node, problems)),
        (None, None) => {
            table.missing("action", "to do nothing but count, write action = \"pass\"");
            return Vec::new();
        }
    };
    let written = nodes.len();
    let read = |node: Node| {
        let place = node.place;
        actions::read(node, key, scope, problems).map(|action| (action, place))
    };
    let actions: Vec<_> = nodes.into_iter().filter_map(read).collect();
    // [AC-9]
    if let Some((_, place)) = actions.get(ACTIONS_MAX) {
        problems.push(*place, Wrong::new(format!("actions: more than {ACTIONS_MAX}")).hint("go on in a chain: goto"));
    }
    for (action, place) in &actions {
        for control in action.spec.iter().flat_map(|spec| spec.controls()) {
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

/// The elements of the field `key`, which is a list.
pub(crate) fn elements(key: &str, node: Node, problems: &mut Problems) -> Vec<Node> {
    let wrong = node.expected("a list").hint("write it in brackets").of(key);
    match node.value {
        Value::List(elements) => elements,
        _ => {
            problems.push(node.place, wrong);
            Vec::new()
        }
    }
}

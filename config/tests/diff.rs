//! Diffs: what runs becomes what the file says, and what the file did not touch stays as it was.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_classifiers::block::Block as Running;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionSpec, ChainCursor, ChainInfo, ETH_P_ALL, FilterId, FilterInfo, FilterOptions, FilterSpec, GactSpec,
    KindSpec, Mode, Owner,
};
use tidegate_classifiers::verdict::Control;
use tidegate_config::diff::{Changes, diff, needs_restart, ports, settings, snapshot};
use tidegate_config::{Block, Config, Port, load_with};

const PORTS: &str = "[port.wan]\nforward_to = \"lan\"\n[port.lan]\nforward_to = \"wan\"\n[block.wan]\n";

fn try_load(text: &str) -> Option<Config> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("t.toml");
    std::fs::write(&file, text).expect("written");
    load_with(Path::new(&file), std::iter::empty()).ok()
}

fn load(text: &str) -> Config {
    try_load(&format!("{PORTS}{text}")).unwrap_or_else(|| panic!("not a configuration: {text}"))
}

fn wan(text: &str) -> Block {
    load(text).blocks.remove(0)
}

/// A block that runs.
struct Gate(Arc<Running>);

impl Gate {
    fn running(wanted: &Block) -> Gate {
        let gate = Gate(Running::new(1));
        gate.reload(wanted);
        gate
    }

    fn dump(&self) -> Vec<FilterInfo> {
        request::dump(&self.0)
    }

    fn chains(&self) -> Vec<ChainInfo> {
        request::dump_chains(&self.0, &mut ChainCursor::default(), usize::MAX)
    }

    fn diff(&self, wanted: &Block) -> Changes {
        diff(self.dump(), &self.chains(), wanted)
    }

    fn reload(&self, wanted: &Block) -> Changes {
        let changes = self.diff(wanted);
        self.apply(&changes).unwrap_or_else(|e| panic!("{e}: {changes:#?}"));
        changes
    }

    fn apply(&self, changes: &Changes) -> Result<(), RequestError> {
        let transaction = self.0.plane().begin_as(Owner::Configuration);
        for &chain in &changes.chains_added {
            transaction.add_chain(&self.0, chain)?;
        }
        let moved = || changes.replaced.iter().filter(|replaced| !replaced.in_place());
        for old in changes.removed.iter().chain(moved().map(|replaced| &replaced.old)) {
            let id = FilterId { chain: old.chain, priority: old.priority, handle: old.handle };
            transaction.delete_filter(&self.0, id)?;
        }
        for replaced in changes.replaced.iter().filter(|replaced| replaced.in_place()) {
            transaction.new_filter(&self.0, &replaced.new, Mode::Replace)?;
        }
        for new in changes.added.iter().chain(moved().map(|replaced| &replaced.new)) {
            transaction.new_filter(&self.0, new, Mode::Add)?;
        }
        for &chain in &changes.chains_removed {
            transaction.release_chain(&self.0, chain)?;
        }
        transaction.commit().expect("nobody else is there");
        Ok(())
    }

    /// Chain, priority and name of each filter, in order.
    fn order(&self) -> Vec<(u32, u32, String)> {
        let dump = self.dump();
        let mut order: Vec<_> = dump.iter().map(|info| (info.chain, info.priority, info.name.to_string())).collect();
        order.sort();
        order
    }

    fn place(&self, name: &str) -> FilterId {
        let dump = self.dump();
        let info = dump.iter().find(|info| &*info.name == name).expect("a filter of this name");
        FilterId { chain: info.chain, priority: info.priority, handle: info.handle }
    }
}

fn drop_port(name: &str, port: u16) -> String {
    format!(
        "[[filter]]\non = \"wan\"\nname = \"{name}\"\nprotocol = \"ip\"\nmatch = {{ ip_proto = \"udp\", dst_port = {port} }}\naction = \"drop\"\n"
    )
}

#[test]
fn from_nothing_numbers_are_those_of_the_file() {
    let wanted = wan(&format!("{}{}", drop_port("a", 1), drop_port("b", 2)));
    let gate = Gate::running(&wanted);
    let numbers = |spec: &FilterSpec| (spec.chain, spec.priority, spec.name.to_string());
    assert_eq!(gate.order(), wanted.filters.iter().map(numbers).collect::<Vec<_>>());
    assert!(gate.diff(&wanted).is_empty());
}

/// [RL-10]
#[test]
fn a_filter_that_stays_keeps_its_place_whatever_comes_and_goes_around_it() {
    let gate = Gate::running(&wan(&["a", "b", "c", "d"].map(|name| drop_port(name, 1)).concat().replace("udp", "tcp")));
    let before = ["b", "d"].map(|name| gate.place(name));
    let changes = gate
        .reload(&wan(&["x", "b", "y", "z", "d", "e"].map(|name| drop_port(name, 1)).concat().replace("udp", "tcp")));
    assert_eq!((changes.added.len(), changes.removed.len(), changes.unchanged), (4, 2, 2));
    assert_eq!(["b", "d"].map(|name| gate.place(name)), before);
    let names: Vec<_> = gate.order().into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(names, ["x", "b", "y", "z", "d", "e"]);
}

/// [RL-6]
#[test]
fn what_changed_is_replaced_at_its_place() {
    let gate = Gate::running(&wan(&["a", "b"].map(|name| drop_port(name, 1)).concat()));
    let place = gate.place("b");
    let changes = gate.reload(&wan(&format!("{}{}", drop_port("a", 1), drop_port("b", 2))));
    let [replaced] = &changes.replaced[..] else { panic!("{changes:?}") };
    assert!(replaced.in_place() && changes.added.is_empty() && changes.removed.is_empty());
    assert_eq!(gate.place("b"), place);
}

#[test]
fn a_priority_that_the_file_gives_is_the_files() {
    let gate = Gate::running(&wan(&drop_port("a", 1)));
    let fixed = drop_port("a", 1).replace("protocol", "priority = 7\nprotocol");
    let changes = gate.reload(&wan(&fixed));
    assert_eq!((changes.replaced.len(), gate.place("a").priority), (1, 7));
    // And when the file no longer says so, there is no reason to move.
    assert!(gate.diff(&wan(&drop_port("a", 1))).is_empty());
}

/// [RL-2]
#[test]
fn what_a_client_changed_is_changed_back_and_what_it_deleted_comes_back() {
    let wanted = wan(&["a", "b"].map(|name| drop_port(name, 1)).concat());
    let gate = Gate::running(&wanted);
    let mut changed = wanted.filters[0].clone();
    changed.actions = [pass()].into_iter().collect();
    request::new_filter(&gate.0, &changed, Mode::Replace).expect("replaced");
    request::delete_filter(&gate.0, gate.place("b")).expect("deleted");
    let changes = gate.reload(&wanted);
    assert_eq!((changes.replaced.len(), changes.added.len(), changes.removed.len()), (1, 1, 0));
    assert!(gate.diff(&wanted).is_empty());
}

fn pass() -> ActionSpec {
    ActionSpec::Gact(GactSpec { control: Control::Ok, random: None })
}

fn client(number: u32, priority: u32) -> FilterSpec {
    FilterSpec {
        chain: 0,
        priority,
        protocol: ETH_P_ALL,
        handle: 0,
        kind: KindSpec::Matchall,
        actions: [pass()].into_iter().collect(),
        name: format!("client-{number}").into(),
        options: FilterOptions::default(),
    }
}

#[test]
fn automatic_priorities_go_around_a_clients() {
    let gate = Gate::running(&wan(&["a", "c"].map(|name| drop_port(name, 1)).concat()));
    for (number, priority) in (0..).zip([11, 12, 13, 14, 15, 16, 17, 18, 30]) {
        request::add_filter(&gate.0, &client(number, priority)).expect("added");
    }
    gate.reload(&wan(&["a", "b", "c", "d"].map(|name| drop_port(name, 1)).concat()));
    assert_eq!((gate.place("b").priority, gate.place("d").priority), (19, 40));
}

#[test]
fn a_snapshot_brings_back_what_was() {
    let first = wan(&["a", "b", "c"].map(|name| drop_port(name, 1)).concat());
    let gate = Gate::running(&first);
    gate.reload(&wan(&["c", "x", "a"].map(|name| drop_port(name, 1)).concat())); // moves something
    let before = gate.order();
    let back = snapshot("wan", gate.dump(), &gate.chains());
    gate.reload(&wan(&["b", "c"].map(|name| drop_port(name, 2)).concat()));
    gate.reload(&back);
    assert_eq!(gate.order(), before);
}

#[test]
fn settings_that_change_are_named() {
    let running = load("");
    assert!(needs_restart(&settings(&running), &settings(&running)).is_empty());
    let mut wanted = running.clone();
    wanted.workers.ring_size = 64;
    wanted.ports[0].interface = "eth7".into();
    assert_eq!(
        needs_restart(&settings(&running), &settings(&wanted)),
        [
            "port.wan.interface: \"eth7\" instead of \"wan\": needs a restart",
            "workers.ring_size: 64 instead of 2048: needs a restart"
        ]
    );
    let mut others = running.clone();
    others.ports.push(Port { id: PortId(7), name: "dmz".into(), ..running.ports[0].clone() });
    others.ports.swap(0, 1);
    assert!(needs_restart(&settings(&running), &settings(&others)).is_empty());
    assert!(needs_restart(&settings(&others), &settings(&running)).is_empty());
    assert_eq!(ports(&settings(&others)).into_iter().collect::<Vec<_>>(), ["dmz", "lan", "wan"]);
}

/// A filter of a random file: name, chain, explicit priority, match, action.
type Random = (Option<u8>, u8, Option<u8>, u8, u8);

fn text(filters: &[Random]) -> String {
    let filter = |&(name, chain, priority, matching, action): &Random| {
        let name = name.map(|name| format!("name = \"f{name}\"\n")).unwrap_or_default();
        let priority =
            priority.map(|priority| format!("priority = {}\n", 5 * u32::from(priority) + 1)).unwrap_or_default();
        let matching = match matching {
            0 => String::new(),
            1 => "match = { ip_proto = \"tcp\" }\n".into(), // both IPv4 and IPv6
            2..5 => format!("protocol = \"ip\"\nmatch = {{ ip_proto = \"udp\", dst_port = {matching} }}\n"),
            _ => format!("protocol = \"ip\"\nmatch = {{ src_ip = \"10.{matching}.0.0/16\" }}\n"),
        };
        let action = ["pass", "drop", "goto 2", "mirror lan then continue"][usize::from(action)];
        format!("[[filter]]\non = \"wan\"\nchain = {chain}\n{name}{priority}{matching}action = \"{action}\"\n")
    };
    let anchor = "[[filter]]\non = \"wan\"\nchain = 2\nprotocol = \"arp\"\naction = \"pass\"\n".to_owned();
    filters.iter().map(filter).chain([anchor]).collect()
}

fn random() -> impl Strategy<Value = Block> {
    let filter = (
        prop::option::of(0u8..6),
        prop::sample::select(vec![0u8, 0, 0, 2]),
        prop::option::weighted(0.3, 0u8..12),
        0u8..8,
        0u8..4,
    );
    prop::collection::vec(filter, 0..10).prop_filter_map("files with mistakes", |filters| {
        try_load(&format!("{PORTS}{}", text(&filters))).map(|mut config| config.blocks.remove(0))
    })
}

/// A filter in words, with everything but open numbers.
type Words = (u32, u16, String);

/// What the file says, in order of priority; in no special order within one.
fn said(wanted: &Block) -> Vec<Words> {
    let filter = |spec: &FilterSpec| {
        let actions: Vec<_> = spec.actions.iter().map(|action| action.spec.clone()).collect();
        let words = format!("{} {:?} {actions:?}", spec.name, spec.kind);
        ((spec.chain, spec.priority), (spec.chain, spec.protocol, words))
    };
    ordered(wanted.filters.iter().map(filter))
}

fn ordered(filters: impl Iterator<Item = ((u32, u32), Words)>) -> Vec<Words> {
    let mut filters: Vec<_> = filters.collect();
    filters.sort();
    filters.into_iter().map(|(_, words)| words).collect()
}

fn runs(gate: &Gate) -> Vec<Words> {
    let filter = |info: FilterInfo| {
        let actions: Vec<_> = info.actions.iter().map(|action| Some(action.spec.clone())).collect();
        let words = format!("{} {:?} {actions:?}", info.name, info.matches);
        ((info.chain, info.priority), (info.chain, info.protocol, words))
    };
    ordered(gate.dump().into_iter().filter(|info| info.owner == Owner::Configuration).map(filter))
}

fn count(said: &[Words]) -> BTreeMap<&Words, usize> {
    let mut counts = BTreeMap::new();
    said.iter().for_each(|filter| *counts.entry(filter).or_default() += 1);
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_global_rejects: 40_000, ..ProptestConfig::default() })]

    #[test]
    fn what_runs_becomes_what_the_file_says(a in random(), b in random(), c in random()) {
        let gate = Gate::running(&a);
        for wanted in [&b, &c, &a] {
            let before = gate.dump();
            let changes = gate.diff(wanted);
            gate.apply(&changes).map_err(|e| TestCaseError::fail(format!("{e}: {changes:#?}")))?;
            prop_assert_eq!(runs(&gate), said(wanted));
            let again = gate.diff(wanted);
            prop_assert!(again.is_empty(), "{:#?}", again);
            prop_assert_eq!(again.unchanged, wanted.filters.len());
            let after = gate.dump();
            let kept = before.iter().filter(|info| after.contains(info)).count();
            prop_assert!(kept >= changes.unchanged, "{before:#?} {after:#?} {changes:#?}");
        }
    }

    #[test]
    fn without_given_priorities_only_what_changed_is_touched(
        old in prop::collection::vec(0u8..40, 0..30),
        new in prop::collection::vec(0u8..40, 0..30),
    ) {
        let file = |names: &[u8]| {
            let mut seen = std::collections::HashSet::new();
            let text: String = names.iter().filter(|name| seen.insert(**name)).map(|name| drop_port(&format!("f{name}"), 1)).collect();
            wan(&text)
        };
        let (old, mut new) = (file(&old), file(&new));
        let gate = Gate::running(&old);
        request::add_filter(&gate.0, &client(0, 25)).expect("added");
        let foreign = gate.dump().into_iter().find(|info| info.owner == Owner::Client);
        let changes = gate.reload(&new);
        prop_assert_eq!(runs(&gate), said(&new));
        prop_assert_eq!(gate.dump().into_iter().find(|info| info.owner == Owner::Client), foreign);
        let (was, is) = (said(&old), said(&new));
        let common = count(&is).keys().filter(|filter| count(&was).contains_key(*filter)).count();
        prop_assert_eq!(changes.unchanged + changes.replaced.len(), common);
        new.chains.clear();
        new.filters.clear();
        new.numbers.clear();
        gate.reload(&new);
        prop_assert_eq!(gate.dump().len(), 1, "only the client's is left");
    }
}

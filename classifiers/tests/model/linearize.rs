//! Whether some order of the requests explains a history: one in which each takes effect at a moment between its beginning
//! and its end. The search of Wing and Gong, which does not try again what it has seen to fail.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

use tidegate_classifiers::request::{ActionKind, ActionUse, ETH_P_ALL, FilterId, FilterInfo, KindName, Record};

use crate::ask::{Answer, Ask, Outcome};
use crate::history::{History, INJECTED, Op};
use crate::model::{Ghost, Holds, Model, Numbers};

/// Steps after which the search gives up.
const STEPS_MAX: usize = 300_000;

/// What the search found.
#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    Explained,
    /// No order explains it; what the most promising one failed at.
    Impossible(String),
    TooLarge,
}

/// Looks for an order that explains the answers, the listings beside it, and what was there in the end.
pub(crate) fn check(history: &History) -> Finding {
    let mut search = Search::new(history);
    if search.step(&Model::new()) {
        return Finding::Explained;
    }
    if search.steps < STEPS_MAX && search.unlisted {
        // Listings depend on the way to a state, not on the state alone: now without the memory.
        search.forgetful = true;
        if search.step(&Model::new()) {
            return Finding::Explained;
        }
    }
    if search.steps >= STEPS_MAX { Finding::TooLarge } else { Finding::Impossible(search.reason) }
}

/// A request about a filter with actions takes up to three steps: the actions are held; the filter is committed or deleted;
/// what it held or replaced is given back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Holding(Holds),
    GivingBack(Holds),
}

struct Search<'a> {
    history: &'a History,
    /// Requests of each thread that are to be ordered; listings are not.
    threads: Vec<Vec<&'a Op>>,
    /// How many of each thread have their place.
    placed: Vec<usize>,
    /// How far the next request of each thread has come, if it is half done.
    stages: Vec<Option<Stage>>,
    /// In the order of this attempt, with what was there after each.
    order: Vec<(&'a Op, Model)>,
    failed: HashSet<(Vec<usize>, Vec<Option<Stage>>, u64)>,
    steps: usize,
    /// Some actions have indexes that the moment chose.
    automatic: bool,
    /// An order explained all but a listing.
    unlisted: bool,
    forgetful: bool,
    furthest: usize,
    reason: String,
}

impl<'a> Search<'a> {
    fn new(history: &'a History) -> Search<'a> {
        let mut threads: Vec<Vec<&Op>> = Vec::new();
        for op in history.ops.iter().filter(|op| !op.ask.is_listing()) {
            threads.resize_with(threads.len().max(op.thread + 1), Vec::new);
            threads[op.thread].push(op);
        }
        let automatic = |op: &Op| match &op.ask {
            Ask::NewFilter(_, spec, _) => spec.actions.iter().any(|it| it.index == 0),
            _ => false,
        };
        Search {
            automatic: history.ops.iter().any(automatic),
            history,
            placed: vec![0; threads.len()],
            stages: vec![None; threads.len()],
            threads,
            order: Vec::new(),
            failed: HashSet::new(),
            steps: 0,
            unlisted: false,
            forgetful: false,
            furthest: 0,
            reason: String::new(),
        }
    }

    /// Whether the rest can be ordered from here.
    fn step(&mut self, model: &Model) -> bool {
        self.steps += 1;
        if self.steps >= STEPS_MAX {
            return false;
        }
        let next = |thread: usize| self.threads[thread].get(self.placed[thread]).copied();
        let candidates: Vec<&Op> = (0..self.threads.len()).filter_map(next).collect();
        let Some(first_end) = candidates.iter().map(|op| op.end).min() else {
            return self.is_end(model);
        };
        let memory = (self.placed.clone(), self.stages.clone(), fingerprint(model));
        if !self.forgetful && self.failed.contains(&memory) {
            return false;
        }
        for op in candidates.into_iter().filter(|op| op.start < first_end) {
            let stage = self.stages[op.thread].take();
            for (after, next_stage) in self.successors(model, op, stage.as_ref()) {
                let is_over = next_stage.is_none();
                let is_commit =
                    !matches!(stage, Some(Stage::GivingBack(_))) && !matches!(next_stage, Some(Stage::Holding(_)));
                self.stages[op.thread] = next_stage;
                self.placed[op.thread] += usize::from(is_over);
                self.order.extend(is_commit.then(|| (op, after.clone())));
                if self.step(&after) {
                    return true;
                }
                self.order.truncate(self.order.len() - usize::from(is_commit));
                self.placed[op.thread] -= usize::from(is_over);
            }
            self.stages[op.thread] = stage;
        }
        self.failed.insert(memory);
        false
    }

    /// What there can be after a step of `op`, given what it said in the end, and how far it is then.
    fn successors(&mut self, model: &Model, op: &Op, stage: Option<&Stage>) -> Vec<(Model, Option<Stage>)> {
        let mut after = model.clone();
        if let Some(Stage::GivingBack(holds)) = stage {
            after.give_back(holds.clone());
            return vec![(after, None)];
        }
        let held = match stage {
            Some(Stage::Holding(holds)) => Some(holds.clone()),
            _ => None,
        };
        if op.outcome == Err(INJECTED) {
            after.give_back(held.unwrap_or_default());
            return vec![(after, None)];
        }
        let numbers = match op.outcome {
            Ok(Answer::Id(id)) => Numbers::As(id),
            _ => Numbers::AsRuled,
        };
        let mut all = Vec::new();
        if !self.automatic && matches!(op.ask, Ask::NewFilter(..) | Ask::DeleteFilter(..)) {
            if stage.is_none()
                && let Some((holds, after)) = begin(model, op)
            {
                all.push((after, Some(Stage::Holding(holds))));
            }
            let mut after = model.clone();
            let (expected, late) = after.commit(held.clone(), &op.ask, numbers, true);
            if alike(op, &expected) && !late.is_empty() {
                all.push((after, Some(Stage::GivingBack(late))));
            }
        }
        if let Some(held) = held {
            let (expected, _) = after.commit(Some(held), &op.ask, numbers, false);
            all.extend(alike(op, &expected).then_some((after, None)));
            return all;
        }
        let at_once = self.at_once(model, op, numbers);
        at_once.into_iter().map(|after| (after, None)).chain(all).collect()
    }

    /// What there can be after `op` in one step.
    fn at_once(&mut self, model: &Model, op: &Op, numbers: Numbers) -> Vec<Model> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for ghosts in self.ghosts(op) {
            let mut after = model.clone();
            let expected = after.apply_beside(&ghosts, &op.ask, numbers);
            if alike(op, &expected) && seen.insert(fingerprint(&after)) {
                all.push(after);
            } else if self.order.len() >= self.furthest && all.is_empty() {
                self.furthest = self.order.len();
                self.reason = format!("after {} requests:\n{op}   expected {expected:?}", self.order.len());
            }
        }
        all
    }

    /// What `op` may meet of requests beside it: nothing first, then ever more.
    fn ghosts(&self, op: &Op) -> Vec<Vec<Ghost>> {
        let beside = || self.history.ops.iter().filter(|other| overlap(op, other));
        let chain = chain_of(&op.ask);
        let holds =
            |other: &Op| matches!(other.ask, Ask::Dump(..) | Ask::DumpChains(..)) || chain_of(&other.ask) == chain;
        let held: Vec<Ghost> = chain.filter(|_| beside().any(holds)).map(Ghost::Held).into_iter().collect();
        let is_new_filter = matches!(op.ask, Ask::NewFilter(..));
        let protos = beside().filter(|_| is_new_filter).flat_map(|other| ghost_protos(&other.ask));
        let protos: Vec<Ghost> = protos.collect();
        let holders: Vec<Ghost> = beside().flat_map(|other| ghost_holders(&other.ask)).collect();
        let is_about_actions =
            matches!(op.ask, Ask::AddActions(..) | Ask::DeleteActions(_) | Ask::GetAction(..) | Ask::FlushActions(_));
        let mut all = vec![Vec::new()];
        if is_about_actions || is_new_filter {
            all.extend(holders.iter().map(|holder| vec![holder.clone()]));
        }
        if !is_about_actions {
            let mut more = Vec::new();
            for ghosts in &all {
                if !held.is_empty() {
                    more.push([&held[..], ghosts].concat());
                }
                more.extend(protos.iter().map(|proto| [&held[..], ghosts, std::slice::from_ref(proto)].concat()));
            }
            all.extend(more);
        }
        all
    }

    /// Whether an order that explains all answers also explains what was there in the end, and the listings.
    fn is_end(&mut self, model: &Model) -> bool {
        for (ask, outcome) in &self.history.end {
            if self.automatic && matches!(ask, Ask::DumpActions(..)) {
                continue;
            }
            let (expected, _) = model.clone().apply(ask, Numbers::AsRuled);
            if in_any_order(&expected) != in_any_order(outcome) {
                self.reason = format!("in the end, {ask:?} says\n   {outcome:?}, expected\n   {expected:?}");
                self.furthest = usize::MAX;
                return false;
            }
        }
        for op in self.history.ops.iter().filter(|op| op.ask.is_listing()) {
            if let Err(reason) = self.listing(op) {
                self.reason = format!("{reason}, in\n{op}");
                self.furthest = usize::MAX;
                self.unlisted = true;
                return false;
            }
        }
        true
    }

    /// [WK-6]: what is there unchanged all the time is listed once; what comes or goes meanwhile may be; nothing else is.
    fn listing(&self, op: &Op) -> Result<(), String> {
        let states: Vec<Model> =
            std::iter::once(Model::new()).chain(self.order.iter().map(|(_, state)| state.clone())).collect();
        let positions = |wanted: &dyn Fn(&Op) -> bool| -> Vec<usize> {
            self.order.iter().enumerate().filter(|(_, (it, _))| wanted(it)).map(|(at, _)| at).collect()
        };
        let before = positions(&|it| it.end < op.start);
        let beside = positions(&|it| overlap(op, it));
        let first = before.last().map_or(0, |at| at + 1); // the state after those that ended before
        let last = beside.last().map_or(first, |at| first.max(at + 1));
        let earliest = beside.first().map_or(first, |&at| first.min(at));
        match &op.outcome {
            Ok(Answer::Records(records)) => {
                let filters: Vec<_> = states.iter().map(Model::filters).collect();
                let touched = touched(&filters, &beside);
                check_filters(records, &filters[first], &filters[earliest..=last], &touched)
            }
            Ok(Answer::Chains(infos)) => {
                let chains: Vec<BTreeMap<u32, ()>> =
                    states.iter().map(|state| state.chains().into_iter().map(|chain| (chain, ())).collect()).collect();
                let touched = touched(&chains, &beside);
                let asked: BTreeSet<_> = beside.iter().filter_map(|&at| chain_of(&self.order[at].0.ask)).collect();
                let listed: Vec<u32> = infos.iter().map(|info| info.index).collect();
                for &chain in chains[first].keys().filter(|chain| !touched.contains_key(chain)) {
                    if listed.iter().filter(|&&it| it == chain).count() != 1 {
                        return Err(format!("chain {chain}, which was there all the time, is not listed once"));
                    }
                }
                let known = |chain: &u32| {
                    asked.contains(chain) || chains[earliest..=last].iter().any(|it| it.contains_key(chain))
                };
                listed
                    .iter()
                    .find(|&chain| !known(chain))
                    .map_or(Ok(()), |chain| Err(format!("there was no chain {chain}")))
            }
            other => Err(format!("{other:?} is no listing")),
        }
    }
}

/// A new filter half done: it holds numbered actions.
fn begin(model: &Model, op: &Op) -> Option<(Holds, Model)> {
    let Ask::NewFilter(_, spec, _) = &op.ask else { return None };
    if spec.actions.iter().all(|it| it.index == 0) {
        return None;
    }
    let mut after = model.clone();
    Some((after.hold(&spec.actions)?, after))
}

/// Which keys the requests at these places of the order changed, and how often.
fn touched<K: Ord + Copy, V: PartialEq>(states: &[BTreeMap<K, V>], places: &[usize]) -> BTreeMap<K, usize> {
    let mut touched = BTreeMap::new();
    for (was, is) in places.iter().map(|&at| (&states[at], &states[at + 1])) {
        let keys: BTreeSet<_> = was.keys().chain(is.keys()).filter(|key| was.get(key) != is.get(key)).collect();
        keys.into_iter().for_each(|&key| *touched.entry(key).or_default() += 1);
    }
    touched
}

fn check_filters(
    records: &[Record],
    before: &BTreeMap<FilterId, FilterInfo>,
    states: &[BTreeMap<FilterId, FilterInfo>],
    touched: &BTreeMap<FilterId, usize>,
) -> Result<(), String> {
    let mut counts: BTreeMap<FilterId, usize> = BTreeMap::new();
    let mut header = None;
    for record in records {
        let filter = match record {
            Record::Proto(proto) => {
                header = Some((proto.chain, proto.priority));
                continue;
            }
            Record::Filter(filter) => FilterInfo { actions: Vec::new(), ..filter.clone() },
        };
        let id = FilterId { chain: filter.chain, priority: filter.priority, handle: filter.handle };
        if header != Some((id.chain, id.priority)) {
            return Err(format!("{id:?} is listed under {header:?}")); // [WK-4]
        }
        if !states.iter().any(|state| state.get(&id) == Some(&filter)) {
            return Err(format!("there was no such {id:?}"));
        }
        *counts.entry(id).or_default() += 1;
    }
    for (id, &count) in &counts {
        let most = 1 + touched.get(id).unwrap_or(&0);
        if count > most {
            return Err(format!("{id:?} is listed {count} times"));
        }
    }
    match before.keys().find(|id| !touched.contains_key(id) && !counts.contains_key(id)) {
        Some(id) => Err(format!("{id:?}, which was there all the time, is not listed")),
        None => Ok(()),
    }
}

fn overlap(a: &Op, b: &Op) -> bool {
    a.start < b.end && b.start < a.end && a.start != b.start
}

/// The chain a request is about.
fn chain_of(ask: &Ask) -> Option<u32> {
    match ask {
        Ask::NewFilter(_, spec, _) => Some(spec.chain),
        Ask::DeleteFilter(_, key) | Ask::GetFilter(_, key) => Some(key.chain),
        Ask::AddChain(_, spec) | Ask::ChangeChain(_, spec) => Some(spec.index),
        Ask::DeleteChain(_, chain) | Ask::GetChain(_, chain) => Some(*chain),
        _ => None,
    }
}

/// Protos without filters that others may meet beside this request: of a filter that is not committed yet, or of the last
/// one that was just deleted.
fn ghost_protos(ask: &Ask) -> Vec<Ghost> {
    match ask {
        Ask::NewFilter(_, spec, _) if spec.priority != 0 => {
            vec![Ghost::Proto(spec.chain, spec.priority, spec.protocol, spec.kind.name())]
        }
        Ask::DeleteFilter(_, key) if key.handle != 0 => {
            let kinds = [KindName::Flower, KindName::Matchall];
            let ghost =
                |kind| [ETH_P_ALL, 0x0800].map(|protocol| Ghost::Proto(key.chain, key.priority, protocol, kind));
            kinds.into_iter().flat_map(ghost).collect()
        }
        _ => Vec::new(),
    }
}

/// Actions that the filter may hold for a while before it fails.
fn ghost_holders(ask: &Ask) -> Vec<Ghost> {
    match ask {
        Ask::NewFilter(_, spec, _) => {
            let created = |it: &&ActionUse| it.kind == ActionKind::Gact && it.index != 0;
            spec.actions.iter().filter(created).cloned().map(Ghost::Holder).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether an answer is the expected one, for concurrent requests: a filter's actions are not looked at in the same moment
/// as the filter, and in a chain that nobody sees nothing is found, whatever that is called [ER-13].
fn alike(op: &Op, expected: &Outcome) -> bool {
    let (outcome, is_get) = (&op.outcome, matches!(op.ask, Ask::GetFilter(..)));
    match (expected, outcome) {
        (Ok(Answer::Filter(a)), Ok(Answer::Filter(b))) => {
            FilterInfo { actions: Vec::new(), ..a.clone() } == FilterInfo { actions: Vec::new(), ..b.clone() }
        }
        (Err("EINVAL" | "ENOENT"), Err("EINVAL" | "ENOENT")) => is_get || expected == outcome,
        _ => expected == outcome,
    }
}

/// Chains that gotos made come where the moment puts them; actions are compared in their own listing.
fn in_any_order(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    match &mut outcome {
        Ok(Answer::Records(records)) => {
            for record in &mut *records {
                if let Record::Filter(filter) = record {
                    filter.actions.clear();
                }
            }
            records.sort_by_key(|record| match record {
                Record::Proto(proto) => proto.chain,
                Record::Filter(filter) => filter.chain,
            });
        }
        Ok(Answer::Chains(chains)) => chains.sort_by_key(|chain| chain.index),
        _ => {}
    }
    outcome
}

/// Tells states apart.
fn fingerprint(model: &Model) -> u64 {
    struct Hashing(DefaultHasher);
    impl Write for Hashing {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0.write(s.as_bytes());
            Ok(())
        }
    }
    let mut hashing = Hashing(DefaultHasher::new());
    write!(hashing, "{model:?}").expect("hashing does not fail");
    hashing.0.finish()
}

#[cfg(test)]
mod tests {
    use tidegate_classifiers::request::{DumpFilter, FilterKey, FilterSpec, KindSpec, Mode};

    use super::*;
    use crate::ask::{Slot, Subject};

    const ALL: DumpFilter = DumpFilter { chain: None, priority: 0, protocol: 0 };

    fn add(priority: u32) -> Ask {
        let (kind, actions) = (KindSpec::Matchall, Default::default());
        let spec = FilterSpec {
            options: Default::default(),
            chain: 0,
            priority,
            protocol: ETH_P_ALL,
            handle: 1,
            kind,
            actions,
            name: "".into(),
        };
        Ask::NewFilter(Slot::Private, spec, Mode::Add)
    }

    fn get(priority: u32) -> Ask {
        Ask::GetFilter(Slot::Private, FilterKey { handle: 1, ..FilterKey::priority(0, priority) })
    }

    fn delete(priority: u32) -> Ask {
        Ask::DeleteFilter(Slot::Private, FilterKey::priority(0, priority))
    }

    fn dump() -> Ask {
        Ask::Dump(Slot::Private, ALL, 10)
    }

    fn added(priority: u32) -> Outcome {
        Ok(Answer::Id(FilterId { chain: 0, priority, handle: 1 }))
    }

    /// What the implementation says when it is asked one after the other.
    fn told(asks: &[Ask]) -> Outcome {
        let subject = Subject::new();
        asks.iter().map(|ask| subject.run(ask)).last().expect("there is a last request")
    }

    /// Requests with what they were told, each in a thread of its own, between these moments.
    fn history(ops: &[(Ask, Outcome, u64, u64)], end: &[(Ask, Outcome)]) -> History {
        let op = |(thread, (ask, outcome, start, end)): (usize, &(Ask, Outcome, u64, u64))| Op {
            thread,
            ask: ask.clone(),
            outcome: outcome.clone(),
            start: *start,
            end: *end,
        };
        History { ops: ops.iter().enumerate().map(op).collect(), events: Vec::new(), end: end.into() }
    }

    fn is_explained(ops: &[(Ask, Outcome, u64, u64)]) -> bool {
        check(&history(ops, &[])) == Finding::Explained
    }

    #[test]
    fn of_two_exclusive_adds_at_once_one_succeeds() {
        let two = |second: Outcome| is_explained(&[(add(1), added(1), 0, 3), (add(1), second, 1, 2)]);
        assert!(two(Err("EEXIST")));
        assert!(!two(added(1)));
    }

    #[test]
    fn what_has_ended_is_seen_and_what_is_in_flight_may_be() {
        let seen_at = |start, end| is_explained(&[(add(1), added(1), 0, 3), (get(1), Err("ENOENT"), start, end)]);
        assert!(seen_at(1, 2) && seen_at(2, 5));
        assert!(!seen_at(4, 5));
    }

    #[test]
    fn what_one_request_has_seen_the_next_cannot_unsee() {
        let after = |second| {
            is_explained(&[(add(1), added(1), 0, 9), (get(1), told(&[add(1), get(1)]), 1, 2), (get(1), second, 3, 4)])
        };
        assert!(after(told(&[add(1), get(1)])));
        assert!(!after(Err("ENOENT")));
    }

    #[test]
    fn the_end_must_be_that_of_an_order() {
        let ops = [(add(1), added(1), 0, 2), (delete(1), Ok(Answer::Done), 1, 3)];
        assert_eq!(check(&history(&ops, &[(dump(), told(&[dump()]))])), Finding::Explained);
        assert!(matches!(check(&history(&ops, &[(dump(), told(&[add(1), dump()]))])), Finding::Impossible(_)));
    }

    /// [WK-6]
    #[test]
    fn a_listing_has_once_what_was_there_all_the_time() {
        let of = |listed: Outcome| {
            is_explained(&[(add(1), added(1), 0, 1), (add(2), added(2), 2, 5), (dump(), listed, 3, 4)])
        };
        assert!(of(told(&[add(1), dump()])) && of(told(&[add(1), add(2), dump()])), "2 may be there");
        assert!(!of(told(&[add(2), dump()])), "1 is missing");
        assert!(!of(told(&[add(1), add(3), dump()])), "3 never was");
        let Ok(Answer::Records(mut twice)) = told(&[add(1), dump()]) else { unreachable!("a dump") };
        twice.extend(twice.clone());
        assert!(!of(Ok(Answer::Records(twice))), "1 is there twice");
    }

    /// What is allowed beside a request that fails is not allowed without it.
    #[test]
    fn only_who_is_beside_a_failing_request_may_meet_its_traces() {
        let ipv4 = |ask| match ask {
            Ask::NewFilter(slot, spec, mode) => Ask::NewFilter(slot, FilterSpec { protocol: 0x0800, ..spec }, mode),
            other => other,
        };
        let refused =
            |start, end| is_explained(&[(add(1), Err(INJECTED), 1, 4), (ipv4(add(1)), Err("EINVAL"), start, end)]);
        assert!(refused(2, 3) && refused(3, 6));
        assert!(!refused(5, 6));
    }
}

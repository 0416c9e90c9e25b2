//! The control plane as one would explain it: plain data, one request at a time, no locks, nothing deferred.
//!
//! It shares nothing with the implementation but the plain data of requests. Where the implementation counts references,
//! the model asks again who is there; where that one unwinds, this one takes a copy and goes back to it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_classifiers::counters::Hits;
use tidegate_classifiers::event::{BlockId, Event};
use tidegate_classifiers::flow_key::{DST_PORT, ETH_TYPE, FlowKey, IP_PROTO, SRC_PORT};
use tidegate_classifiers::request::{
    ACTIONS_MAX, ActionInfo, ActionKind, ActionSpec, ActionUse, CHAIN_MAX, ChainInfo, ChainSpec, Cookie, DumpFilter,
    ETH_P_ALL, FilterId, FilterInfo, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindName, KindSpec, Mode, Owner,
    ProtoInfo, Record,
};
use tidegate_classifiers::verdict::Control;

use crate::ask::{Answer, Ask, Outcome, SHARED, Slot, without_counts};

/// Everything there is.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    blocks: BTreeMap<Slot, Block>,
    actions: BTreeMap<(ActionKind, u32), Action>,
    /// Blocks so far: a goto of a shared action may outlive the block it leads into.
    blocks_made: u64,
    /// Actions that the next new filter holds already.
    in_hand: Option<Holds>,
    /// If there is a list, what filters that go have held stays held for now, and is written there.
    late: Option<Holds>,
}

/// Actions that a filter holds, in order.
pub(crate) type Holds = Vec<(ActionKind, u32)>;

#[derive(Clone, Debug, Default)]
struct Block {
    number: u64,
    hooks: BTreeSet<(u16, bool)>,
    /// In order of creation [CH-13].
    chains: Vec<Chain>,
}

#[derive(Clone, Debug)]
struct Chain {
    index: u32,
    explicit: bool,
    template: Option<KindSpec>,
    /// Gotos that lead here.
    pins: usize,
    /// A request in flight holds it: see [`Ghost`].
    held: bool,
    protos: BTreeMap<u32, Proto>,
}

#[derive(Clone, Debug)]
struct Proto {
    protocol: u16,
    kind: KindName,
    filters: BTreeMap<u32, Filter>,
}

#[derive(Clone, Debug)]
struct Filter {
    name: Box<str>,
    matches: KindSpec,
    actions: Holds,
}

#[derive(Clone, Debug)]
struct Action {
    spec: ActionSpec,
    cookie: Option<Cookie>,
    refs: u32,
    binds: u32,
    /// Number of a block, and a chain in it.
    target: Option<(u64, u32)>,
}

/// Automatic numbers of a new filter: what the rules say, or what another one who decided got, as long as it was free.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers {
    AsRuled,
    As(FilterId),
}

/// What a request in flight has done so far that others may meet, and that is gone again when it fails. The rules allow it
/// to be met [CC-2], [CC-3], [CC-4], [CC-24], [OBJ-5]: a request beside it may be served as if the ghost were there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ghost {
    /// A reference on a chain of the private block.
    Held(u32),
    /// A proto without a filter as yet, or without one any more: chain, priority, protocol, kind. Only for new filters:
    /// others find nothing there.
    Proto(u32, u32, u16, KindName),
    /// A filter that holds this action, and created it if it was not there.
    Holder(ActionUse),
}

const ENOENT: &str = "ENOENT";
const EEXIST: &str = "EEXIST";
const EINVAL: &str = "EINVAL";
const ENOSPC: &str = "ENOSPC";
const EOPNOTSUPP: &str = "EOPNOTSUPP";
const EBUSY: &str = "EBUSY";
const EPERM: &str = "EPERM";
const EMSGSIZE: &str = "EMSGSIZE";

impl Model {
    pub(crate) fn new() -> Model {
        let blocks = [(Slot::Private, Block { number: 0, ..Block::default() })].into();
        Model { blocks, actions: BTreeMap::new(), blocks_made: 1, in_hand: None, late: None }
    }

    /// Serves a request: what it says, and the events it sends.
    pub(crate) fn apply(&mut self, ask: &Ask, numbers: Numbers) -> (Outcome, Vec<Event>) {
        let before = self.clone();
        let mut events = Vec::new();
        let outcome = self.serve(ask, numbers, &mut events);
        if outcome.is_err() {
            if !matches!(ask, Ask::DeleteActions(_)) {
                *self = before; // [ER-40]
            }
            return (outcome, Vec::new());
        }
        self.sweep();
        let (was, is) = (before.seen_chains(), self.seen_chains());
        let gone = was.iter().filter(|chain| !is.contains(chain));
        let gone = gone.map(|&(slot, _, chain)| Event::ChainDeleted { block: id(slot), chain });
        let new = is.iter().filter(|chain| !was.contains(chain));
        let new = new.map(|&(slot, _, chain)| Event::ChainAdded { block: id(slot), chain });
        (outcome, new.chain(events).chain(gone).collect()) // [NT-5]
    }

    fn serve(&mut self, ask: &Ask, numbers: Numbers, events: &mut Vec<Event>) -> Outcome {
        match ask {
            Ask::NewFilter(slot, spec, mode) => self.new_filter(*slot, spec, *mode, numbers, events),
            Ask::DeleteFilter(slot, key) => self.delete_filter(*slot, key, events),
            Ask::GetFilter(slot, key) => self.get_filter(*slot, key),
            Ask::Dump(slot, only, page) => self.dump(*slot, only, *page),
            Ask::AddChain(slot, spec) => self.add_chain(*slot, spec),
            Ask::ChangeChain(slot, spec) => self.change_chain(*slot, spec),
            Ask::DeleteChain(slot, index) => self.delete_chain(*slot, *index, events),
            Ask::GetChain(slot, index) => {
                check_chain(*index)?;
                self.block(*slot)?.seen(*index).map(|chain| Answer::Chain(chain.info())).ok_or(EINVAL) // [ER-19]
            }
            Ask::DumpChains(slot, _) => Ok(Answer::Chains(self.block(*slot)?.listed().map(Chain::info).collect())),
            Ask::AddActions(uses, mode) => self.add_actions(uses, *mode, events),
            Ask::DeleteActions(which) => self.delete_actions(which, events),
            Ask::GetAction(kind, index) => self
                .actions
                .contains_key(&(*kind, *index))
                .then(|| Answer::Action(self.action(*kind, *index)))
                .ok_or(ENOENT),
            Ask::FlushActions(kind) => self.flush_actions(*kind, events),
            Ask::DumpActions(kind, _) => Ok(Answer::Actions(self.actions_of(*kind))),
            Ask::Bind(port, egress) => self.bind(*port, *egress),
            Ask::Unbind(port, egress) => {
                self.unbind(*port, *egress);
                Ok(Answer::Done)
            }
        }
    }

    // Filters.

    /// In the order of [RQ-3] and [FO-2].
    fn new_filter(
        &mut self,
        slot: Slot,
        spec: &FilterSpec,
        mode: Mode,
        numbers: Numbers,
        events: &mut Vec<Event>,
    ) -> Outcome {
        let create = mode != Mode::Change;
        let block = self.block_mut(slot)?;
        refuse(spec.priority == 0 && !create, ENOENT)?; // [RQ-4]
        check_chain(spec.chain)?; // [RQ-5]
        let chain = block.or_create(spec.chain);
        let priority = match (spec.priority, numbers) {
            (0, Numbers::AsRuled) => chain.automatic_priority()?,
            (0, Numbers::As(id)) => {
                let fits = (0x8000..=0xffff).contains(&id.priority) && !chain.protos.contains_key(&id.priority);
                refuse(!fits, ENOSPC)?;
                id.priority
            }
            (given, _) => given,
        };
        let template = chain.template.clone();
        if let Some(proto) = chain.protos.get(&priority) {
            refuse(spec.protocol != 0 && spec.protocol != proto.protocol, EINVAL)?; // [ER-5]
        } else {
            refuse(spec.protocol == 0, EINVAL)?; // [ER-8]
            refuse(!create, ENOENT)?; // [ER-1]
            refuse(spec.kind == KindSpec::Unknown, ENOENT)?; // [ER-9]
            let proto = Proto { protocol: spec.protocol, kind: spec.kind.name(), filters: BTreeMap::new() };
            chain.protos.insert(priority, proto);
        }
        let proto = &chain.protos[&priority];
        refuse(proto.kind != spec.kind.name(), EINVAL)?; // [ER-6]
        let old = proto.filters.get(&spec.handle).cloned();
        refuse(old.is_some() && mode == Mode::Add, EEXIST)?; // [ER-2]
        refuse(old.is_none() && !create, ENOENT)?; // [ER-1]
        refuse(template.as_ref().is_some_and(|template| template.name() != spec.kind.name()), EINVAL)?; // [ER-10]

        let proto = proto.clone();
        let handle = match &spec.kind {
            KindSpec::Matchall => {
                refuse(old.is_some(), EEXIST)?; // [FO-7]
                check_actions(&spec.actions)?;
                refuse(!proto.filters.is_empty(), EEXIST)?; // [ER-4]
                if spec.handle == 0 { 1 } else { spec.handle } // [HA-3]
            }
            KindSpec::Flower(wanted) => {
                check_flower(wanted, proto.protocol)?;
                if let Some(KindSpec::Flower(template)) = &template {
                    refuse(!fits_template(wanted, template), EINVAL)?; // [ER-11]
                }
                check_actions(&spec.actions)?;
                match (spec.handle, numbers) {
                    (0, Numbers::AsRuled) => (1..).find(|n| !proto.filters.contains_key(n)).ok_or(ENOSPC)?, // [HA-1]
                    (0, Numbers::As(id)) => {
                        refuse(proto.filters.contains_key(&id.handle), ENOSPC)?;
                        id.handle
                    }
                    (given, _) => given,
                }
            }
            other => unreachable!("no proto has kind {other:?}"),
        };
        let actions = self.hold_actions(slot, &spec.actions)?;
        let matches = as_listed(&spec.kind, proto.protocol);
        if let KindSpec::Flower(wanted) = &matches {
            if let Some(Filter { matches: KindSpec::Flower(old), .. }) = &old {
                refuse(group_of(wanted) != group_of(old), EINVAL)?; // [ER-25]
            }
            let others = proto.filters.iter().filter(|&(&other, _)| other != handle);
            let mut keys = others.filter_map(|(_, other)| match &other.matches {
                KindSpec::Flower(other) => Some(key_of(other)),
                _ => None,
            });
            refuse(keys.any(|key| key == key_of(wanted)), EEXIST)?; // [ER-3]
        }
        let filter = Filter { name: spec.name.clone(), matches, actions };
        self.proto_mut(slot, spec.chain, priority).filters.insert(handle, filter);
        if let Some(old) = old {
            self.let_go(old);
        }
        let place = FilterId { chain: spec.chain, priority, handle };
        let filter = without_counts(self.filter(slot, place));
        events.push(Event::FilterAdded { block: id(slot), mode, filter }); // [NT-1]
        Ok(Answer::Id(place))
    }

    fn delete_filter(&mut self, slot: Slot, key: &FilterKey, events: &mut Vec<Event>) -> Outcome {
        let block = self.block(slot)?;
        if key.priority == 0 {
            refuse(key.protocol != 0 || key.handle != 0 || key.kind.is_some(), ENOENT)?; // [RQ-4]
            check_chain(key.chain)?;
            if block.seen(key.chain).is_some() {
                self.flush(slot, key.chain, events);
            } // else [ER-14]
            return Ok(Answer::Done);
        }
        check_chain(key.chain)?;
        let chain = block.seen(key.chain).ok_or(ENOENT)?; // [ER-12]
        let proto = chain.find(key)?;
        if key.handle == 0 {
            self.delete_proto(slot, key.chain, key.priority, events); // [FO-10]
            return Ok(Answer::Done);
        }
        refuse(!proto.filters.contains_key(&key.handle), ENOENT)?; // [ER-15]
        let place = FilterId { chain: key.chain, priority: key.priority, handle: key.handle };
        events.push(Event::FilterDeleted { block: id(slot), filter: self.filter(slot, place) }); // [NT-2]
        let proto = self.proto_mut(slot, key.chain, key.priority);
        let filter = proto.filters.remove(&key.handle).unwrap();
        if proto.filters.is_empty() {
            self.chain_mut(slot, key.chain).protos.remove(&key.priority); // [TP-13] (b)
        }
        self.let_go(filter);
        Ok(Answer::Done)
    }

    fn get_filter(&self, slot: Slot, key: &FilterKey) -> Outcome {
        let block = self.block(slot)?;
        refuse(key.priority == 0, ENOENT)?; // [RQ-4]
        check_chain(key.chain)?;
        let proto = block.seen(key.chain).ok_or(EINVAL)?.find(key)?; // [ER-13]
        refuse(!proto.filters.contains_key(&key.handle), ENOENT)?;
        let place = FilterId { chain: key.chain, priority: key.priority, handle: key.handle };
        Ok(Answer::Filter(self.filter(slot, place)))
    }

    fn dump(&self, slot: Slot, only: &DumpFilter, page: usize) -> Outcome {
        let block = self.block(slot)?;
        let mut records = Vec::new();
        for chain in block.listed().filter(|chain| only.chain.is_none_or(|only| only == chain.index)) {
            for (&priority, proto) in &chain.protos {
                if [0, priority].contains(&only.priority) && [0, proto.protocol].contains(&only.protocol) {
                    records.push(Record::Proto(proto.info(chain.index, priority)));
                    let places = proto.filters.keys().map(|&handle| FilterId { chain: chain.index, priority, handle });
                    records.extend(places.map(|place| Record::Filter(self.filter(slot, place))));
                }
            }
        }
        refuse(page == 0, EMSGSIZE)?; // [WK-10]
        Ok(Answer::Records(records))
    }

    fn flush(&mut self, slot: Slot, chain: u32, events: &mut Vec<Event>) {
        let priorities: Vec<_> = self.chain_mut(slot, chain).protos.keys().copied().collect();
        priorities.into_iter().for_each(|priority| self.delete_proto(slot, chain, priority, events)); // [NT-3]
    }

    fn delete_proto(&mut self, slot: Slot, chain: u32, priority: u32, events: &mut Vec<Event>) {
        let proto = self.chain_mut(slot, chain).protos.remove(&priority).unwrap();
        events.push(Event::ProtoDeleted { block: id(slot), proto: proto.info(chain, priority) });
        proto.filters.into_values().for_each(|filter| self.release(filter.actions));
    }

    // Chains.

    fn add_chain(&mut self, slot: Slot, spec: &ChainSpec) -> Outcome {
        let block = self.block_mut(slot)?;
        check_chain(spec.index)?;
        check_template(spec)?; // before the chain is looked at [TM-4]
        refuse(block.seen(spec.index).is_some(), EEXIST)?; // [ER-17]
        let chain = block.or_create(spec.index); // a hidden one is revived [CH-2]
        (chain.explicit, chain.template) = (true, spec.template.clone());
        Ok(Answer::Done)
    }

    fn change_chain(&self, slot: Slot, spec: &ChainSpec) -> Outcome {
        let block = self.block(slot)?;
        check_chain(spec.index)?;
        check_template(spec)?; // before the chain is looked at [TM-4]
        Err(if block.seen(spec.index).is_some() { EEXIST } else { ENOENT }) // [ER-17], [ER-18]
    }

    fn delete_chain(&mut self, slot: Slot, index: u32, events: &mut Vec<Event>) -> Outcome {
        let block = self.block(slot)?;
        check_chain(index)?;
        refuse(block.seen(index).is_none(), EINVAL)?; // [ER-19]
        self.flush(slot, index, events);
        self.chain_mut(slot, index).explicit = false; // [CH-5]
        Ok(Answer::Done)
    }

    fn seen_chains(&self) -> Vec<(Slot, u64, u32)> {
        let seen = |(&slot, block): (&Slot, &Block)| -> Vec<_> {
            block.listed().map(|chain| (slot, block.number, chain.index)).collect()
        };
        self.blocks.iter().flat_map(seen).collect()
    }

    /// Nothing is kept that nobody needs [CH-4], [TM-6].
    fn sweep(&mut self) {
        for block in self.blocks.values_mut() {
            for chain in block.chains.iter_mut().filter(|chain| !chain.is_seen()) {
                chain.template = None;
            }
            block.chains.retain(|chain| chain.is_seen() || chain.pins > 0);
        }
    }

    // Actions.

    fn add_actions(&mut self, uses: &[ActionUse], mode: Mode, events: &mut Vec<Event>) -> Outcome {
        check_actions(uses)?;
        let is_goto = |it: &ActionUse| it.spec.as_ref().is_some_and(|spec| goto(spec).is_some());
        refuse(uses.iter().any(is_goto), EINVAL)?; // [AC-10]
        let spec = |it: &ActionUse| it.spec.clone().or(default_of(it.kind)).ok_or(EINVAL);
        let specs: Vec<ActionSpec> = uses.iter().map(spec).collect::<Result<_, _>>()?;
        let (mut indexes, mut actions) = (Vec::new(), Vec::new());
        for (it, spec) in uses.iter().zip(specs) {
            let index = if it.index == 0 { self.free_index(it.kind) } else { it.index };
            let there = self.actions.contains_key(&(it.kind, index));
            refuse(there && mode == Mode::Add, EEXIST)?; // [ER-29]
            if there {
                let action = self.actions.get_mut(&(it.kind, index)).unwrap(); // in place [AC-5]
                action.spec = spec;
                action.cookie = it.cookie.or(action.cookie);
                let target = action.target.take();
                self.unpin(target);
            } else {
                let action = Action { spec, cookie: it.cookie, refs: 1, binds: 0, target: None };
                self.actions.insert((it.kind, index), action);
            }
            indexes.push(index);
            actions.push(self.action(it.kind, index));
        }
        events.push(Event::ActionsAdded { mode, actions }); // [NT-10]
        Ok(Answer::Indexes(indexes))
    }

    fn delete_actions(&mut self, which: &[(ActionKind, u32)], events: &mut Vec<Event>) -> Outcome {
        refuse(which.iter().any(|which| !self.actions.contains_key(which)), ENOENT)?; // [ER-30]
        let mut actions = Vec::new();
        for which in which {
            let Some(action) = self.actions.get(which) else { continue }; // named twice
            refuse(action.binds > 0, EPERM)?; // [ER-31]; those before are gone [AC-6]
            actions.push(self.action(which.0, which.1));
            let action = self.actions.remove(which).unwrap();
            self.unpin(action.target);
        }
        events.push(Event::ActionsDeleted { actions });
        Ok(Answer::Done)
    }

    fn flush_actions(&mut self, kind: ActionKind, events: &mut Vec<Event>) -> Outcome {
        let of_kind: Vec<_> = self.actions.keys().copied().filter(|&(it, _)| it == kind).collect();
        let unbound: Vec<_> = of_kind.iter().take_while(|&it| self.actions[it].binds == 0).collect(); // [AC-7]
        refuse(unbound.is_empty() && !of_kind.is_empty(), EPERM)?;
        for &it in &unbound {
            let action = self.actions.remove(it).unwrap();
            self.unpin(action.target);
        }
        if !unbound.is_empty() {
            events.push(Event::ActionsFlushed { kind, count: unbound.len() });
        }
        Ok(Answer::Flushed(unbound.len()))
    }

    /// What a filter of `slot` does, created or shared.
    fn hold_actions(&mut self, slot: Slot, uses: &[ActionUse]) -> Result<Holds, &'static str> {
        if let Some(holds) = self.in_hand.take() {
            return Ok(holds);
        }
        let hold = |it: &ActionUse| {
            let index = if it.index == 0 { self.free_index(it.kind) } else { it.index };
            if let Some(action) = self.actions.get_mut(&(it.kind, index)) {
                (action.refs, action.binds) = (action.refs + 1, action.binds + 1); // [AC-2], [AC-4]
            } else {
                let spec = it.spec.clone().or(default_of(it.kind)).ok_or(EINVAL)?;
                let block = self.blocks.get_mut(&slot).unwrap();
                let target = goto(&spec).map(|chain| {
                    block.or_create(chain).pins += 1;
                    (block.number, chain)
                });
                let action = Action { spec, cookie: it.cookie, refs: 1, binds: 1, target };
                self.actions.insert((it.kind, index), action);
            }
            Ok((it.kind, index))
        };
        uses.iter().map(hold).collect()
    }

    fn let_go(&mut self, filter: Filter) {
        match &mut self.late {
            Some(late) => late.extend(filter.actions),
            None => self.release(filter.actions),
        }
    }

    fn release(&mut self, holds: Holds) {
        for which in holds {
            let action = self.actions.get_mut(&which).unwrap();
            (action.refs, action.binds) = (action.refs - 1, action.binds - 1);
            if action.refs == 0 {
                let action = self.actions.remove(&which).unwrap(); // [AC-3]
                self.unpin(action.target);
            }
        }
    }

    fn unpin(&mut self, target: Option<(u64, u32)>) {
        let Some((number, index)) = target else { return };
        let block = self.blocks.values_mut().find(|block| block.number == number);
        if let Some(block) = block {
            block.or_create(index).pins -= 1;
        }
    }

    fn free_index(&self, kind: ActionKind) -> u32 {
        (1..).find(|&index| !self.actions.contains_key(&(kind, index))).unwrap() // [HA-5]
    }

    // Blocks.

    fn bind(&mut self, port: u16, egress: bool) -> Outcome {
        let hooks = self.blocks.get(&Slot::Shared).map(|block| block.hooks.clone()).unwrap_or_default();
        refuse(hooks.contains(&(port, egress)), EINVAL)?; // [BL-6]
        refuse(hooks.contains(&(port, !egress)), EBUSY)?; // [BL-5]
        let number = self.blocks_made;
        let block = self.blocks.entry(Slot::Shared).or_insert(Block { number, ..Block::default() });
        block.hooks.insert((port, egress));
        self.blocks_made += 1;
        Ok(Answer::Done)
    }

    fn unbind(&mut self, port: u16, egress: bool) {
        let Some(block) = self.blocks.get_mut(&Slot::Shared) else { return };
        block.hooks.remove(&(port, egress));
        if block.hooks.is_empty() {
            let block = self.blocks.remove(&Slot::Shared).unwrap();
            for proto in block.chains.into_iter().flat_map(|chain| chain.protos.into_values()) {
                proto.filters.into_values().for_each(|filter| self.release(filter.actions)); // unannounced [NT-12]
            }
        }
    }

    // For concurrent requests.

    /// Serves a request beside ghosts, which are gone afterwards.
    pub(crate) fn apply_beside(&mut self, ghosts: &[Ghost], ask: &Ask, numbers: Numbers) -> Outcome {
        let slot = Slot::Private;
        let mut holders = Vec::new();
        for ghost in ghosts {
            match ghost {
                Ghost::Held(chain) => self.chain_mut(slot, *chain).held = true,
                &Ghost::Proto(chain, priority, protocol, kind) => {
                    let ghost = Proto { protocol, kind, filters: BTreeMap::new() };
                    self.chain_mut(slot, chain).protos.entry(priority).or_insert(ghost);
                }
                Ghost::Holder(it) => {
                    holders.extend(self.hold_actions(slot, std::slice::from_ref(it)).into_iter().flatten())
                }
            }
        }
        let (outcome, _) = self.apply(ask, numbers);
        self.release(holders);
        for chain in &mut self.blocks.get_mut(&slot).unwrap().chains {
            chain.held = false;
            chain.protos.retain(|_, proto| !proto.filters.is_empty());
        }
        self.sweep();
        outcome
    }

    /// The first step of a new filter: its actions are there before it is [FO-2], [AC-8]. Nothing if they cannot be.
    pub(crate) fn hold(&mut self, uses: &[ActionUse]) -> Option<Holds> {
        let before = self.clone();
        let held = self.hold_actions(Slot::Private, uses);
        if held.is_err() {
            *self = before;
        }
        held.ok()
    }

    /// The next step: the filter is committed, or fails and gives its actions back. If `late`, what the filter held that
    /// it replaces is not given back yet: that is the last step.
    pub(crate) fn commit(&mut self, holds: Option<Holds>, ask: &Ask, numbers: Numbers, late: bool) -> (Outcome, Holds) {
        (self.in_hand, self.late) = (holds.clone(), late.then(Holds::new));
        let (outcome, _) = self.apply(ask, numbers);
        self.in_hand = None;
        if outcome.is_err() {
            self.give_back(holds.unwrap_or_default());
        }
        (outcome, self.late.take().unwrap_or_default())
    }

    /// Nobody holds these any more.
    pub(crate) fn give_back(&mut self, holds: Holds) {
        self.release(holds);
        self.sweep();
    }

    /// Filters of the private block, without their actions: these may change while a listing looks at them.
    pub(crate) fn filters(&self) -> BTreeMap<FilterId, FilterInfo> {
        let mut all = BTreeMap::new();
        for chain in self.blocks[&Slot::Private].listed() {
            for (&priority, proto) in &chain.protos {
                for &handle in proto.filters.keys() {
                    let id = FilterId { chain: chain.index, priority, handle };
                    all.insert(id, FilterInfo { actions: Vec::new(), ..self.filter(Slot::Private, id) });
                }
            }
        }
        all
    }

    /// Chains of the private block that clients see.
    pub(crate) fn chains(&self) -> BTreeSet<u32> {
        self.blocks[&Slot::Private].listed().map(|chain| chain.index).collect()
    }

    // Access.

    fn block(&self, slot: Slot) -> Result<&Block, &'static str> {
        self.blocks.get(&slot).ok_or(EINVAL) // [RQ-11]
    }

    fn block_mut(&mut self, slot: Slot) -> Result<&mut Block, &'static str> {
        self.blocks.get_mut(&slot).ok_or(EINVAL)
    }

    fn chain_mut(&mut self, slot: Slot, index: u32) -> &mut Chain {
        self.blocks.get_mut(&slot).unwrap().or_create(index)
    }

    fn proto_mut(&mut self, slot: Slot, chain: u32, priority: u32) -> &mut Proto {
        self.chain_mut(slot, chain).protos.get_mut(&priority).unwrap()
    }

    fn filter(&self, slot: Slot, place: FilterId) -> FilterInfo {
        let FilterId { chain, priority, handle } = place;
        let proto = &self.blocks[&slot].seen(chain).unwrap().protos[&priority];
        let filter = &proto.filters[&handle];
        FilterInfo {
            chain,
            priority,
            protocol: proto.protocol,
            kind: proto.kind.as_str(),
            handle,
            owner: Owner::Client,
            name: filter.name.clone(),
            matches: filter.matches.clone(),
            hits: Hits::default(),
            runs: 0,
            actions: filter.actions.iter().map(|&(kind, index)| self.action(kind, index)).collect(),
            options: Default::default(),
        }
    }

    fn action(&self, kind: ActionKind, index: u32) -> ActionInfo {
        let &Action { ref spec, cookie, refs, binds, .. } = &self.actions[&(kind, index)];
        let spec = spec.clone();
        ActionInfo { flags: Default::default(), spec, index, refs, binds, cookie, hits: Hits::default() }
    }

    fn actions_of(&self, kind: ActionKind) -> Vec<ActionInfo> {
        let of_kind = self.actions.keys().filter(|&&(it, _)| it == kind);
        of_kind.map(|&(kind, index)| self.action(kind, index)).collect()
    }
}

impl Block {
    fn listed(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter().filter(|chain| chain.is_seen())
    }

    fn seen(&self, index: u32) -> Option<&Chain> {
        self.listed().find(|chain| chain.index == index)
    }

    fn or_create(&mut self, index: u32) -> &mut Chain {
        let at = self.chains.iter().position(|chain| chain.index == index).unwrap_or_else(|| {
            let (template, protos) = (None, BTreeMap::new());
            self.chains.push(Chain { index, explicit: false, template, pins: 0, held: false, protos });
            self.chains.len() - 1
        });
        &mut self.chains[at]
    }
}

impl Chain {
    /// Not only there for gotos [OBJ-4].
    fn is_seen(&self) -> bool {
        self.explicit || self.held || !self.protos.is_empty()
    }

    fn info(&self) -> ChainInfo {
        ChainInfo { index: self.index, owner: Owner::Client, template: self.template.clone() }
    }

    fn find(&self, key: &FilterKey) -> Result<&Proto, &'static str> {
        let proto = self.protos.get(&key.priority).ok_or(ENOENT)?; // [ER-15]
        refuse(key.protocol != 0 && key.protocol != proto.protocol, EINVAL)?; // [ER-16]
        refuse(key.kind.is_some_and(|kind| kind != proto.kind), EINVAL)?;
        Ok(proto)
    }

    /// [PR-1], [PR-2]
    fn automatic_priority(&self) -> Result<u32, &'static str> {
        match self.protos.range(0x8000..=0xffff).next() {
            None => Ok(0xc000),
            Some((0x8000, _)) => Err(ENOSPC),
            Some((first, _)) => Ok(first - 1),
        }
    }
}

impl Proto {
    fn info(&self, chain: u32, priority: u32) -> ProtoInfo {
        ProtoInfo { chain, priority, protocol: self.protocol, kind: self.kind.as_str() }
    }
}

/// What events call the block.
fn id(slot: Slot) -> BlockId {
    match slot {
        Slot::Private => BlockId::Private(0),
        Slot::Shared => BlockId::Shared(SHARED),
    }
}

fn refuse(when: bool, errno: &'static str) -> Result<(), &'static str> {
    if when { Err(errno) } else { Ok(()) }
}

fn check_chain(index: u32) -> Result<(), &'static str> {
    refuse(index > CHAIN_MAX, EINVAL) // [ER-21]
}

fn check_template(spec: &ChainSpec) -> Result<(), &'static str> {
    match &spec.template {
        Some(KindSpec::Unknown) => Err(ENOENT),
        Some(KindSpec::Flower(flower)) => {
            refuse(flower.src_port_range.is_some() || flower.dst_port_range.is_some(), EINVAL) // it has masks
        }
        Some(_) => Err(EOPNOTSUPP), // [ER-20]
        None => Ok(()),
    }
}

fn check_actions(uses: &[ActionUse]) -> Result<(), &'static str> {
    refuse(uses.len() > ACTIONS_MAX, EINVAL)?; // [AC-9]
    for spec in uses.iter().filter_map(|it| it.spec.as_ref()) {
        if let ActionSpec::Gact(GactSpec { random: Some(random), .. }) = spec {
            refuse(matches!(random.control, Control::Goto(_)), EINVAL)?; // [ER-28]
        }
        goto(spec).map_or(Ok(()), check_chain)?;
    }
    Ok(())
}

/// As far as requests of these tests go wrong; the whole table is tried in `classify_rules`.
fn check_flower(wanted: &FlowerSpec, protocol: u16) -> Result<(), &'static str> {
    let ranges = [wanted.src_port_range, wanted.dst_port_range];
    refuse(ranges.into_iter().flatten().any(|(min, max)| min >= max), EINVAL)?; // [FL-13]
    refuse(protocol == ETH_P_ALL && wanted.mask.get(IP_PROTO) != 0, EINVAL) // [FL-14]
}

/// A filter that looks at no bit beyond the template's [TM-2]; a range looks at all bits of its port.
fn fits_template(wanted: &FlowerSpec, template: &FlowerSpec) -> bool {
    let mut mask = wanted.mask;
    for (field, range) in [(SRC_PORT, wanted.src_port_range), (DST_PORT, wanted.dst_port_range)] {
        if range.is_some() {
            mask.set(field, field.max());
        }
    }
    mask.masked(&template.mask) == mask
}

/// As listed: with the ethertype that the protocol implies [FL-8].
fn as_listed(kind: &KindSpec, protocol: u16) -> KindSpec {
    let mut kind = kind.clone();
    if let KindSpec::Flower(flower) = &mut kind
        && protocol != ETH_P_ALL
    {
        flower.value.set(ETH_TYPE, protocol.into());
        flower.mask.set(ETH_TYPE, ETH_TYPE.max());
    }
    kind
}

/// What a mask group has in common [FL-2], [FL-6].
fn group_of(flower: &FlowerSpec) -> (FlowKey, bool, bool) {
    (flower.mask, flower.src_port_range.is_some(), flower.dst_port_range.is_some())
}

type Range = Option<(u16, u16)>;

/// What two filters of a proto cannot have in common [FL-4].
fn key_of(flower: &FlowerSpec) -> (FlowKey, FlowKey, Range, Range) {
    (flower.mask, flower.value.masked(&flower.mask), flower.src_port_range, flower.dst_port_range)
}

fn goto(spec: &ActionSpec) -> Option<u32> {
    spec.controls().find_map(|control| match control {
        Control::Goto(chain) => Some(chain),
        _ => None,
    })
}

/// What an action does if nothing was said [AC-4].
fn default_of(kind: ActionKind) -> Option<ActionSpec> {
    (kind == ActionKind::Gact).then_some(ActionSpec::Gact(GactSpec { control: Control::Ok, random: None }))
}

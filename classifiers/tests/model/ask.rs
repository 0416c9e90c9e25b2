use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::{BlockId, Event, Notice, Subscription};
use tidegate_classifiers::plane::{Binding, Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionInfo, ActionKind, ActionUse, ChainCursor, ChainInfo, ChainSpec, Cursor, DumpFilter, FilterId,
    FilterInfo, FilterKey, FilterSpec, Mode, Record,
};

/// The shared block's index.
pub(crate) const SHARED: u32 = 7;

/// One of the two blocks that requests are made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    /// There from start to end.
    Private,
    /// There while a hook is bound to it.
    Shared,
}

/// A request, as data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    NewFilter(Slot, FilterSpec, Mode),
    DeleteFilter(Slot, FilterKey),
    GetFilter(Slot, FilterKey),
    /// In pages of this many records.
    Dump(Slot, DumpFilter, usize),
    AddChain(Slot, ChainSpec),
    ChangeChain(Slot, ChainSpec),
    DeleteChain(Slot, u32),
    GetChain(Slot, u32),
    /// In pages of this many.
    DumpChains(Slot, usize),
    AddActions(Vec<ActionUse>, Mode),
    DeleteActions(Vec<(ActionKind, u32)>),
    GetAction(ActionKind, u32),
    FlushActions(ActionKind),
    /// In pages of this many.
    DumpActions(ActionKind, usize),
    /// Binds a hook (port, egress) to the shared block.
    Bind(u16, bool),
    Unbind(u16, bool),
}

/// What a request that was served says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Id(FilterId),
    Filter(FilterInfo),
    Records(Vec<Record>),
    Chain(ChainInfo),
    Chains(Vec<ChainInfo>),
    Indexes(Vec<u32>),
    Action(ActionInfo),
    Actions(Vec<ActionInfo>),
    Flushed(usize),
}

/// The answer, or the errno of the refusal.
pub(crate) type Outcome = Result<Answer, &'static str>;

impl Ask {
    /// Whether it is a listing, which is no snapshot [WK-6].
    pub(crate) fn is_listing(&self) -> bool {
        matches!(self, Ask::Dump(..) | Ask::DumpChains(..) | Ask::DumpActions(..))
    }
}

/// The implementation, with a private block and what is needed for a shared one.
pub(crate) struct Subject {
    pub(crate) plane: Arc<Plane>,
    private: Arc<Block>,
    bindings: Mutex<BTreeMap<(u16, bool), Binding>>,
}

impl Subject {
    pub(crate) fn new() -> Subject {
        let plane = Plane::standalone(1);
        Subject { private: plane.private_block(), plane, bindings: Mutex::default() }
    }

    pub(crate) fn run(&self, ask: &Ask) -> Outcome {
        self.try_run(ask).map_err(RequestError::errno)
    }

    fn try_run(&self, ask: &Ask) -> Result<Answer, RequestError> {
        let plane = &self.plane;
        let block = |slot| match slot {
            Slot::Private => Ok(Arc::clone(&self.private)),
            Slot::Shared => plane.block(SHARED),
        };
        match ask {
            &Ask::NewFilter(slot, ref spec, mode) => request::new_filter(&block(slot)?, spec, mode).map(Answer::Id),
            &Ask::DeleteFilter(slot, key) => request::delete_filter(&block(slot)?, key).map(|()| Answer::Done),
            &Ask::GetFilter(slot, key) => request::get_filter(&block(slot)?, key).map(Answer::Filter),
            &Ask::Dump(slot, ref only, page) => {
                let (block, mut cursor) = (block(slot)?, Cursor::default());
                in_pages(page, || request::dump_page(&block, only, &mut cursor, page)).map(Answer::Records)
            }
            Ask::AddChain(slot, spec) => request::add_chain(&block(*slot)?, spec.clone()).map(|()| Answer::Done),
            Ask::ChangeChain(slot, spec) => request::change_chain(&block(*slot)?, spec.clone()).map(|()| Answer::Done),
            &Ask::DeleteChain(slot, chain) => request::delete_chain(&block(slot)?, chain).map(|()| Answer::Done),
            &Ask::GetChain(slot, chain) => request::get_chain(&block(slot)?, chain).map(Answer::Chain),
            &Ask::DumpChains(slot, page) => {
                let (block, mut cursor) = (block(slot)?, ChainCursor::default());
                in_pages(page, || Ok(request::dump_chains(&block, &mut cursor, page))).map(Answer::Chains)
            }
            Ask::AddActions(uses, mode) => request::add_actions(plane, uses, *mode).map(Answer::Indexes),
            Ask::DeleteActions(which) => request::delete_actions(plane, which).map(|()| Answer::Done),
            &Ask::GetAction(kind, index) => request::get_action(plane, kind, index).map(Answer::Action),
            &Ask::FlushActions(kind) => request::flush_actions(plane, kind).map(Answer::Flushed),
            &Ask::DumpActions(kind, page) => {
                let mut after = 0;
                let next = || {
                    let actions = request::dump_actions(plane, kind, after, page);
                    after = actions.last().map_or(after, |action| action.index);
                    Ok(actions)
                };
                in_pages(page, next).map(Answer::Actions)
            }
            &Ask::Bind(port, egress) => {
                let direction = if egress { Direction::Egress } else { Direction::Ingress };
                let binding = plane.bind(Hook { port: PortId(port), direction }, SHARED, None)?;
                self.bindings.lock().unwrap().insert((port, egress), binding);
                Ok(Answer::Done)
            }
            &Ask::Unbind(port, egress) => {
                let binding = self.bindings.lock().unwrap().remove(&(port, egress));
                drop(binding);
                Ok(Answer::Done)
            }
        }
    }

    /// Takes everything away but the plane.
    pub(crate) fn tear_down(self) -> Arc<Plane> {
        let Subject { plane, private, bindings } = self;
        drop((private, bindings));
        for kind in ActionKind::ALL {
            request::flush_actions(&plane, kind).expect("no filter is left, so no action is bound");
        }
        plane.reaper().drain();
        plane
    }
}

/// A listing in pages, each of which has at most `page` entries.
fn in_pages<T: Debug>(
    page: usize,
    mut next: impl FnMut() -> Result<Vec<T>, RequestError>,
) -> Result<Vec<T>, RequestError> {
    let mut all = Vec::new();
    loop {
        let entries = next()?;
        assert!(entries.len() <= page, "{} entries in a page of {page}", entries.len());
        if entries.is_empty() {
            return Ok(all);
        }
        all.extend(entries);
        assert!(all.len() < 1_000_000, "a listing that does not end: {:?}", all.last());
    }
}

/// All events that wait. None may be lost.
pub(crate) fn events(subscription: &Subscription) -> Vec<Event> {
    let event = |notice| match notice {
        Notice::Event(event) => normal(Event::clone(&event)),
        Notice::Lost(count) => panic!("{count} events were lost"),
    };
    std::iter::from_fn(|| subscription.try_next()).map(event).collect()
}

/// Without what depends on time or chance: the number of the private block; in an added filter, how many hold its
/// actions, because what a replaced filter held is released a little later [DD-4].
fn normal(event: Event) -> Event {
    let block = |block| if matches!(block, BlockId::Shared(_)) { block } else { BlockId::Private(0) };
    match event {
        Event::ChainAdded { block: id, chain } => Event::ChainAdded { block: block(id), chain },
        Event::ChainDeleted { block: id, chain } => Event::ChainDeleted { block: block(id), chain },
        Event::FilterAdded { block: id, mode, filter } => {
            Event::FilterAdded { block: block(id), mode, filter: without_counts(filter) }
        }
        Event::FilterDeleted { block: id, filter } => Event::FilterDeleted { block: block(id), filter },
        Event::ProtoDeleted { block: id, proto } => Event::ProtoDeleted { block: block(id), proto },
        other => other,
    }
}

pub(crate) fn without_counts(mut filter: FilterInfo) -> FilterInfo {
    filter.actions.iter_mut().for_each(|action| (action.refs, action.binds) = (0, 0));
    filter
}

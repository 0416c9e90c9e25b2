//! u32: words of the packet, in tables that lead from one to another.
//!
//! A proto has a root table; requests add others and nodes to them, and a node may lead packets on to another table. All
//! tables of a block are in [`Tables`]. u32 is a locked kind: every request to it runs under the global lock, so that
//! what a request has looked at stays as it is until it commits. Workers walk buckets that never change [U3-9].

mod bytes; // a packet as keys address it
mod node; // what one filter looks for, and where it leads
mod table; // buckets of nodes, and the walk through them
mod tables; // the tables of a block: ids, owners, links

use crate::action;
use crate::block::Core;
use crate::error::{Refusal, RequestError};
use crate::filter::Filter;
use crate::generation::Span;
use crate::index::place::Place;
use crate::kind::{Change, Changed, Deleted, Kind, Matches, View};
use crate::ledger::By;
use crate::live::Class;
use crate::plane::Plane;
use crate::proto::Proto;
use crate::reap::Garbage;
use crate::request::{Cx, FilterOptions, FilterSpec, KindName, KindSpec, U32Node, U32Spec};
use crate::sync::{self, Arc, AtomicBool, Ordering};
use node::Node;
use table::parts;
pub(crate) use table::{Nodes, Table};
pub(crate) use tables::Tables;
use tables::{Owner, Removed};

/// Most buckets of a table [U3-1].
const DIVISOR_MAX: u32 = 256;

/// In a handle: the root table of the proto that is asked.
const ROOT: u32 = 0xfff;

/// The u32 kind of one proto: its share of the block's tables.
#[derive(Debug)]
pub(super) struct U32 {
    tables: Arc<Tables>,
    owner: Owner,
    root: Arc<Table>,
    /// Workers see the root table: they do from the first success on, whatever comes into it.
    published: AtomicBool,
}

/// What a handle of u32 stands for.
#[derive(Debug)]
pub(crate) enum Entry {
    Table(Arc<Table>),
    Node(Box<Node>),
}

impl Entry {
    /// As it was asked for.
    pub(crate) fn spec(&self) -> U32Spec {
        match self {
            Entry::Table(table) => U32Spec::Table { divisor: table.divisor() },
            Entry::Node(node) => U32Spec::Node(Box::new(node.spec().clone())),
        }
    }

    /// How often it was put to a packet [ST-7].
    pub(crate) fn runs(&self) -> u64 {
        match self {
            Entry::Table(_) => 0,
            Entry::Node(node) => node.runs().sum().packets,
        }
    }
}

impl U32 {
    /// A proto of the block `core`, with its root table [U3-1].
    pub(super) fn new(core: &Core) -> Result<U32, RequestError> {
        let (plane, tables) = (core.plane(), Arc::clone(core.tables()));
        let (owner, root) = tables.lock().enter(|table| record(plane, table))?;
        Ok(U32 { tables, owner, root, published: AtomicBool::new(false) })
    }

    /// A handle whose table may be given as "the root".
    fn resolve(&self, handle: u32) -> u32 {
        if parts(handle).0 == ROOT { self.root.handle() | handle & 0xf_ffff } else { handle }
    }

    /// Adds a table [U3-1].
    fn add_table(&self, change: &Change<'_>, divisor: u32, old: Option<&Filter>) -> Result<u32, Refusal> {
        let refusals = [
            (old.is_some(), "a table cannot be changed"),
            (!divisor.is_power_of_two() || divisor > DIVISOR_MAX, "the divisor is a power of two, at most 256"),
            (change.spec.handle & 0xf_ffff != 0, "a table's handle has neither bucket nor node"),
            (!change.spec.actions.is_empty(), "a table has no actions"),
        ];
        if let Some((_, why)) = refusals.iter().find(|(refused, _)| *refused) {
            return Err(RequestError::Invalid(why).into());
        }
        let wanted = self.resolve(change.spec.handle);
        let id = {
            let mut tables = self.tables.lock();
            match parts(wanted).0 {
                0 => tables.next_id()?,
                id if tables.is_taken(id) => return Err(RequestError::Exists("this table id").into()), // [HA-4]
                id => id,
            }
        };
        let table = Table::new(id, divisor);
        let counters = change.cx.plane().filter_counters().take();
        let matches = Matches::U32(Entry::Table(Arc::clone(&table)));
        let mut built = change.build(table.handle(), matches, counters)?;
        let mut tables = self.tables.lock();
        tables.add(Arc::clone(&built.filter), &table, self.owner);
        built.tell();
        Ok(table.handle())
    }

    /// Adds a node, or puts it in the place of `old` [U3-9].
    fn add_node(&self, change: &Change<'_>, wanted: &U32Node, old: Option<&Filter>) -> Result<u32, Refusal> {
        let plane = change.cx.plane();
        action::validate(&change.spec.actions)?;
        node::validate(wanted)?;
        let (handle, spec, counters) = match old.map(|old| (old, old.matches())) {
            None => {
                let counters = (plane.filter_counters().take(), plane.filter_counters().take());
                (self.handle(change.spec, wanted)?, wanted.clone(), counters)
            }
            // Keys and counters stay, and so does what is not given [FO-7], [ST-7].
            Some((old, Matches::U32(Entry::Node(node)))) => {
                let (link, class, indev) = (wanted.link, wanted.class, wanted.indev);
                let kept = node.spec().clone();
                let spec = U32Node {
                    link: link.or(kept.link),
                    class: class.or(kept.class),
                    indev: indev.or(kept.indev),
                    ..kept
                };
                (old.handle(), spec, (old.hits().clone(), node.runs().clone()))
            }
            Some(_) => return Err(RequestError::Invalid("a table cannot become a node").into()),
        };
        let link = match spec.link {
            None | Some(0) => None,
            Some(link) => Some(Arc::clone(self.tables.lock().target(link)?)),
        };
        let (hits, runs) = counters;
        let node = Node::new(spec, link, !change.spec.actions.is_empty(), runs);
        let mut built = change.build(handle, Matches::U32(Entry::Node(Box::new(node))), hits)?;
        let mut tables = self.tables.lock();
        let bucket = tables.put(&built.filter, old);
        old.inspect(|old| old.mark_deleted());
        built.tell();
        change.cx.defer(bucket.map(garbage));
        Ok(handle)
    }

    /// Where a new node goes: table and bucket as `wanted` says, the node's number as the handle says, or a free one
    /// [U3-6], [HA-4].
    fn handle(&self, spec: &FilterSpec, wanted: &U32Node) -> Result<u32, RequestError> {
        let tables = self.tables.lock();
        let place = if wanted.table == 0 { self.root.handle() } else { self.resolve(wanted.table) };
        let (id, bucket, _) = parts(place);
        let table = tables.table(id).ok_or(RequestError::Invalid("no such table"))?;
        if bucket >= table.divisor() {
            return Err(RequestError::Invalid("the table has not so many buckets"));
        }
        match parts(self.resolve(spec.handle)) {
            (other, ..) if other != 0 && other != id => Err(RequestError::Invalid("the handle is of another table")),
            (_, _, 0) => table.free_handle(bucket).ok_or(RequestError::NoSpace("node id")), // [ER-35]
            (_, _, node) => {
                let handle = table.handle() | bucket << 12 | node; // the handle's own bucket means nothing
                let free = table.get(handle).is_none();
                free.then_some(handle).ok_or(RequestError::Exists("this handle"))
            }
        }
    }
}

impl Kind for U32 {
    fn name(&self) -> KindName {
        KindName::U32
    }

    fn unlocked(&self) -> bool {
        false // [UL-6]
    }

    fn change(&self, change: &Change<'_>, old: Option<Arc<Filter>>) -> Result<Changed, Refusal> {
        sync::assert_global(); // [KR-4]
        let KindSpec::U32(wanted) = &change.spec.kind else {
            return Err(RequestError::Invalid("this priority has another kind").into()); // [ER-6]
        };
        let handle = match wanted {
            U32Spec::Table { divisor } => self.add_table(change, *divisor, old.as_deref())?,
            U32Spec::Node(node) => self.add_node(change, node, old.as_deref())?,
        };
        Ok(Changed { handle, old, publish: !self.published.load(Ordering::Relaxed) })
    }

    fn check_delete(&self, filter: &Filter) -> Result<(), RequestError> {
        sync::assert_global();
        match filter.matches() {
            Matches::U32(Entry::Table(table)) => self.tables.lock().check_unused(table),
            _ => Ok(()),
        }
    }

    fn delete(
        &self,
        cx: &Cx<'_>,
        _: &Arc<Proto>,
        filter: &Arc<Filter>,
        told: &mut dyn FnMut(),
    ) -> Result<Option<Deleted>, Refusal> {
        sync::assert_global();
        let mut tables = self.tables.lock();
        if filter.is_deleted() {
            return Ok(None);
        }
        filter.mark_deleted();
        let removed = match filter.matches() {
            Matches::U32(Entry::Table(table)) => tables.remove(table),
            _ => Removed { buckets: tables.take(filter).into_iter().collect(), ..Removed::default() },
        };
        let last = tables.is_last(); // [U3-8]
        told();
        drop(tables);
        cx.defer(removed.buckets.into_iter().map(garbage));
        for node in removed.filters {
            node.mark_deleted();
            cx.release(node);
        }
        cx.release(Arc::clone(filter));
        Ok(Some(Deleted { publish: false, last }))
    }

    fn get(&self, _: By<'_>, handle: u32) -> Option<Arc<Filter>> {
        sync::assert_global();
        self.tables.lock().get(self.resolve(handle))
    }

    fn page(&self, _: By<'_>, position: Option<u64>, max: usize) -> Vec<(u64, Arc<Filter>)> {
        sync::assert_global();
        let Ok(mut after) = position.map(u32::try_from).transpose() else { return Vec::new() };
        let tables = self.tables.lock();
        let next = || {
            let filter = tables.after(self.owner, after)?;
            after = Some(filter.handle());
            Some((u64::from(filter.handle()), filter))
        };
        std::iter::from_fn(next).take(max).collect()
    }

    /// From the first success on there is the root table, if nothing else.
    fn has_filters(&self, _: By<'_>) -> bool {
        self.published.load(Ordering::Relaxed)
    }

    fn unpublished(&self) -> Option<(View, u64)> {
        let first = !self.published.load(Ordering::Relaxed);
        first.then(|| (View::U32(Arc::clone(&self.root)), 1))
    }

    fn set_published(&self, _: u64) {
        self.published.store(true, Ordering::Relaxed);
    }

    fn retire_if_filters(&self) -> Result<bool, Refusal> {
        let some = self.has_filters(None); // the global lock is held: nobody comes between
        if some {
            self.retire();
        }
        Ok(some)
    }

    fn retire(&self) {
        self.tables.lock().retire(self.owner);
    }

    /// Tables do not count: they go with the last node [U3-8].
    fn retire_if_empty(&self) -> bool {
        let mut tables = self.tables.lock();
        tables.is_empty(self.owner) && tables.retire(self.owner)
    }

    /// The nodes go with the tables. Workers may still walk the buckets, by way of a list from before.
    fn destroy(&self, cx: &Cx<'_>) -> Vec<Arc<Filter>> {
        sync::assert_global(); // [TP-17], [KR-4]
        let Removed { filters, buckets } = self.tables.lock().leave(self.owner);
        cx.defer(buckets.into_iter().map(garbage));
        filters.iter().for_each(|filter| filter.mark_deleted());
        filters
    }
}

/// What requests see of a table that comes without being asked for.
fn record(plane: &Plane, table: &Arc<Table>) -> Arc<Filter> {
    let matches = Matches::U32(Entry::Table(Arc::clone(table)));
    let (hits, live) = (plane.filter_counters().take(), plane.count(Class::Filter));
    let label = ("", FilterOptions::default());
    Arc::new(Filter::new(
        table.handle(),
        label,
        matches,
        Default::default(),
        (Span::begun(), Place::of_none()),
        hits,
        live,
    ))
}

fn garbage(bucket: Arc<Nodes>) -> Garbage {
    Garbage::Nodes(bucket)
}

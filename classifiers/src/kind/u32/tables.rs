//! Tables: the u32 tables of a block, their ids, and who links to them.

use std::collections::{BTreeMap, BTreeSet};

use super::Entry;
use super::table::{Nodes, Table, parts};
use crate::error::RequestError;
use crate::filter::Filter;
use crate::kind::Matches;
use crate::sync::{Arc, Lock, Locked, class};

/// Id of the first root table of a block [HA-4].
const FIRST_ROOT: u32 = 0x800;

/// Automatic ids [HA-4]; 0xfff is left out, because it means the root table of whichever proto is asked.
const AUTOMATIC: std::ops::RangeInclusive<u32> = 0x801..=0xffe;

/// The tables of all u32 protos of a block [U3-7]. A table belongs to the proto it was created in: it is listed there
/// [WK-11] and goes with it, but any u32 proto of the block may link to it and fill it.
#[derive(Debug, Default)]
pub(crate) struct Tables(Lock<Registry, { class::INNER }>);

/// Tables by id. The lock is short; what keeps several steps together is the global lock.
#[derive(Debug, Default)]
pub(super) struct Registry {
    members: BTreeMap<u32, Member>,
    /// Protos that are not retired: requests see their tables.
    protos: BTreeSet<Owner>,
    /// The proto that came last.
    newest: Owner,
    /// The automatic id that was given last.
    last_id: u32,
}

/// A table, and why it is there.
#[derive(Debug)]
struct Member {
    table: Arc<Table>,
    /// The proto it belongs to, and what requests see of it. Nothing if its proto is gone and only links hold it: like a
    /// chain that only gotos hold, it is there for packets, and empty [CH-6].
    owned: Option<(Owner, Arc<Filter>)>,
    /// Nodes that link to it.
    links: usize,
    root: bool,
}

/// A proto: no other one of the block ever is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner(u64);

/// What was taken out of the tables.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// To be released.
    pub(super) filters: Vec<Arc<Filter>>,
    /// What workers may still walk.
    pub(super) buckets: Vec<Arc<Nodes>>,
}

impl Tables {
    pub(super) fn lock(&self) -> Locked<'_, Registry, { class::INNER }> {
        self.0.lock()
    }
}

impl Registry {
    /// A proto comes, with its root table, for which `record` makes what requests see of it [U3-1].
    pub(super) fn enter(
        &mut self,
        record: impl FnOnce(&Arc<Table>) -> Arc<Filter>,
    ) -> Result<(Owner, Arc<Table>), RequestError> {
        let id = if self.members.is_empty() {
            self.last_id = 0; // from the beginning
            FIRST_ROOT
        } else {
            self.next_id()?
        };
        let owner = Owner(self.newest.0 + 1);
        self.newest = owner;
        self.protos.insert(owner);
        let table = Table::new(id, 1);
        self.insert(record(&table), &table, owner, true);
        Ok((owner, table))
    }

    /// A table comes.
    pub(super) fn add(&mut self, record: Arc<Filter>, table: &Arc<Table>, owner: Owner) {
        self.insert(record, table, owner, false);
    }

    fn insert(&mut self, record: Arc<Filter>, table: &Arc<Table>, owner: Owner, root: bool) {
        let member = Member { table: Arc::clone(table), owned: Some((owner, record)), links: 0, root };
        self.members.insert(table.id(), member);
    }

    /// An id that no table has: the next one after the one that was given last, in a circle [HA-4].
    pub(super) fn next_id(&mut self) -> Result<u32, RequestError> {
        let later = AUTOMATIC.filter(|&id| id > self.last_id);
        let free = later.chain(AUTOMATIC).find(|&id| !self.is_taken(id));
        self.last_id = free.ok_or(RequestError::NoSpace("table id"))?; // [ER-35]
        Ok(self.last_id)
    }

    pub(super) fn is_taken(&self, id: u32) -> bool {
        self.members.contains_key(&id)
    }

    /// The table `id`, if requests see it.
    pub(super) fn table(&self, id: u32) -> Option<&Arc<Table>> {
        let member = self.members.get(&id)?;
        member.owner().filter(|owner| self.protos.contains(owner)).map(|_| &member.table)
    }

    /// The table that a node may link to [U3-6].
    pub(super) fn target(&self, handle: u32) -> Result<&Arc<Table>, RequestError> {
        let (id, bucket, node) = parts(handle);
        let table = self.table(id).filter(|_| (bucket, node) == (0, 0));
        let table = table.ok_or(RequestError::Invalid("a link to a table that is not there"))?;
        if self.members[&id].root {
            return Err(RequestError::Invalid("a link to a root table"));
        }
        Ok(table)
    }

    /// The table or node with `handle`.
    pub(super) fn get(&self, handle: u32) -> Option<Arc<Filter>> {
        let (id, bucket, node) = parts(handle);
        let table = self.table(id)?;
        if (bucket, node) == (0, 0) { self.members[&id].record().cloned() } else { table.get(handle) }
    }

    /// The first table or node of `owner` after `handle`; of all for nothing [WK-3].
    pub(super) fn after(&self, owner: Owner, handle: Option<u32>) -> Option<Arc<Filter>> {
        let mut members = self.members.range(handle.map_or(0, |handle| parts(handle).0)..).map(|(_, member)| member);
        members.find_map(|member| match handle {
            _ if member.owner() != Some(owner) => None,
            Some(handle) if handle >= member.table.handle() => member.table.after(handle),
            _ => member.record().cloned(),
        })
    }

    fn tables_of(&self, owner: Owner) -> impl Iterator<Item = &Member> {
        self.members.values().filter(move |member| member.owner() == Some(owner))
    }

    /// Whether `owner` has no node.
    pub(super) fn is_empty(&self, owner: Owner) -> bool {
        self.tables_of(owner).all(|member| member.table.is_empty())
    }

    /// Whether the block has no node, and but one proto [U3-8].
    pub(super) fn is_last(&self) -> bool {
        self.protos.len() == 1 && self.members.values().all(|member| member.table.is_empty())
    }

    /// Puts a node into its table, in the place of the one with its handle if there is one.
    pub(super) fn put(&mut self, node: &Arc<Filter>, old: Option<&Filter>) -> Option<Arc<Nodes>> {
        let bucket = self.members.get(&parts(node.handle()).0)?.table.put(Arc::clone(node));
        self.link(node);
        old.inspect(|old| self.unlink(old)); // last, so that a table that both link to stays
        bucket
    }

    /// Takes a node out.
    pub(super) fn take(&mut self, node: &Filter) -> Option<Arc<Nodes>> {
        let bucket = self.members.get(&parts(node.handle()).0)?.table.take(node.handle());
        self.unlink(node);
        bucket
    }

    /// Whether `table` can be deleted [ER-34].
    pub(super) fn check_unused(&self, table: &Table) -> Result<(), RequestError> {
        match self.members.get(&table.id()) {
            Some(member) if member.root => Err(RequestError::Invalid("a root table goes with its priority only")),
            Some(member) if member.links > 0 => Err(RequestError::Busy("a node links to this table")),
            _ => Ok(()),
        }
    }

    /// Takes out a table that nothing links to, with its nodes.
    pub(super) fn remove(&mut self, table: &Table) -> Removed {
        let mut removed = Removed::default();
        self.clear(table, &mut removed);
        self.members.remove(&table.id());
        removed
    }

    /// Requests no longer see the tables of `owner`; packets do until [`Registry::leave`]. `false` if it was done before.
    pub(super) fn retire(&mut self, owner: Owner) -> bool {
        self.protos.remove(&owner)
    }

    /// The tables of `owner` are emptied, and go: at once, or when nothing links to them any more.
    pub(super) fn leave(&mut self, owner: Owner) -> Removed {
        self.retire(owner);
        let tables: Vec<_> = self.tables_of(owner).map(|member| Arc::clone(&member.table)).collect();
        let mut removed = Removed::default();
        for table in &tables {
            self.clear(table, &mut removed);
        }
        for table in &tables {
            let Some(member) = self.members.get_mut(&table.id()) else { continue };
            removed.filters.extend(member.owned.take().map(|(_, record)| record));
            self.forget_unused(table.id());
        }
        removed
    }

    /// Takes all nodes out of `table`.
    fn clear(&mut self, table: &Table, removed: &mut Removed) {
        let mut after = table.handle();
        while let Some(node) = table.after(after) {
            after = node.handle();
            self.unlink(&node);
            removed.filters.push(node);
        }
        removed.buckets.extend(table.clear());
    }

    /// A node that links to a table comes.
    fn link(&mut self, node: &Filter) {
        if let Some(member) = target(node).and_then(|table| self.members.get_mut(&table.id())) {
            member.links += 1;
        }
    }

    /// It goes.
    fn unlink(&mut self, node: &Filter) {
        let Some(table) = target(node) else { return };
        if let Some(member) = self.members.get_mut(&table.id()) {
            member.links -= 1;
        }
        self.forget_unused(table.id());
    }

    fn forget_unused(&mut self, id: u32) {
        if self.members.get(&id).is_some_and(|member| member.owned.is_none() && member.links == 0) {
            self.members.remove(&id);
        }
    }
}

impl Member {
    fn owner(&self) -> Option<Owner> {
        self.owned.as_ref().map(|(owner, _)| *owner)
    }

    fn record(&self) -> Option<&Arc<Filter>> {
        self.owned.as_ref().map(|(_, record)| record)
    }
}

/// The table that a node links to.
fn target(node: &Filter) -> Option<&Arc<Table>> {
    match node.matches() {
        Matches::U32(Entry::Node(node)) => node.link(),
        _ => None,
    }
}

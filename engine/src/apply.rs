//! Apply: running blocks become what a configuration wants, at one instant.
//!
//! The difference is made of ordinary requests in one transaction, by several threads at once [RL-1]. Packets see all of it
//! with the commit, or nothing. Clients go on meanwhile: what one of them took from the transaction is looked at again, and
//! where that is not enough, everything is [RL-4], [RL-7].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::BlockId;
use tidegate_classifiers::generation::Generation;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    self, ChainCursor, ChainInfo, Cursor, DumpFilter, FilterId, FilterInfo, FilterSpec, KindName, Mode, Owner, Record,
};
use tidegate_classifiers::transaction::{Overtaken, Transaction};
use tidegate_config as config;
use tidegate_config::diff::{Changes, diff};

/// How often to begin anew when clients are in the way.
const TRIES: u32 = 5;

/// How often to look again at what clients took from one transaction.
const SETTLINGS: u32 = 50;

/// Threads that make requests, at most.
const THREADS: usize = 4;

/// Requests that a thread takes at once, at least.
const BATCH: usize = 64;

/// Records of a listing that are taken at once.
const PAGE: usize = 256;

/// Reasons that are told, at most.
const REASONS: usize = 100;

/// A block that runs, and what it is to become.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// What runs.
    pub running: &'a Arc<Block>,
    /// What is wanted.
    pub wanted: &'a config::Block,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The generation that packets see since.
    pub generation: Generation,
    /// Filters that came.
    pub added: usize,
    /// Filters that were changed, or got another place.
    pub replaced: usize,
    /// Filters that went.
    pub removed: usize,
    /// Filters that stayed as they were.
    pub unchanged: usize,
    /// Time for the difference and for preparing the requests.
    pub prepare: Duration,
    /// Time for the commit, and for settling conflicts with clients.
    pub commit: Duration,
}

/// Why nothing was done: every reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// What would have to happen in a block, now.
pub fn changes(target: Target<'_>) -> Changes {
    diff(filters(target.running), &chains(target.running), target.wanted)
}

/// The filters of a block, listed a page at a time: a large one is never in memory twice.
pub(crate) fn filters(block: &Arc<Block>) -> impl Iterator<Item = FilterInfo> {
    let mut cursor = Cursor::default();
    let page = move || {
        let page = request::dump_page(block, &DumpFilter::default(), &mut cursor, PAGE).unwrap_or_default();
        (!page.is_empty()).then_some(page)
    };
    std::iter::from_fn(page).flatten().filter_map(|record| match record {
        Record::Filter(info) => Some(info),
        Record::Proto(_) => None,
    })
}

/// The chains of a block.
pub fn chains(block: &Arc<Block>) -> Vec<ChainInfo> {
    request::dump_chains(block, &mut ChainCursor::default(), usize::MAX)
}

/// Makes the blocks what they are to become, all at one instant.
///
/// # Errors
/// Every reason why not: nothing visible has changed then.
pub fn apply(plane: &Arc<Plane>, targets: &[Target<'_>]) -> Result<Applied, Refused> {
    let mut applied = Applied { generation: plane.generation(), ..Applied::default() };
    let mut tries = 0;
    loop {
        let started = Instant::now();
        let changes: Vec<Changes> = targets.iter().map(|&target| self::changes(target)).collect();
        applied.count(&changes);
        if changes.iter().all(Changes::is_empty) {
            applied.prepare += started.elapsed();
            return Ok(applied);
        }
        let work = Work::new(targets, &changes);
        let transaction = plane.begin_as(Owner::Configuration);
        let prepared = work.prepare(&transaction);
        applied.prepare += started.elapsed();
        let started = Instant::now();
        let committed = prepared.and_then(|made| work.commit(transaction, &made));
        applied.commit += started.elapsed();
        match committed {
            Ok(generation) => return Ok(Applied { generation, ..applied }),
            Err(failures) if tries < TRIES && failures.iter().any(|failure| failure.by_others) => tries += 1,
            Err(failures) => return Err(reasons(failures)),
        }
    }
}

impl Applied {
    fn count(&mut self, changes: &[Changes]) {
        self.added = changes.iter().map(|changes| changes.added.len()).sum();
        self.replaced = changes.iter().map(|changes| changes.replaced.len()).sum();
        self.removed = changes.iter().map(|changes| changes.removed.len()).sum();
        self.unchanged = changes.iter().map(|changes| changes.unchanged).sum();
    }
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    reason: String,
    /// It may be because a client was faster.
    by_others: bool,
}

fn reasons(failures: Vec<Failure>) -> Refused {
    let more = failures.len().saturating_sub(REASONS);
    let mut reasons: Vec<String> = failures.into_iter().take(REASONS).map(|failure| failure.reason).collect();
    reasons.extend((more > 0).then(|| format!("and {more} more")));
    Refused(reasons)
}

/// The requests of one attempt.
struct Work<'a> {
    targets: &'a [Target<'a>],
    changes: &'a [Changes],
    /// By place; deletions before additions.
    deletions: Vec<Request<'a>>,
    additions: Vec<Request<'a>>,
}

/// A request for one filter.
#[derive(Clone, Copy)]
struct Request<'a> {
    target: Target<'a>,
    what: What,
    spec: &'a FilterSpec,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Delete,
    Replace,
    Add,
}

/// Where the additions are, in their order.
type Made = Vec<FilterId>;

impl<'a> Work<'a> {
    fn new(targets: &'a [Target<'a>], changes: &'a [Changes]) -> Work<'a> {
        let (mut deletions, mut additions) = (Vec::new(), Vec::new());
        for (&target, changes) in targets.iter().zip(changes) {
            let request = move |what, spec| Request { target, what, spec };
            let first = (deletions.len(), additions.len());
            deletions.extend(changes.removed.iter().map(|spec| request(What::Delete, spec)));
            additions.extend(changes.added.iter().map(|spec| request(What::Add, spec)));
            for replaced in &changes.replaced {
                if replaced.in_place() {
                    additions.push(request(What::Replace, &replaced.new));
                } else {
                    deletions.push(request(What::Delete, &replaced.old));
                    additions.push(request(What::Add, &replaced.new));
                }
            }
            // In tables of u32 the nodes go first; handles that the file gives come first.
            deletions[first.0..].sort_by_key(|request| (request.proto(), request.spec.handle & 0xfff == 0));
            additions[first.1..].sort_by_key(|request| (request.proto(), request.spec.handle == 0));
        }
        Work { targets, changes, deletions, additions }
    }

    /// Prepares everything; says where the additions are.
    fn prepare(&self, transaction: &Transaction) -> Result<Made, Vec<Failure>> {
        for (target, changes) in self.targets.iter().zip(self.changes) {
            for &chain in &changes.chains_added {
                add_chain(transaction, *target, chain).map_err(|failure| vec![failure])?;
            }
        }
        in_parallel(&self.deletions, |request| request.delete(transaction))?;
        let made = in_parallel(&self.additions, |request| request.add(transaction))?;
        for (target, changes) in self.targets.iter().zip(self.changes) {
            for &chain in &changes.chains_removed {
                let released = transaction.release_chain(target.running, chain);
                released.map_err(|error| vec![chain_failure(target.wanted, chain, error)])?;
            }
        }
        Ok(made)
    }

    /// Commits; looks again at what clients take away meanwhile.
    fn commit(&self, mut transaction: Transaction, made: &[FilterId]) -> Result<Generation, Vec<Failure>> {
        let mut places = None;
        for _ in 0..SETTLINGS {
            match transaction.commit() {
                Ok(generation) => return Ok(generation),
                Err(conflict) => {
                    transaction = conflict.transaction;
                    let places = places.get_or_insert_with(|| self.places(made));
                    for overtaken in conflict.overtaken {
                        self.settle(&transaction, overtaken, places)?;
                    }
                }
            }
        }
        let reason = format!("clients changed the same filters {SETTLINGS} times while they were being reloaded");
        Err(vec![Failure { reason, by_others: true }])
    }

    /// The requests by the place that they are about.
    fn places(&self, made: &[FilterId]) -> Places<'_, 'a> {
        let deletions = self.deletions.iter().map(|request| (request, request.spec.id()));
        let mut places: Places<'_, 'a> = HashMap::new();
        for (request, id) in deletions.chain(self.additions.iter().zip(made.iter().copied())) {
            places.entry((request.target.running.id(), id)).or_default().push(request);
        }
        places
    }

    /// Makes the requests again that are still needed where `overtaken` says.
    fn settle(
        &self,
        transaction: &Transaction,
        overtaken: Overtaken,
        places: &Places<'_, 'a>,
    ) -> Result<(), Vec<Failure>> {
        let redo =
            |request: &Request<'_>, id: FilterId| request.again(transaction, id).map_err(|failure| vec![failure]);
        match overtaken {
            Overtaken::Filter { block, filter } => {
                let requests = places.get(&(block, filter)).into_iter().flatten();
                requests.into_iter().try_for_each(|request| redo(request, filter))
            }
            Overtaken::Chain { block, chain } => {
                for (target, changes) in self.targets.iter().zip(self.changes) {
                    if target.running.id() == block && changes.chains_added.contains(&chain) {
                        add_chain(transaction, *target, chain).map_err(|failure| vec![failure])?;
                    }
                }
                let inside = |(at, id): &(BlockId, FilterId)| *at == block && id.chain == chain;
                let lost = places.iter().filter(|(place, _)| inside(place));
                lost.flat_map(|(&(_, id), requests)| requests.iter().map(move |request| (request, id)))
                    .try_for_each(|(request, id)| redo(request, id))
            }
        }
    }
}

/// The requests at each place: a deletion before an addition.
type Places<'w, 'a> = HashMap<(BlockId, FilterId), Vec<&'w Request<'a>>>;

impl Request<'_> {
    /// Requests of one proto are made by one thread, in order.
    fn proto(&self) -> (u32, u32) {
        (self.spec.chain, self.spec.priority)
    }

    fn delete(&self, transaction: &Transaction) -> Result<(), Failure> {
        match transaction.delete_filter(self.target.running, self.spec.id()) {
            Ok(()) | Err(RequestError::NotFound(_)) => Ok(()), // [RL-4]
            Err(error) => Err(self.failure(error)),
        }
    }

    fn add(&self, transaction: &Transaction) -> Result<FilterId, Failure> {
        let mode = if self.what == What::Replace { Mode::Replace } else { Mode::Add };
        transaction.new_filter(self.target.running, self.spec, mode).map_err(|error| self.failure(error))
    }

    /// After a client was at `id`, where this had been made.
    fn again(&self, transaction: &Transaction, id: FilterId) -> Result<(), Failure> {
        let own =
            transaction.get_filter(self.target.running, id).ok().filter(|info| info.owner == Owner::Configuration);
        match (self.what, own) {
            (What::Delete, None) => Ok(()),
            (What::Delete, Some(_)) => self.delete(transaction),
            (What::Add, Some(info)) if info.name == self.spec.name && info.matches == self.spec.kind => Ok(()),
            _ => {
                let spec = FilterSpec { handle: id.handle, ..self.spec.clone() };
                let made = Request { spec: &spec, ..*self }.add(transaction);
                made.map(|_| ())
            }
        }
    }

    fn failure(&self, error: RequestError) -> Failure {
        let by_others = !matches!(error, RequestError::Unsupported(_) | RequestError::NoMemory(_));
        let whose = if by_others { "; did a client make something there?" } else { "" };
        Failure { reason: reason(self.target.wanted, self.spec, error) + whose, by_others }
    }
}

/// Why a filter was refused.
pub(crate) fn reason(block: &config::Block, filter: &FilterSpec, error: RequestError) -> String {
    let FilterSpec { name, chain, priority, kind, .. } = filter;
    let named = if name.is_empty() { String::new() } else { format!("{name:?} ") };
    let hint = match (kind.name(), error) {
        (KindName::U32, RequestError::Unsupported(_)) => ": a change of kind u32 needs a restart", // [TX-12]
        _ => "",
    };
    format!("block {}: filter {named}at chain {chain} priority {priority}: {error}{hint}", block.name)
}

fn chain_failure(block: &config::Block, chain: u32, error: RequestError) -> Failure {
    let by_others = matches!(error, RequestError::Busy(_));
    Failure { reason: format!("block {}: chain {chain}: {error}", block.name), by_others }
}

/// A chain that is there already, for whatever reason, is fine.
fn add_chain(transaction: &Transaction, target: Target<'_>, chain: u32) -> Result<(), Failure> {
    match transaction.add_chain(target.running, chain) {
        Ok(()) | Err(RequestError::Exists(_)) => Ok(()),
        Err(error) => Err(chain_failure(target.wanted, chain, error)),
    }
}

/// Does `request` for all of `requests`, which are in the order of protos: those of one proto in their order, by one thread.
fn in_parallel<'a, T: Send>(
    requests: &[Request<'a>],
    request: impl Fn(&Request<'a>) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Vec<Failure>> {
    let batches = batches(requests);
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(number) else { return done };
            done.push((number, batch.iter().map(&request).collect::<Vec<_>>()));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(batches.len());
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut done = take();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_by_key(|(number, _)| *number);
    let (mut made, mut failures) = (Vec::with_capacity(requests.len()), Vec::new());
    for result in done.into_iter().flat_map(|(_, results)| results) {
        match result {
            Ok(one) => made.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(made) } else { Err(failures) }
}

/// Slices of whole protos, of [`BATCH`] requests or a little more.
fn batches<'r, 'a>(mut requests: &'r [Request<'a>]) -> Vec<&'r [Request<'a>]> {
    let mut batches = Vec::new();
    while !requests.is_empty() {
        let end = requests.len().min(BATCH);
        let last = &requests[end - 1];
        let same = requests[end..].iter().take_while(|request| {
            request.target.running.id() == last.target.running.id() && request.proto() == last.proto()
        });
        let (batch, rest) = requests.split_at(end + same.count());
        batches.push(batch);
        requests = rest;
    }
    batches
}

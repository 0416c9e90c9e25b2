//! Many schedules of one race, and what must hold after each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::sync::Mutex;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::event::{BlockId, Event, Notice, Subscription};
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{self, ActionInfo, FilterInfo, KindSpec, Mode, U32Spec};
use tidegate_classifiers::sync::thread;

/// Schedules of a test by each scheduler.
const SCHEDULES: usize = 2000;

/// Preemptions that the second scheduler makes: few are enough for nearly every known race.
const DEPTH: usize = 3;

/// Runs `race` in many schedules, each with a plane of its own. It says which outcome it met: one of `outcomes`, each of which
/// must come up. After each run the events tell what the listing shows, and nothing is left after everything was dropped.
///
/// The schedules are the same each time. A failing one is printed; `REPLAY=that` runs only this one.
pub(crate) fn explore(outcomes: &[&'static str], race: impl Fn(&mut Rig) -> &'static str + Send + Sync + 'static) {
    explore_on(outcomes, Plane::standalone, race);
}

/// The same with workers to wait for.
pub(crate) fn explore_beside(
    outcomes: &[&'static str],
    quiescence: impl Fn() -> Box<dyn Quiescence> + Send + Sync + 'static,
    race: impl Fn(&mut Rig) -> &'static str + Send + Sync + 'static,
) {
    explore_on(outcomes, move |workers| Plane::with_limits(workers, Dyn(quiescence()), 1_000_000, 0), race);
}

fn explore_on(
    outcomes: &[&'static str],
    plane: impl Fn(usize) -> Arc<Plane> + Send + Sync + 'static,
    race: impl Fn(&mut Rig) -> &'static str + Send + Sync + 'static,
) {
    let seen = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let execution = {
        let (seen, outcomes) = (Arc::clone(&seen), outcomes.to_vec());
        Arc::new(move || {
            let mut rig = Rig::new(plane(1));
            let outcome = race(&mut rig);
            assert!(outcomes.contains(&outcome), "forbidden: {outcome}");
            rig.tear_down();
            *seen.lock().unwrap().entry(outcome).or_insert(0) += 1;
        })
    };
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let execution = Arc::clone(&execution);
        let mut config = shuttle::Config::new();
        config.stack_size = 0x40000; // requests of a debug build
        config.silence_warnings = true; // that all atomics are sequentially consistent here
        shuttle::Runner::new(scheduler, config).run(move || execution());
    };
    if let Ok(schedule) = std::env::var("REPLAY") {
        return run(Box::new(ReplayScheduler::new_from_encoded(&schedule)));
    }
    let schedules = SCHEDULES * if std::env::var_os("SOAK").is_some() { 50 } else { 1 };
    run(Box::new(RandomScheduler::new_from_seed(1, schedules)));
    run(Box::new(PctScheduler::new_from_seed(1, DEPTH, schedules)));
    let seen = seen.lock().unwrap();
    eprintln!("{seen:?}");
    let missing: Vec<_> = outcomes.iter().filter(|outcome| !seen.contains_key(*outcome)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}, but {seen:?}");
}

/// Runs both at once.
pub(crate) fn two<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    thread::scope(|scope| {
        let (a, b) = (scope.spawn(a), scope.spawn(b));
        (a.join().unwrap(), b.join().unwrap())
    })
}

/// Runs all three at once.
pub(crate) fn three<A: Send, B: Send, C: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
    c: impl FnOnce() -> C + Send,
) -> (A, B, C) {
    thread::scope(|scope| {
        let (a, b, c) = (scope.spawn(a), scope.spawn(b), scope.spawn(c));
        (a.join().unwrap(), b.join().unwrap(), c.join().unwrap())
    })
}

/// A plane with one block and a subscriber.
pub(crate) struct Rig {
    pub(crate) plane: Arc<Plane>,
    pub(crate) block: Arc<Block>,
    events: Subscription,
    told: Told,
    /// How often requests came to each point. Its lock makes each point one where another thread may go on [IM-7].
    passed: Arc<Mutex<HashMap<Point, usize>>>,
}

/// What a subscriber knows who only heard the events of one block.
struct Told {
    block: BlockId,
    /// Filters by priority and handle, of each chain.
    chains: BTreeMap<u32, BTreeMap<(u32, u32), FilterInfo>>,
    /// Chain-added events.
    chains_added: usize,
    /// The block is going: its filters go unannounced [CH-15].
    tearing_down: bool,
}

struct Dyn(Box<dyn Quiescence>);

impl Quiescence for Dyn {
    fn snapshot(&self) -> Box<[u64]> {
        self.0.snapshot()
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        self.0.passed(snapshot)
    }
}

impl Rig {
    fn new(plane: Arc<Plane>) -> Rig {
        let passed = Arc::new(Mutex::new(HashMap::new()));
        let counts = Arc::clone(&passed);
        plane.set_hook(Some(Arc::new(move |point| {
            *counts.lock().unwrap().entry(point).or_insert(0) += 1;
            Ok(())
        })));
        let (block, events) = (plane.private_block(), plane.subscribe(1000));
        let told = Told { block: block.id(), chains: BTreeMap::new(), chains_added: 0, tearing_down: false };
        Rig { plane, block, events, told, passed }
    }

    /// How often requests came to `point` since this was asked last.
    pub(crate) fn passed(&self, point: Point) -> usize {
        self.passed.lock().unwrap().remove(&point).unwrap_or(0)
    }

    /// Chain-added events so far.
    pub(crate) fn chains_told(&self) -> usize {
        self.told.chains_added
    }

    /// What is listed, after all requests returned: the same chains and filters as the events told.
    pub(crate) fn listing(&mut self) -> Vec<FilterInfo> {
        self.hear();
        let filters = request::dump(&self.block);
        let mut told = self.told.chains.clone();
        let mut chains = request::list_chains(&self.block);
        chains.sort_unstable();
        assert_eq!(chains, told.keys().copied().collect::<Vec<_>>(), "chains listed, chains told");
        for filter in &filters {
            let place = (filter.priority, filter.handle);
            let heard = told.get_mut(&filter.chain).and_then(|chain| chain.remove(&place));
            match heard {
                Some(heard) => assert_same(filter, &heard),
                None => assert!(is_table(filter), "listed, but not told: {filter:?}"), // u32 makes tables by itself
            }
        }
        let unlisted: Vec<_> = told.into_values().flat_map(BTreeMap::into_values).collect();
        assert!(unlisted.is_empty(), "told, but not listed: {unlisted:?}");
        filters
    }

    /// Objects in memory when the reaper is done, without the block.
    pub(crate) fn live(&self) -> LiveCounts {
        self.plane.reaper().drain();
        self.plane.live()
    }

    fn hear(&mut self) {
        while let Some(notice) = self.events.try_next() {
            match notice {
                Notice::Event(event) => self.told.hear(&event),
                Notice::Lost(count) => panic!("{count} events lost"),
            }
        }
    }

    fn tear_down(mut self) {
        let (filters, live) = (self.listing(), self.live());
        let protos: BTreeSet<_> = filters.iter().map(|info| (info.chain, info.priority)).collect();
        assert_eq!((live.filters, live.protos), (filters.len(), protos.len()), "in memory, and listed: {filters:?}");
        self.told.tearing_down = true;
        self.block = self.plane.private_block(); // the old one goes
        self.hear();
        assert!(self.told.chains.is_empty(), "chains that were never deleted");
        let Rig { plane, block, .. } = self;
        drop(block);
        plane.reaper().drain();
        assert_eq!(plane.live(), LiveCounts::default());
    }
}

impl Told {
    /// An event that does not fit what came before is an error.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::ChainAdded { block, chain } if *block == self.block => {
                self.chains_added += 1;
                let there = self.chains.insert(*chain, BTreeMap::new());
                assert!(there.is_none(), "chain {chain} was added twice");
            }
            Event::ChainDeleted { block, chain } if *block == self.block => {
                let filters = self.chains.remove(chain);
                let filters = filters.unwrap_or_else(|| panic!("chain {chain} is deleted, but was not there"));
                assert!(filters.is_empty() || self.tearing_down, "chain {chain} is deleted with {filters:?}");
            }
            Event::FilterAdded { block, mode, filter } if *block == self.block => {
                let old = self.filters(filter.chain).insert((filter.priority, filter.handle), filter.clone());
                match mode {
                    Mode::Add => assert!(old.is_none(), "added twice: {filter:?}"),
                    Mode::Change => assert!(old.is_some(), "changed, but was not there: {filter:?}"),
                    Mode::Replace => {}
                }
            }
            Event::FilterDeleted { block, filter } if *block == self.block => {
                let old = self.filters(filter.chain).remove(&(filter.priority, filter.handle));
                assert_same(filter, &old.unwrap_or_else(|| panic!("deleted, but was not there: {filter:?}")));
            }
            Event::ProtoDeleted { block, proto } if *block == self.block => {
                let filters = self.filters(proto.chain);
                let before = filters.len();
                filters.retain(|&(priority, _), filter| {
                    let gone = priority == proto.priority;
                    assert!(
                        !gone || (filter.protocol, filter.kind) == (proto.protocol, proto.kind),
                        "{filter:?} {proto:?}"
                    );
                    !gone
                });
                assert!(filters.len() < before, "deleted, but had no filters: {proto:?}");
            }
            _ => {} // of another block, or of no block
        }
    }

    fn filters(&mut self, chain: u32) -> &mut BTreeMap<(u32, u32), FilterInfo> {
        self.chains.get_mut(&chain).expect("events of a chain come between chain-added and chain-deleted [NT-5]")
    }
}

/// The same but for counts, and for what an action that is shared was changed to.
fn assert_same(a: &FilterInfo, b: &FilterInfo) {
    let actions = |info: &FilterInfo| info.actions.iter().map(|action: &ActionInfo| action.index).collect::<Vec<_>>();
    assert_eq!((a.protocol, a.kind, &a.name, &a.matches), (b.protocol, b.kind, &b.name, &b.matches));
    assert_eq!(actions(a), actions(b));
}

fn is_table(filter: &FilterInfo) -> bool {
    matches!(filter.matches, KindSpec::U32(U32Spec::Table { .. }))
}

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::{Event, Notice, Subscription};
use tidegate_classifiers::flow_key::SRC_MAC;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    self, ActionKind, ActionSpec, ActionUse, ETH_P_ALL, FilterId, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindSpec,
};
use tidegate_classifiers::verdict::Control;

/// What nobody should ever wait for.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(20);

/// How often, in CI and in the long form.
pub(crate) fn times(short: u32, long: u32) -> u32 {
    if std::env::var_os("SOAK").is_some() { long } else { short }
}

/// How long.
pub(crate) fn seconds(short: u64, long: u64) -> Duration {
    Duration::from_secs(times(short as u32, long as u32).into())
}

/// Stops threads, by name, at injection points.
pub(crate) struct Gates(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    shut: HashSet<(&'static str, Point)>,
    failing: HashSet<(&'static str, Point)>,
    standing: HashSet<(&'static str, Point)>,
    passed: HashMap<(&'static str, Point), usize>,
    /// A thread waited for too long, and went on.
    stuck: bool,
}

impl Drop for Gates {
    fn drop(&mut self) {
        assert!(thread::panicking() || !self.state().stuck, "a thread stood at a gate for too long");
    }
}

impl Gates {
    /// All open.
    pub(crate) fn of(plane: &Plane) -> Gates {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let inner = Arc::clone(&shared);
        plane.set_hook(Some(Arc::new(move |point| pass(&inner, point))));
        Gates(shared)
    }

    pub(crate) fn shut(&self, who: &'static str, point: Point) {
        self.state().shut.insert((who, point));
    }

    pub(crate) fn open(&self, who: &'static str, point: Point) {
        self.state().shut.remove(&(who, point));
        self.0.1.notify_all();
    }

    /// Requests of this thread fail here.
    pub(crate) fn fail(&self, who: &'static str, point: Point) {
        self.state().failing.insert((who, point));
    }

    /// They no longer do.
    pub(crate) fn allow(&self, who: &'static str, point: Point) {
        self.state().failing.remove(&(who, point));
    }

    /// Until the thread stands at a gate that is shut.
    pub(crate) fn wait_for(&self, who: &'static str, point: Point) {
        let standing = |state: &mut State| !state.standing.contains(&(who, point));
        let timeout = self.0.1.wait_timeout_while(self.state(), TOO_LONG, standing).unwrap().1;
        assert!(!timeout.timed_out(), "{who} does not come to {point:?}");
    }

    /// Until the thread has come here this often.
    pub(crate) fn wait_for_passes(&self, who: &'static str, point: Point, count: usize) {
        let fewer = |state: &mut State| state.passed.get(&(who, point)).is_none_or(|&passed| passed < count);
        let timeout = self.0.1.wait_timeout_while(self.state(), TOO_LONG, fewer).unwrap().1;
        assert!(!timeout.timed_out(), "{who} does not come to {point:?} {count} times");
    }

    /// How often the thread has come here.
    pub(crate) fn passes(&self, who: &'static str, point: Point) -> usize {
        self.state().passed.get(&(who, point)).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }
}

fn pass((state, changed): &(Mutex<State>, Condvar), point: Point) -> Result<(), RequestError> {
    let thread = thread::current();
    let Some(who) = NAMES.into_iter().find(|&who| thread.name() == Some(who)) else { return Ok(()) };
    let mut state = state.lock().unwrap();
    *state.passed.entry((who, point)).or_default() += 1;
    if state.shut.contains(&(who, point)) {
        state.standing.insert((who, point));
        changed.notify_all();
        let shut = |state: &mut State| state.shut.contains(&(who, point));
        let (after, timeout) = changed.wait_timeout_while(state, TOO_LONG, shut).unwrap();
        state = after;
        state.stuck |= timeout.timed_out();
        state.standing.remove(&(who, point));
    }
    changed.notify_all();
    if state.failing.contains(&(who, point)) { Err(RequestError::NoMemory("injected")) } else { Ok(()) }
}

/// Threads that gates can stop.
const NAMES: [&str; 4] = ["ann", "bob", "cat", "dan"];

/// Starts a thread with a name.
pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    run: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    thread::Builder::new().name(name.into()).spawn_scoped(scope, run).unwrap()
}

/// Runs the same in `count` threads at once; what each returns.
pub(crate) fn together<T: Send>(count: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = std::sync::Barrier::new(count);
    thread::scope(|scope| {
        let (run, barrier) = (&run, &barrier);
        let start = move |n| {
            barrier.wait();
            run(n)
        };
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || start(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).collect()
    })
}

/// Makes threads lose time at injection points.
pub(crate) fn jitter(plane: &Plane) {
    plane.set_hook(Some(Arc::new(|_| {
        match fastrand::u8(..) {
            0..160 => {}
            160..250 => thread::yield_now(),
            250.. => thread::sleep(Duration::from_micros(30)),
        }
        Ok(())
    })));
}

/// A filter of this priority, for every protocol, without handle or actions.
pub(crate) fn matchall(priority: u32) -> FilterSpec {
    let (kind, actions, name) = (KindSpec::Matchall, Default::default(), "".into());
    FilterSpec { options: Default::default(), chain: 0, priority, protocol: ETH_P_ALL, handle: 0, kind, actions, name }
}

/// A filter for this source address.
pub(crate) fn flower(priority: u32, address: u64) -> FilterSpec {
    flower_masked(priority, address, SRC_MAC.max())
}

/// A filter for these bits of the source address.
pub(crate) fn flower_masked(priority: u32, address: u64, mask: u64) -> FilterSpec {
    let mut spec = FlowerSpec::default();
    spec.value.set(SRC_MAC, address);
    spec.mask.set(SRC_MAC, mask);
    FilterSpec { kind: KindSpec::Flower(Box::new(spec)), ..matchall(priority) }
}

/// With these actions.
pub(crate) fn with(spec: FilterSpec, actions: &[ActionUse]) -> FilterSpec {
    FilterSpec { actions: actions.into(), ..spec }
}

pub(crate) fn gact(control: Control) -> ActionUse {
    ActionSpec::Gact(GactSpec { control, random: None }).into()
}

/// An action that there is not: the filter is refused after its handle was reserved.
pub(crate) const MISSING: ActionUse = ActionUse::shared(ActionKind::Mirred, 999);

pub(crate) fn key(chain: u32, priority: u32, handle: u32) -> FilterKey {
    FilterKey::from(FilterId { chain, priority, handle })
}

/// Handles in a priority of chain 0.
pub(crate) fn handles(block: &Arc<Block>, priority: u32) -> Vec<u32> {
    let of_priority = request::dump(block).into_iter().filter(|info| info.priority == priority);
    of_priority.map(|info| info.handle).collect()
}

/// The events that wait, in few words.
pub(crate) fn told(subscription: &Subscription) -> Vec<String> {
    let word = |notice| match notice {
        Notice::Event(event) => match &*event {
            Event::ChainAdded { chain, .. } => format!("+chain {chain}"),
            Event::ChainDeleted { chain, .. } => format!("-chain {chain}"),
            Event::FilterAdded { filter, .. } => format!("+filter {}", filter.name),
            Event::FilterDeleted { filter, .. } => format!("-filter {}", filter.name),
            Event::ProtoDeleted { proto, .. } => format!("-proto {}", proto.priority),
            other => format!("{other:?}"),
        },
        Notice::Lost(count) => panic!("{count} events were lost"),
    };
    std::iter::from_fn(|| subscription.try_next()).map(word).collect()
}

/// Nothing is left of all that was on the plane [KR-76].
pub(crate) fn assert_nothing_left(plane: &Arc<Plane>) {
    plane.set_hook(None);
    for kind in ActionKind::ALL {
        request::flush_actions(plane, kind).expect("no filter is left, so no action is bound");
    }
    plane.reaper().drain();
    assert_eq!(plane.live(), LiveCounts::default());
}

/// Whether it comes true before long.
pub(crate) fn soon(condition: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < TOO_LONG {
        if condition() {
            return true;
        }
        thread::yield_now();
    }
    false
}

/// Long enough for a thread that may run to have run, so that one which has not was stopped.
pub(crate) fn a_while() {
    thread::sleep(Duration::from_millis(60));
}

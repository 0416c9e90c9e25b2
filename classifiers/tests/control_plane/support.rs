use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::{Event, Notice, Subscription};
use tidegate_classifiers::flow_key;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    ActionSpec, ETH_P_ALL, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindSpec, dump,
};
use tidegate_classifiers::verdict::Control;

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

/// Longer than anything here takes, shorter than a person waits.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A plane, and a block on it.
pub(crate) fn block() -> (Arc<Plane>, Arc<Block>) {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    (plane, block)
}

pub(crate) fn gact(control: Control) -> ActionSpec {
    ActionSpec::Gact(GactSpec { control, random: None })
}

pub(crate) fn matchall(chain: u32, priority: u32) -> FilterSpec {
    FilterSpec {
        chain,
        priority,
        protocol: ETH_P_ALL,
        handle: 0,
        kind: KindSpec::Matchall,
        actions: [gact(Control::Shot)].into_iter().collect(),
        name: "".into(),
        options: Default::default(),
    }
}

/// TCP over IPv4 to `port`.
pub(crate) fn flower(chain: u32, priority: u32, port: u16) -> FilterSpec {
    let kind = KindSpec::Flower(Box::new(tcp_to(port)));
    FilterSpec { protocol: IPV4, kind, ..matchall(chain, priority) }
}

pub(crate) fn tcp_to(port: u16) -> FlowerSpec {
    let mut spec = FlowerSpec::default();
    for (field, value) in [(flow_key::IP_PROTO, 6), (flow_key::DST_PORT, u64::from(port))] {
        spec.value.set(field, value);
        spec.mask.set(field, field.max());
    }
    spec
}

pub(crate) fn with_handle(handle: u32, spec: FilterSpec) -> FilterSpec {
    FilterSpec { handle, ..spec }
}

pub(crate) fn goto(target: u32, spec: FilterSpec) -> FilterSpec {
    FilterSpec { actions: [gact(Control::Goto(target))].into_iter().collect(), ..spec }
}

pub(crate) fn key(chain: u32, priority: u32, handle: u32) -> FilterKey {
    FilterKey { handle, ..FilterKey::priority(chain, priority) }
}

/// Chain, priority and handle of every filter.
pub(crate) fn listing(block: &Arc<Block>) -> Vec<(u32, u32, u32)> {
    dump(block).iter().map(|info| (info.chain, info.priority, info.handle)).collect()
}

pub(crate) fn errno<T: std::fmt::Debug>(result: Result<T, RequestError>) -> &'static str {
    result.expect_err("this request is to be refused").errno()
}

/// [KR-76]
pub(crate) fn assert_nothing_lives(plane: &Plane) {
    plane.reaper().drain();
    assert_eq!(plane.live(), LiveCounts::default());
}

/// What was told since the last call, in short words.
pub(crate) fn told(subscription: &Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_next())
        .map(|notice| match notice {
            Notice::Lost(count) => format!("{count} lost"),
            Notice::Event(event) => match &*event {
                Event::ChainAdded { chain, .. } => format!("+chain {chain}"),
                Event::ChainDeleted { chain, .. } => format!("-chain {chain}"),
                Event::FilterAdded { mode, filter, .. } => {
                    format!("{mode:?} {}:{}:{}", filter.chain, filter.priority, filter.handle)
                }
                Event::FilterDeleted { filter, .. } => {
                    format!("-{}:{}:{}", filter.chain, filter.priority, filter.handle)
                }
                Event::ProtoDeleted { proto, .. } => format!("-{}:{}", proto.chain, proto.priority),
                Event::ActionsAdded { mode, actions } => format!("{mode:?} {} actions", actions.len()),
                Event::ActionsDeleted { actions } => format!("-{} actions", actions.len()),
                Event::ActionsFlushed { count, .. } => format!("flushed {count} actions"),
            },
        })
        .collect()
}

/// Stops requests at injection points: the next one to come to a point that is closed waits there until it is let go.
pub(crate) struct Stage {
    plane: Arc<Plane>,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    closed: Option<Point>,
    waiting: bool,
    let_go: bool,
    failing: Option<Point>,
    passed: HashMap<Point, usize>,
}

impl Stage {
    pub(crate) fn of(plane: &Arc<Plane>) -> Stage {
        let state = Arc::new((Mutex::<State>::default(), Condvar::new()));
        let hook = {
            let state = Arc::clone(&state);
            move |point: Point| {
                let (lock, changed) = &*state;
                let mut it = lock.lock().unwrap();
                *it.passed.entry(point).or_default() += 1;
                if it.closed == Some(point) {
                    it.closed = None;
                    it.waiting = true;
                    changed.notify_all();
                    it = changed.wait_timeout_while(it, 6 * SOON, |it| !it.let_go).unwrap().0;
                    (it.waiting, it.let_go) = (false, false);
                }
                if it.failing == Some(point) {
                    it.failing = None;
                    return Err(RequestError::NoMemory("injected"));
                }
                Ok(())
            }
        };
        plane.set_hook(Some(Arc::new(hook)));
        Stage { plane: Arc::clone(plane), state }
    }

    /// Runs `request` on a thread of its own up to `point`, then `meanwhile`, then the rest; returns what both said.
    pub(crate) fn stopped<A: Send, B>(
        &self,
        point: Point,
        request: impl FnOnce() -> A + Send,
        meanwhile: impl FnOnce() -> B,
    ) -> (A, B) {
        let (lock, changed) = &*self.state;
        lock.lock().unwrap().closed = Some(point);
        std::thread::scope(|scope| {
            let request = scope.spawn(request);
            let waited = changed.wait_timeout_while(lock.lock().unwrap(), SOON, |it| !it.waiting).unwrap();
            assert!(waited.0.waiting, "the request did not come to {point:?}");
            drop(waited);
            let meanwhile = meanwhile();
            self.let_go();
            (request.join().unwrap(), meanwhile)
        })
    }

    /// Lets the request that waits go on.
    pub(crate) fn let_go(&self) {
        let (lock, changed) = &*self.state;
        let mut it = lock.lock().unwrap();
        it.let_go = it.waiting;
        changed.notify_all();
    }

    /// The next request to come to `point` fails there with ENOMEM.
    pub(crate) fn fail_at(&self, point: Point) {
        self.state.0.lock().unwrap().failing = Some(point);
    }

    /// How often requests came to `point`.
    pub(crate) fn passed(&self, point: Point) -> usize {
        self.state.0.lock().unwrap().passed.get(&point).copied().unwrap_or(0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.plane.set_hook(None);
    }
}

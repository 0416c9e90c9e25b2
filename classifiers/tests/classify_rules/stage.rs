use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::{Event, Notice, Subscription};
use tidegate_classifiers::flow_key::SRC_MAC;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::{Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{ETH_P_ALL, FilterSpec, FwSpec, KindSpec, U32Node, U32Spec};

use crate::support::{flower, keys, matchall};

/// Does something else in the middle of a request: when this thread's `request` comes to `point` for the first time, `other`
/// runs, and what it returns is what the request meets there.
pub(crate) fn during<R>(
    block: &Arc<Block>,
    point: Point,
    other: impl FnOnce(&Arc<Block>) -> Result<(), RequestError> + Send + 'static,
    request: impl FnOnce() -> R,
) -> R {
    let done = Arc::new(AtomicBool::new(false));
    let (block_too, done_too, other) = (Arc::clone(block), Arc::clone(&done), Mutex::new(Some(other)));
    block.plane().set_hook(Some(Arc::new(move |at| {
        let other = if at == point { other.lock().unwrap().take() } else { None };
        other.map_or(Ok(()), |other| {
            done_too.store(true, SeqCst);
            other(&block_too)
        })
    })));
    let answer = request();
    block.plane().set_hook(None);
    assert!(done.load(SeqCst), "the request did not come to {point:?}");
    answer
}

/// Counts how often anybody comes to `point` while `run` runs.
pub(crate) fn passes<R>(plane: &Plane, point: Point, run: impl FnOnce() -> R) -> (u64, R) {
    let count = Arc::new(AtomicU64::new(0));
    let count_too = Arc::clone(&count);
    plane.set_hook(Some(Arc::new(move |at| {
        count_too.fetch_add((at == point).into(), SeqCst);
        Ok(())
    })));
    let answer = run();
    plane.set_hook(None);
    (count.load(SeqCst), answer)
}

/// One worker, in a burst until a test says that the burst ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Burst(Arc<AtomicU64>);

impl Burst {
    pub(crate) fn end(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Quiescence for Burst {
    fn snapshot(&self) -> Box<[u64]> {
        Box::new([self.0.load(SeqCst)])
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        self.0.load(SeqCst) > snapshot[0]
    }
}

/// A plane with one worker, which is in a burst.
pub(crate) fn in_a_burst() -> (Burst, Arc<Plane>, Arc<Block>) {
    let burst = Burst::default();
    let plane = Plane::new(1, burst.clone());
    let block = plane.private_block();
    (burst, plane, block)
}

/// What was told since the last time.
pub(crate) fn told(subscription: &Subscription) -> Vec<Event> {
    let notices = std::iter::from_fn(|| subscription.try_next());
    let events = notices.map(|notice| match notice {
        Notice::Event(event) => (*event).clone(),
        Notice::Lost(_) => unreachable!("there was room for more"),
    });
    events.collect()
}

/// The same in short: `+chain 1`, `-chain 1`, `+1/2/3` (chain, priority, handle), `-1/2/3`, `-1/2` for a priority.
pub(crate) fn told_briefly(subscription: &Subscription) -> Vec<String> {
    let events = told(subscription).into_iter().map(|event| match event {
        Event::ChainAdded { chain, .. } => format!("+chain {chain}"),
        Event::ChainDeleted { chain, .. } => format!("-chain {chain}"),
        Event::FilterAdded { filter, .. } => format!("+{}/{}/{}", filter.chain, filter.priority, filter.handle),
        Event::FilterDeleted { filter, .. } => format!("-{}/{}/{}", filter.chain, filter.priority, filter.handle),
        Event::ProtoDeleted { proto, .. } => format!("-{}/{}", proto.chain, proto.priority),
        other => format!("{other:?}"),
    });
    events.collect()
}

/// A flower filter of priority 1, for all protocols, with this handle and a key of its own.
pub(crate) fn one(handle: u32) -> FilterSpec {
    with_key(handle, handle.into())
}

/// A flower filter of priority 1, for all protocols.
pub(crate) fn with_key(handle: u32, mac: u64) -> FilterSpec {
    FilterSpec { handle, ..flower(1, ETH_P_ALL, keys(&[(SRC_MAC, mac)]), &[]) }
}

pub(crate) fn fw(priority: u32, mark: u32) -> FilterSpec {
    let kind = KindSpec::Fw(FwSpec { mask: u32::MAX, indev: None });
    FilterSpec { handle: mark, kind, ..matchall(priority, &[]) }
}

/// A u32 node that matches everything.
pub(crate) fn u32(priority: u32) -> FilterSpec {
    let kind = KindSpec::U32(U32Spec::Node(Box::new(U32Node { class: Some(1), ..U32Node::default() })));
    FilterSpec { kind, ..matchall(priority, &[]) }
}

pub(crate) fn unknown(priority: u32) -> FilterSpec {
    FilterSpec { kind: KindSpec::Unknown, ..matchall(priority, &[]) }
}

pub(crate) fn ingress(port: u16) -> Hook {
    Hook { port: PortId(port), direction: Direction::Ingress }
}

//! What a request costs, in bytes that it allocates: the same whatever is there already, and nothing for events that nobody hears.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key::SRC_MAC;
use tidegate_classifiers::request::{self, ETH_P_ALL, FilterSpec, FlowerSpec, KindSpec};

thread_local! {
    /// Of this thread.
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged. The counter is a constant-initialised thread local without a
// destructor, so touching it neither allocates nor runs after it is gone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System.alloc` with `layout`, as all memory given out here did.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn bytes(run: impl FnOnce()) -> usize {
    let before = BYTES.get();
    run();
    BYTES.get() - before
}

fn matchall(priority: u32) -> FilterSpec {
    let kind = KindSpec::Matchall;
    FilterSpec {
        chain: 0,
        priority,
        protocol: ETH_P_ALL,
        handle: 0,
        kind,
        actions: Default::default(),
        name: "".into(),
        options: Default::default(),
    }
}

fn flower(mac: u64) -> FilterSpec {
    let mut spec = FlowerSpec::default();
    spec.mask.set(SRC_MAC, SRC_MAC.max());
    spec.value.set(SRC_MAC, mac);
    FilterSpec { kind: KindSpec::Flower(Box::new(spec)), ..matchall(1) }
}

/// What an add and a delete allocate on average, beside what is there.
fn cost(block: &Arc<Block>, spec: impl Fn(u32) -> FilterSpec, beside: u32) -> usize {
    const ROUNDS: u32 = 100;
    let of_many = bytes(|| {
        for n in 0..ROUNDS {
            let id = request::add_filter(block, &spec(beside + 1 + n)).unwrap();
            request::delete_filter(block, id).unwrap();
        }
    });
    of_many / ROUNDS as usize
}

/// [DV-12]: 20,000 priorities, 20,000 filters of one priority, against 200. A list or a table that is copied whole costs a hundred times
/// as much.
#[test]
fn a_change_costs_the_same_whatever_is_there() {
    let priorities = |n| matchall(n + 1);
    let filters = |n: u32| flower(n.into());
    let costs = |spec: &dyn Fn(u32) -> FilterSpec| {
        let block = Block::new(1);
        [0..200, 200..20_000].map(|more| {
            for n in more.clone() {
                request::add_filter(&block, &spec(n)).unwrap();
            }
            cost(&block, spec, more.end)
        })
    };
    for (what, [few, many]) in [("priorities", costs(&priorities)), ("filters", costs(&filters))] {
        assert!(many < 3 * few, "{what}: {few} bytes beside 200, {many} beside 20,000");
    }
}

/// [NT-9]: an event costs something where somebody listens, and nothing where nobody does, also after somebody did.
#[test]
fn events_cost_nothing_where_nobody_listens() {
    let block = Block::new(1);
    request::add_filter(&block, &matchall(1_000_000)).unwrap();
    let alone = cost(&block, matchall, 10);
    let subscription = block.plane().subscribe(1_000_000);
    let heard = cost(&block, matchall, 10);
    drop(subscription);
    let again = cost(&block, matchall, 10);
    assert!(heard > alone && again <= alone, "{alone} bytes, {heard} with a listener, {again} after it");
}

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::flow_cache::{FlowCache, FlowCacheCounts};
use tidegate_classifiers::flow_key::{self, DST_IP_LOW, DST_PORT, ETH_TYPE, IP_PROTO};
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{self, FilterKey, FilterSpec, FlowerSpec, KindSpec, Mode};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::load::*;
use crate::support::*;

const SHOT: Verdict = Verdict::Drop(DropReason::Filter);

/// Flows whose filters come and go, and as many whose filters stay.
const FLOWS: usize = 64;

/// UDP to one host: 10.n.0.1, those that stay in other networks.
fn to(n: usize) -> [u8; 4] {
    [10, n as u8, 0, 1]
}

fn packet_to(n: usize) -> Packet {
    let mut frame = [0; 60];
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[23] = 17;
    frame[26..30].copy_from_slice(&[192, 0, 2, 1]);
    frame[30..34].copy_from_slice(&to(n));
    frame[36..38].copy_from_slice(&9_u16.to_be_bytes());
    Packet::parse(&frame, PortId(0)).unwrap()
}

fn filter_to(n: usize, control: Control) -> FilterSpec {
    let mut spec = FlowerSpec::default();
    spec.value.set_dst_ipv4(to(n).into());
    for (field, value) in [(ETH_TYPE, 0x0800), (IP_PROTO, 17), (DST_PORT, 9)] {
        spec.value.set(field, value);
        spec.mask.set(field, field.max());
    }
    spec.mask.set(DST_IP_LOW, flow_key::ARP_SIP.max());
    let kind = KindSpec::Flower(Box::new(spec));
    with(FilterSpec { protocol: 0x0800, handle: 1, kind, ..matchall(1 + n as u32) }, &[gact(control)])
}

/// What packets of a flow meet: in what order that changes, and what it is. Odd while it changes.
#[derive(Default)]
struct Flow(AtomicU32);

impl Flow {
    const VERDICTS: [Verdict; 3] = [Verdict::Pass, SHOT, Verdict::Trap];

    /// Nothing while it changes.
    fn now(&self) -> Option<(u32, Verdict)> {
        let version = self.0.load(Ordering::SeqCst);
        version.is_multiple_of(2).then(|| (version, Self::VERDICTS[(version / 2) as usize % 3]))
    }

    /// From no filter to one, to another one, to none.
    fn change(&self, n: usize, change: impl Fn(&FilterSpec, u32)) {
        let version = self.0.fetch_add(1, Ordering::SeqCst);
        let control = if (version / 2).is_multiple_of(3) { Control::Shot } else { Control::Trap };
        change(&filter_to(n, control), version / 2 % 3);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// [DV-1], [DV-2], [DV-3]: two workers with flow caches, beside a client that adds, replaces and deletes as fast as it can, and has what is unlinked released
/// at once. Whatever a request has done is met in the next burst. Flows of other networks stay in the caches.
#[test]
fn a_flow_cache_is_exact() {
    let bursts = [Bursts::default(), Bursts::default()];
    let plane = Plane::new(2, Both(bursts.clone()));
    let block = plane.private_block();
    for n in FLOWS..2 * FLOWS {
        request::add_filter(&block, &filter_to(n, Control::Shot)).unwrap();
    }
    let flows: Vec<Flow> = (0..FLOWS).map(|_| Flow::default()).collect();
    let packets: Vec<Packet> = (0..2 * FLOWS).map(packet_to).collect();
    let (stop, checked) = (AtomicBool::new(false), AtomicU64::new(0));
    let work = |number: usize| {
        let (mut cache, mut others, mut rng) = (FlowCache::new(1024), FlowCache::new(1024), fastrand::Rng::new());
        let mut counts = [FlowCacheCounts::default(); 2];
        while !stop.load(Ordering::Relaxed) {
            let before: Vec<_> = flows.iter().map(Flow::now).collect();
            let verdicts = bursts[number].burst(|| {
                let (generation, head) = (plane.generation(), block.head());
                let mut found = [Found::default(); 2 * FLOWS];
                head.find_cached(&packets[..FLOWS], WorkerId(0), generation, &mut found[..FLOWS], &mut cache);
                head.find_cached(&packets[FLOWS..], WorkerId(0), generation, &mut found[FLOWS..], &mut others);
                let each = packets.iter().zip(found);
                each.map(|(packet, found)| {
                    let (worker, mut egress) = (WorkerId(number as u16), NoPorts);
                    let mut cx = Context { worker, generation, now_ns: 1, rng: &mut rng, egress: &mut egress };
                    block.classify_found(&head, found, &mut packet.clone(), &mut cx)
                })
                .collect::<Vec<_>>()
            });
            for (n, (before, flow)) in before.into_iter().zip(&flows).enumerate() {
                if let Some((_, verdict)) = before.filter(|before| flow.now() == Some(*before)) {
                    assert_eq!(verdicts[n], verdict, "flow {n}");
                    checked.fetch_add(1, Ordering::Relaxed);
                }
            }
            assert!(verdicts[FLOWS..].iter().all(|verdict| *verdict == SHOT));
            for (sum, cache) in counts.iter_mut().zip([&mut cache, &mut others]) {
                let FlowCacheCounts { hits, misses, passed_by } = cache.take_counts();
                *sum = FlowCacheCounts {
                    hits: sum.hits + hits,
                    misses: sum.misses + misses,
                    passed_by: sum.passed_by + passed_by,
                };
            }
        }
        counts
    };
    let changes = thread::scope(|scope| {
        let workers = [0, 1].map(|number| {
            let work = &work;
            scope.spawn(move || work(number))
        });
        let (end, mut changes) = (Instant::now() + seconds(3, 120), 0_u32);
        while Instant::now() < end {
            let n = fastrand::usize(..FLOWS);
            flows[n].change(n, |spec, step| {
                match step {
                    0 => _ = request::new_filter(&block, spec, Mode::Add).unwrap(),
                    1 => _ = request::new_filter(&block, spec, Mode::Replace).unwrap(),
                    _ => request::delete_filter(&block, FilterKey::priority(0, spec.priority)).unwrap(),
                };
            });
            plane.reaper().poll();
            changes += 1;
        }
        stop.store(true, Ordering::Relaxed);
        for [near, far] in workers.map(|worker| worker.join().unwrap()) {
            eprintln!("flows that change: {near:?}; that do not: {far:?}");
            assert!(near.misses > near.hits / 1000 && far.hits > 10 * far.misses, "{near:?}, {far:?}");
        }
        changes
    });
    let checked = checked.into_inner();
    eprintln!("{changes} changes, {checked} answers checked");
    assert!(changes > 1000 && checked > 10_000, "too slow to mean anything: {changes} changes, {checked} answers");
    drop(block);
    assert_nothing_left(&plane);
}

/// Two workers.
struct Both([Bursts; 2]);

impl Quiescence for Both {
    fn snapshot(&self) -> Box<[u64]> {
        self.0.iter().flat_map(|bursts| bursts.snapshot()).collect()
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        self.0.iter().zip(snapshot).all(|(bursts, then)| bursts.passed(&[*then]))
    }
}

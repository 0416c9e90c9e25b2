//! u32 beside other kinds, and beside traffic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::request::{self, FilterKey, FilterSpec, KindSpec, Mode, U32Node};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use super::support::{Rig, classify, filter, node, packet, table};

/// [KR-4], [TP-17], [CC-22], [CC-2]: in debug builds every operation of a locked kind asserts the global lock; here requests of
/// an unlocked kind lose races to u32, and drop last references of its protos.
#[test]
fn a_locked_kind_beside_an_unlocked_one_on_one_priority() {
    let block = Block::new(1);
    let flower = filter(1, 0, KindSpec::Flower(Box::default()), &[Control::Shot]);
    let u32 = node(1, U32Node::default(), &[Control::Shot]);
    let storm = &|spec: &FilterSpec, whole| {
        for _ in 0..3000 {
            match request::add_filter(&block, spec) {
                Ok(_) if whole => drop(request::delete_filter(&block, FilterKey::priority(0, 1))),
                Ok(id) => drop(request::delete_filter(&block, id)),
                Err(error) => assert!(matches!(error, RequestError::Invalid(_) | RequestError::Exists(_)), "{error}"),
            }
        }
    };
    thread::scope(|scope| {
        for (spec, whole) in [(&flower, false), (&flower, true), (&u32, false), (&u32, true)] {
            scope.spawn(move || storm(spec, whole));
        }
    });
    let _ = request::delete_filter(&block, FilterKey::priority(0, 1));
    assert!(request::dump(&block).is_empty() && request::list_chains(&block).is_empty());
    let plane = std::sync::Arc::clone(block.plane());
    drop(block);
    plane.reaper().drain();
    assert_eq!(plane.live(), Default::default());
}

/// [U3-9], [DV-3], [DP-16]: there is always exactly one of the old and the new node for a packet, also behind a link, and
/// none of their hits is lost [ST-7].
#[test]
fn packets_see_the_old_node_or_the_new_one() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    let inner = rig.add(&node(1, U32Node { table: 0x0010_0000, ..U32Node::default() }, &[Control::Shot])).unwrap();
    let outer = rig.add(&node(1, U32Node { link: Some(0x0010_0000), ..U32Node::default() }, &[])).unwrap();
    let (stop, sent) = (AtomicBool::new(false), packet(&[0; 20]));
    let packets = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut packets = 0;
            while !stop.load(Ordering::Relaxed) {
                let verdict = classify(&rig.block, 1, &sent);
                assert!(matches!(verdict, Verdict::Drop(DropReason::Filter) | Verdict::Consume), "{verdict:?}");
                packets += 1;
            }
            packets
        });
        for round in 0..5000 {
            let control = if round % 2 == 0 { Control::Stolen } else { Control::Shot };
            for (handle, controls) in [(inner, &[control][..]), (outer, &[])] {
                let spec = FilterSpec { handle, ..node(1, U32Node::default(), controls) };
                rig.request(&spec, Mode::Change).unwrap();
            }
            // Neighbours come and go: the bucket is another one each time.
            let neighbour = rig.add(&node(1, U32Node { table: 0x0010_0000, ..U32Node::default() }, &[])).unwrap();
            rig.delete(1, neighbour).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        worker.join().unwrap()
    });
    assert_eq!((rig.hits(1, inner), rig.get(1, outer).unwrap().runs), (packets, packets));
}

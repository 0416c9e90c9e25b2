use std::sync::Arc;

use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::request::{self, ActionKind, ActionUse, FilterKey, FilterSpec, Mode};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::stage::*;
use crate::support::*;

/// [DD-5], [DD-3], [KR-76]: gotos of a block into itself, which release chains when they are released.
#[test]
fn draining_leaves_nothing() {
    let (burst, plane, block) = in_a_burst();
    for chain in 0..20 {
        request::add_filter(&block, &in_chain(chain, matchall(1, &[gact(Control::Goto(chain + 1))]))).unwrap();
        request::add_filter(&block, &in_chain(chain, FilterSpec { priority: 2, ..one(1) })).unwrap();
    }
    drop(block);
    assert!(plane.reaper().pending() > 0 && plane.live().chains > 0);
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| plane.reaper().drain());
        while !drain.is_finished() {
            burst.end();
        }
    });
    assert_eq!((plane.reaper().pending(), plane.live()), (0, LiveCounts::default()));
}

/// [DD-6], [ST-6]: the filter's counts are gone; the shared action goes on counting, for the next filter with the same handle.
#[test]
fn counts_go_with_a_filter_and_stay_with_a_shared_action() {
    let mut rig = Rig::new(&[]);
    let shared = ActionUse::from(gact(Control::Ok)).numbered(4);
    request::add_actions(rig.block.plane(), std::slice::from_ref(&shared), Mode::Add).unwrap();
    let spec = FilterSpec { actions: [shared].into_iter().collect(), ..matchall(1, &[]) };
    for round in 1..4 {
        let id = request::add_filter(&rig.block, &spec).unwrap();
        rig.send(&tcp(80));
        let info = rig.info(0, 1);
        assert_eq!((info.hits.packets, info.actions[0].hits.packets), (1, round));
        request::delete_filter(&rig.block, id).unwrap();
    }
    let action = request::get_action(rig.block.plane(), ActionKind::Gact, 4).unwrap();
    assert_eq!((action.hits.packets, action.refs, action.binds), (3, 1, 0));
}

/// [DD-8], [DD-1]: its proto was listed for a moment, so a worker may hold it.
#[test]
fn what_failed_goes_the_same_way() {
    let (burst, plane, block) = in_a_burst();
    request::add_filter(&block, &matchall(2, &[gact(Control::Trap)])).unwrap();
    plane.reaper().poll();
    burst.end();
    plane.reaper().poll();
    let before = plane.live();
    let fail = |block: &Arc<_>| {
        assert_eq!(Rig::over(Arc::clone(block)).send(&tcp(80)), Verdict::Trap);
        Err(RequestError::NoMemory("test"))
    };
    let answer = during(&block, Point::BeforeCommit, fail, || request::add_filter(&block, &matchall(1, &[])));
    assert_eq!(errno(answer), "ENOMEM");
    plane.reaper().poll();
    assert_eq!(plane.live().protos, before.protos + 1, "a worker may still walk it");
    burst.end();
    plane.reaper().poll();
    assert_eq!((plane.reaper().pending(), plane.live()), (0, before));
    request::delete_filter(&block, FilterKey::chain(0)).unwrap();
}

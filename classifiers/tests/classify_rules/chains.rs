use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key::{DST_MAC, SRC_MAC};
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    self, CHAIN_MAX, ChainCursor, ChainSpec, FilterKey, FilterSpec, FlowerSpec, KindSpec,
};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::stage::*;
use crate::support::*;

fn chains(block: &Arc<Block>) -> usize {
    block.plane().live().chains
}

/// [CH-1], [CH-4], [NT-6], [ER-40]
#[test]
fn a_chain_made_for_a_filter_that_fails_was_never_there() {
    let block = Block::new(1);
    let subscription = block.plane().subscribe(9);
    let broken = in_chain(1, matchall(1, &vec![gact(Control::Pipe); 33]));
    assert_eq!(errno(request::add_filter(&block, &broken)), "EINVAL");
    assert_eq!((chains(&block), told_briefly(&subscription)), (0, vec![]));
}

/// [CH-6], [DP-9], [CH-2]: packets that get there are not matched; it comes back as the same chain.
#[test]
fn a_deleted_chain_that_gotos_hold_is_hidden_and_empty() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Goto(1))]), in_chain(1, matchall(1, &[gact(Control::Trap)]))]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
    request::delete_chain(&rig.block, 1).unwrap();
    assert_eq!((request::list_chains(&rig.block), chains(&rig.block)), (vec![0], 2));
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
    request::add_chain(&rig.block, 1).unwrap();
    request::add_filter(&rig.block, &in_chain(1, matchall(1, &[gact(Control::Shot)]))).unwrap();
    assert_ne!(rig.send(&tcp(80)), Verdict::Pass);
    assert_eq!(chains(&rig.block), 2);
}

/// [CH-7], [OBJ-5]: of two deletes the second finds no reference to give back, whether the chain went or is held by a goto.
#[test]
fn a_clients_reference_is_given_back_once() {
    let block = Block::new(1);
    request::add_chain(&block, 1).unwrap();
    request::add_filter(&block, &matchall(1, &[gact(Control::Goto(1))])).unwrap();
    request::delete_chain(&block, 1).unwrap();
    assert_eq!(errno(request::delete_chain(&block, 1)), "EINVAL");
    assert_eq!(chains(&block), 2, "the goto holds it still");
    let delete_too = |block: &Arc<Block>| request::delete_chain(block, 2);
    request::add_chain(&block, 2).unwrap();
    let id = request::add_filter(&block, &in_chain(2, one(1))).unwrap();
    during(&block, Point::Unlinked, delete_too, || request::delete_filter(&block, FilterKey::priority(2, id.priority)))
        .unwrap();
    assert_eq!((request::list_chains(&block), chains(&block)), (vec![0], 2));
}

/// [CH-8], [CH-9], [CH-10], [CC-7], [KR-12]: an add that is about to commit in a chain that is flushed. It succeeds, so its
/// filter is there, and it was told after the flush.
#[test]
fn an_add_across_a_flush_is_there_after_it() {
    for (point, index) in
        [Point::ProtoBuilt, Point::ProtoObtained, Point::HandleReserved, Point::BeforeCommit].into_iter().zip(0..)
    {
        let block = Block::new(1);
        request::add_filter(&block, &in_chain(index, matchall(9, &[]))).unwrap();
        let subscription = block.plane().subscribe(99);
        let flush = move |block: &Arc<Block>| {
            request::delete_filter(block, FilterKey::chain(index)).unwrap();
            assert_eq!(request::dump(block), []);
            Ok(())
        };
        let id = during(&block, point, flush, || request::add_filter(&block, &in_chain(index, one(5)))).unwrap();
        assert_eq!(request::get_filter(&block, id).unwrap().handle, 5, "{point:?}");
        let told = told_briefly(&subscription);
        let of_filters = told.iter().filter(|event| !event.contains("chain"));
        assert_eq!(of_filters.collect::<Vec<_>>(), [&format!("-{index}/9"), &format!("+{index}/1/5")], "{point:?}");
    }
}

/// [CH-10], [CH-11], [TP-11], [RP-1], [RP-2]: the request holds the chain, so the flush is not over when it comes to list its
/// proto. It tries again without it; with the last of its kind the flush is over.
#[test]
fn nothing_gets_into_a_chain_while_it_is_flushed() {
    let block = Block::new(1);
    request::add_chain(&block, 1).unwrap();
    request::add_filter(&block, &in_chain(1, matchall(9, &[]))).unwrap();
    let subscription = block.plane().subscribe(9);
    let flush = |block: &Arc<Block>| {
        request::delete_filter(block, FilterKey::chain(1)).unwrap();
        let (replays, _) = passes(block.plane(), Point::Replay, || ());
        assert_eq!(replays, 0);
        Ok(())
    };
    during(&block, Point::ProtoBuilt, flush, || request::add_filter(&block, &in_chain(1, one(1)))).unwrap();
    assert_eq!(told_briefly(&subscription), ["-1/9", "+1/1/1"]);
    let (replays, id) = passes(block.plane(), Point::Replay, || request::add_filter(&block, &in_chain(1, one(2))));
    assert_eq!((replays, id.unwrap().handle), (0, 2));
}

/// [CH-8], [KR-13], [NT-3]: in order, each told before the list is empty.
#[test]
fn a_flush_takes_every_priority() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    for priority in 1..=1000 {
        request::add_filter(&block, &matchall(priority, &[])).unwrap();
    }
    let subscription = plane.subscribe(2000);
    request::delete_filter(&block, FilterKey::chain(0)).unwrap();
    let expected: Vec<_> = (1..=1000).map(|n| format!("-0/{n}")).chain(["-chain 0".to_owned()]).collect();
    assert_eq!(told_briefly(&subscription), expected);
    plane.reaper().drain();
    assert_eq!(plane.live(), LiveCounts { blocks: 1, ..LiveCounts::default() });
}

/// [CH-14], [WK-7]: from page to page chains come and go, also the one that was listed last.
#[test]
fn a_listing_of_chains_goes_on_after_the_last_one() {
    let block = Block::new(1);
    for chain in [5, 6, 7, 8] {
        request::add_chain(&block, chain).unwrap();
    }
    request::add_filter(&block, &in_chain(8, matchall(1, &[gact(Control::Goto(4))]))).unwrap();
    let mut cursor = ChainCursor::default();
    let mut page =
        |max| request::dump_chains(&block, &mut cursor, max).iter().map(|info| info.index).collect::<Vec<_>>();
    assert_eq!(page(1), [5]);
    request::delete_chain(&block, 5).unwrap();
    request::delete_chain(&block, 7).unwrap();
    assert_eq!(page(1), [6]);
    request::add_chain(&block, 5).unwrap();
    request::add_chain(&block, 4).unwrap();
    assert_eq!(page(9), [8, 4, 5], "5 is another chain now; 4 came before it, as a hidden one");
    assert_eq!(page(9), [0; 0]);
}

/// [CH-16], [TM-1], [TM-3]
#[test]
fn a_chain_is_shown_with_its_template() {
    let block = Block::new(1);
    let template = Some(template(SRC_MAC));
    request::add_chain(&block, ChainSpec { index: CHAIN_MAX, template: template.clone() }).unwrap();
    assert_eq!(request::get_chain(&block, CHAIN_MAX).unwrap().template, template);
    request::add_filter(&block, &in_chain(2, matchall(1, &[gact(Control::Goto(3))]))).unwrap();
    let listed = request::dump_chains(&block, &mut ChainCursor::default(), 9);
    let listed: Vec<_> = listed.into_iter().map(|info| (info.index, info.template)).collect();
    assert_eq!(listed, [(CHAIN_MAX, template), (2, None)]);
}

fn template(field: tidegate_classifiers::flow_key::Field) -> KindSpec {
    KindSpec::Flower(Box::new(keys(&[(field, 0x1122)])))
}

fn masked(mask: u64) -> FilterSpec {
    let mut spec = FlowerSpec::default();
    spec.mask.set(SRC_MAC, mask);
    in_chain(1, flower(1, 3, spec, &[]))
}

/// [TM-1], [TM-2], [TM-3], [ER-10], [ER-11], [ER-20]: bit for bit, whatever the values.
#[test]
fn filters_keep_to_their_chains_template() {
    let block = Block::new(1);
    for kind in [matchall(1, &[]).kind, fw(1, 1).kind, u32(1).kind] {
        assert_eq!(errno(request::add_chain(&block, ChainSpec { index: 1, template: Some(kind) })), "EOPNOTSUPP");
    }
    let mut half = FlowerSpec::default();
    half.mask.set(SRC_MAC, 0xffff_ffff_0000);
    half.value.set(SRC_MAC, 0x1234_5678_0000);
    let template = Some(KindSpec::Flower(Box::new(half)));
    request::add_chain(&block, ChainSpec { index: 1, template }).unwrap();
    for (mask, fits) in [(0xffff_ffff_0000, true), (0x8000_0000_0000, true), (0, true), (0x1_0000_8000, false)] {
        let answer = request::add_filter(&block, &masked(mask)).map_err(|error| error.errno());
        assert_eq!(answer.err(), (!fits).then_some("EINVAL"), "{mask:x}");
    }
    let other = in_chain(1, flower(1, 3, keys(&[(DST_MAC, 1)]), &[]));
    assert_eq!(errno(request::add_filter(&block, &other)), "EINVAL");
    assert_eq!(errno(request::add_filter(&block, &in_chain(1, matchall(2, &[])))), "EINVAL");
}

/// [TM-4], [KR-17], [KR-20]: no chain, no event, no memory.
#[test]
fn a_template_that_is_refused_leaves_nothing() {
    let block = Block::new(1);
    let subscription = block.plane().subscribe(9);
    let ranged = FlowerSpec { dst_port_range: Some((1, 2)), ..tcp_to(0) };
    for _ in 0..1000 {
        for (template, error) in [
            (KindSpec::Flower(Box::new(ranged)), "EINVAL"),
            (KindSpec::Matchall, "EOPNOTSUPP"),
            (KindSpec::Unknown, "ENOENT"),
        ] {
            assert_eq!(errno(request::add_chain(&block, ChainSpec { index: 1, template: Some(template) })), error);
        }
    }
    assert_eq!((chains(&block), request::list_chains(&block), told(&subscription)), (0, vec![], vec![]));
}

/// [TM-5], [CC-17], [KR-19]: the chain with its template comes while a filter that does not fit is about to be committed.
#[test]
fn no_filter_gets_in_before_the_template() {
    let whole = 0xffff_ffff_ffff;
    for point in [Point::ProtoBuilt, Point::ProtoObtained, Point::HandleReserved] {
        let block = Block::new(1);
        let add =
            |block: &Arc<Block>| request::add_chain(block, ChainSpec { index: 1, template: Some(template(DST_MAC)) });
        let answer = during(&block, point, add, || request::add_filter(&block, &masked(whole)));
        assert_eq!(errno(answer), "EINVAL", "{point:?}");
        assert_eq!((request::list_chains(&block), request::dump(&block)), (vec![1], vec![]), "{point:?}");
    }
}

use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::request::{self, ActionKind, ActionUse, CHAIN_MAX, FilterKey, FilterSpec, Mode, get_filter};
use tidegate_classifiers::verdict::Control;

use crate::stage::*;
use crate::support::*;

/// [OBJ-3]
#[test]
fn a_packet_enters_at_chain_0_and_no_other() {
    let mut rig = Rig::new(&[in_chain(1, matchall(1, &[])), in_chain(CHAIN_MAX, matchall(1, &[])), matchall(1, &[])]);
    rig.send(&tcp(80));
    let hits: Vec<_> = request::dump(&rig.block).iter().map(|info| (info.chain, info.hits.packets)).collect();
    assert_eq!(hits, [(1, 0), (CHAIN_MAX, 0), (0, 1)]);
}

/// [OBJ-5]: a proto, the client who asked for it, a goto, a request: each alone keeps the chain, and goes with it.
#[test]
fn each_of_its_holders_keeps_a_chain() {
    let block = Block::new(1);
    let chains = |block: &Arc<Block>| block.plane().live().chains;
    request::add_filter(&block, &in_chain(3, matchall(1, &[]))).unwrap();
    assert_eq!(chains(&block), 1);
    request::delete_filter(&block, FilterKey::priority(3, 1)).unwrap();
    assert_eq!(chains(&block), 0);

    request::add_chain(&block, 3).unwrap();
    assert_eq!(chains(&block), 1);
    request::delete_chain(&block, 3).unwrap();
    assert_eq!(chains(&block), 0);

    request::add_filter(&block, &matchall(1, &[gact(Control::Goto(3))])).unwrap();
    assert_eq!(chains(&block), 2);
    request::delete_filter(&block, FilterKey::priority(0, 1)).unwrap();
    assert_eq!(chains(&block), 0);

    let seen = move |block: &Arc<Block>| {
        assert_eq!((chains(block), request::list_chains(block)), (1, vec![]));
        Err(RequestError::NoMemory("test"))
    };
    let answer =
        during(&block, Point::ProtoBuilt, seen, || request::add_filter(&block, &in_chain(3, matchall(1, &[]))));
    assert_eq!(errno(answer), "ENOMEM");
    assert_eq!(chains(&block), 0);
}

/// [OBJ-7]: it has nothing to do with the same priority elsewhere, nor with other protocols and kinds there.
#[test]
fn a_priority_names_one_proto_of_its_chain() {
    let rig = Rig::new(&[matchall(1, &[]), in_chain(1, flower(1, IPV4, tcp_to(80), &[])), in_chain(2, u32(1))]);
    let kinds: Vec<_> = request::dump(&rig.block).iter().map(|info| (info.chain, info.kind)).collect();
    assert_eq!(kinds, [(0, "matchall"), (1, "flower"), (2, "u32"), (2, "u32")]);
    assert_eq!(errno(request::add_filter(&rig.block, &in_chain(1, flower(1, IPV6, tcp_to(80), &[])))), "EINVAL");
}

/// [OBJ-8], [OBJ-9], [RP-2], [TP-12], [CC-4]: the proto goes while a request is about to commit in it. It is closed for good, but
/// in memory for as long as that request looks at it; the filter comes to another one.
#[test]
fn a_proto_that_goes_in_the_middle_takes_no_filter() {
    let block = Block::new(1);
    request::add_filter(&block, &one(1)).unwrap();
    let gone = |block: &Arc<Block>| {
        request::delete_filter(block, FilterKey::priority(0, 1)).unwrap();
        assert_eq!((request::dump(block).len(), block.plane().live().protos), (0, 1));
        Ok(())
    };
    let id = during(&block, Point::BeforeCommit, gone, || request::add_filter(&block, &one(2))).unwrap();
    assert_eq!(get_filter(&block, id).unwrap().handle, 2);
    let live = block.plane().live();
    assert_eq!((live.protos, live.filters, live.groups, live.chains), (1, 1, 1, 1));
}

/// [OBJ-10]: while its memory is still there.
#[test]
fn a_filter_that_is_going_cannot_be_got() {
    let block = Block::new(1);
    let id = request::add_filter(&block, &one(1)).unwrap();
    let get = move |block: &Arc<Block>| {
        assert_eq!(block.plane().live().filters, 1);
        assert_eq!(errno(get_filter(block, id)), "ENOENT");
        assert_eq!(request::dump(block), []);
        Ok(())
    };
    during(&block, Point::Unlinked, get, || request::delete_filter(&block, FilterKey::priority(0, 1))).unwrap();
}

/// [OBJ-11], [RP-2], [CC-10]: who deletes it first has deleted it; a replacement on its way finds that out at its commit.
#[test]
fn a_filter_is_deleted_once() {
    let answer_to = |mode| {
        let block = Block::new(1);
        let id = request::add_filter(&block, &one(1)).unwrap();
        request::add_filter(&block, &one(9)).unwrap();
        let delete = move |block: &Arc<Block>| request::delete_filter(block, id);
        let answer = during(&block, Point::BeforeCommit, delete, || request::new_filter(&block, &one(1), mode));
        (answer.map(|id| id.handle).map_err(|error| error.errno()), block.plane().live().filters)
    };
    assert_eq!(answer_to(Mode::Change), (Err("ENOENT"), 1));
    assert_eq!(answer_to(Mode::Replace), (Ok(1), 2));
}

/// [OBJ-12]: the action outlives the filter that made it, and its chain stays as long.
#[test]
fn an_action_with_a_goto_keeps_its_chain() {
    let rig = Rig::new(&[]);
    let jump = ActionUse::from(gact(Control::Goto(3))).numbered(5);
    let shared = ActionUse::shared(ActionKind::Gact, 5);
    for (priority, action) in [(1, jump), (2, shared)] {
        let actions = [action].into_iter().collect();
        let spec = FilterSpec { actions, ..matchall(priority, &[]) };
        request::add_filter(&rig.block, &spec).unwrap();
    }
    let chains = || rig.block.plane().live().chains;
    request::delete_filter(&rig.block, FilterKey::priority(0, 1)).unwrap();
    assert_eq!((chains(), request::list_chains(&rig.block)), (2, vec![0]));
    request::delete_filter(&rig.block, FilterKey::priority(0, 2)).unwrap();
    assert_eq!(chains(), 0);
}

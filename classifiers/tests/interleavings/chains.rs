//! Chain add, delete, flush and goto.

use tidegate_classifiers::flow_key::SRC_MAC;
use tidegate_classifiers::request::{
    ChainSpec, FilterKey, FlowerSpec, KindSpec, add_chain, add_filter, delete_chain, delete_filter, get_chain,
    list_chains,
};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::explore::{explore, three, two};
use crate::specs::{With, answer, done, flower, flower_to, matchall, places, send};

/// [CC-7], [CH-9], [KR-12]: an add into a proto that a flush takes away: the filter is told before the proto's end, or is there
/// afterwards. Without `retire` in `Chain::flush`, or with it after the event: it is lost, and nobody is told.
#[test]
fn a_flush_meets_an_add_to_an_old_priority() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        let (old, new) = (flower(1).chain(5), flower(2).chain(5));
        add_filter(block, &old).unwrap();
        let answers = two(|| done(delete_filter(block, FilterKey::chain(5))), || answer(add_filter(block, &new)));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        match rig.listing().len() {
            0 => "gone",
            1 => "there",
            more => panic!("{more} filters"),
        }
    });
}

/// [CC-7], [CH-8], [CH-10]: the same for a new priority, and two flushes. It fails for the same reasons.
#[test]
fn two_flushes_meet_an_add_of_a_new_priority() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let new = flower(2).priority(2);
        let flush = || done(delete_filter(block, FilterKey::chain(0)));
        let answers = three(flush, flush, || answer(add_filter(block, &new)));
        assert!(matches!(answers, (Ok(_), Ok(_), Ok(_))), "{answers:?}");
        match places(&rig.listing())[..] {
            [] => "gone",
            [(2, 1)] => "there",
            ref other => panic!("{other:?}"),
        }
    });
}

/// [CH-11], [KR-11]: after the flush of a chain that stays, be it for its own sake or a goto's, filters can be added again. With 0
/// for `explicitly_created` in the condition of `end_flush`: the add replays for ever.
#[test]
fn a_chain_that_was_flushed_takes_filters_again() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        add_chain(block, 5).unwrap();
        add_filter(block, &flower(1).says(Control::Goto(5))).unwrap();
        add_filter(block, &flower(1).chain(5)).unwrap();
        let new = flower(2).chain(5);
        let answers = two(|| done(delete_filter(block, FilterKey::chain(5))), || answer(add_filter(block, &new)));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        let there = rig.listing().iter().filter(|info| info.chain == 5).count();
        assert!(add_filter(&rig.block, &flower(3).chain(5)).is_ok());
        ["gone", "there"][there]
    });
}

/// [CC-8], [CH-10]: a chain is deleted while a filter comes into a new priority of it: it goes with the chain, or comes into the
/// chain that is there again, implicit. Without the second `is_flushing` of `obtain`: the chain is deleted with the filter
/// in it.
#[test]
fn a_chain_delete_meets_an_add() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        add_chain(block, 5).unwrap();
        let new = flower(1).chain(5);
        let answers = two(|| done(delete_chain(block, 5)), || answer(add_filter(block, &new)));
        assert_eq!(answers, (Ok(0), Ok(1)));
        let there = rig.listing().len();
        assert_eq!(list_chains(&rig.block).len(), there);
        if there > 0 {
            delete_filter(&rig.block, FilterKey::priority(5, 1)).unwrap();
            assert_eq!(list_chains(&rig.block), [], "it was implicit [CH-4]");
        }
        ["gone", "there"][there]
    });
}

/// [CC-8], [CC-17], [TM-6]: the same with a template that the filter does not fit: refused in the old chain, taken in the new one,
/// which has none, although a goto keeps the old object. Without `set_template(None)` in both `put` and `make_absent`: refused in both.
#[test]
fn a_template_goes_with_its_chain() {
    explore(&["refused", "taken"], |rig| {
        let block = &rig.block;
        add_chain(block, templated()).unwrap();
        add_filter(block, &flower(1).says(Control::Goto(5))).unwrap();
        let misfit = flower_to(1).chain(5);
        let answers = two(|| done(delete_chain(block, 5)), || answer(add_filter(block, &misfit)));
        rig.listing();
        match (answers, get_chain(&rig.block, 5)) {
            ((Ok(_), Err("EINVAL")), Err(_)) => {
                assert_eq!(answer(add_filter(&rig.block, &misfit)), Ok(1));
                "refused"
            }
            ((Ok(_), Ok(1)), Ok(chain)) if chain.template.is_none() => "taken",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-17], [TM-5], [KR-19]: a template and a filter that does not fit it, both into a new chain: never both. Without the
/// comparison of templates in `announce`: both.
#[test]
fn no_misfit_gets_into_a_chain_with_a_template() {
    explore(&["template", "filter"], |rig| {
        let block = &rig.block;
        let misfit = flower_to(1).chain(5);
        let answers = two(|| done(add_chain(block, templated())), || answer(add_filter(block, &misfit)));
        rig.listing();
        match answers {
            (Ok(_), Err("EINVAL")) => "template",
            (Err("EEXIST"), Ok(1)) => "filter",
            other => panic!("{other:?}"),
        }
    });
}

/// [CH-7]: of two deletes of one chain the second finds it gone, although a goto keeps the object, and gives back no
/// reference but its own. Without `set_announced(false)` in `make_absent`: it is told to be deleted twice.
#[test]
fn of_two_chain_deletes_one_succeeds() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        add_chain(block, 5).unwrap();
        add_filter(block, &flower(1).says(Control::Goto(5))).unwrap();
        let answers = two(|| done(delete_chain(block, 5)), || done(delete_chain(block, 5)));
        assert_eq!((list_chains(&rig.block), rig.live().chains), (vec![0], 2));
        match answers {
            (Ok(_), Err("EINVAL")) => "first",
            (Err("EINVAL"), Ok(_)) => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-9], [CH-6], [OBJ-6]: a goto comes while its chain is deleted: it leads to the one chain of that number, which is the one
/// that later filters go to. With `refcnt - action_refcnt` in the condition of `remove_if_unused`: it leads nowhere.
#[test]
fn a_goto_comes_while_its_chain_goes() {
    explore(&["the one chain"], |rig| {
        let block = &rig.block;
        add_chain(block, 5).unwrap();
        add_filter(block, &flower(9).chain(5)).unwrap();
        let goto = matchall().says(Control::Goto(5));
        let answers = two(|| done(delete_chain(block, 5)), || answer(add_filter(block, &goto)));
        assert_eq!(answers, (Ok(0), Ok(1)));
        rig.listing();
        assert_eq!((list_chains(&rig.block), rig.live().chains), (vec![0], 2));
        assert_eq!(send(&rig.block, 1, 2), Verdict::Pass, "an empty chain decides nothing [DP-9]");
        add_filter(&rig.block, &flower(1).chain(5).says(Control::Shot)).unwrap();
        assert_eq!(send(&rig.block, 1, 2), Verdict::Drop(DropReason::Filter));
        "the one chain"
    });
}

/// [CC-9], [KR-14]: the last goto goes while a filter comes into its chain, and another goto comes: counts stay right. With
/// one reference more given back by a goto (`refcnt -= 1` twice in `unpin`): the chain goes with its filter.
#[test]
fn a_goto_goes_while_its_chain_comes() {
    explore(&["the one chain"], |rig| {
        let block = &rig.block;
        let goto = flower(1).says(Control::Goto(5));
        add_filter(block, &goto).unwrap();
        let (target, second) = (matchall().chain(5).says(Control::Shot), flower(2).priority(2).says(Control::Goto(5)));
        let answers = three(
            || done(delete_filter(block, FilterKey::priority(0, 1))),
            || answer(add_filter(block, &target)),
            || answer(add_filter(block, &second)),
        );
        assert_eq!(answers, (Ok(0), Ok(1), Ok(1)));
        assert_eq!(rig.listing().len(), 2);
        assert_eq!(rig.live().chains, 2);
        assert_eq!(send(&rig.block, 2, 2), Verdict::Drop(DropReason::Filter));
        delete_chain(&rig.block, 5).unwrap();
        assert_eq!(send(&rig.block, 2, 2), Verdict::Pass);
        "the one chain"
    });
}

/// [ER-17], [OBJ-6]: chain add, chain add and an add into it: one object, one event, one EEXIST at least. Without the
/// first arm of the match in `make_explicit`: two events.
#[test]
fn a_new_chain_is_made_once() {
    explore(&["asked for", "implicit"], |rig| {
        let block = &rig.block;
        let filter = flower(1).chain(5);
        let (a, b, c) =
            three(|| done(add_chain(block, 5)), || done(add_chain(block, 5)), || answer(add_filter(block, &filter)));
        assert_eq!(c, Ok(1));
        rig.listing();
        assert_eq!((list_chains(&rig.block), rig.chains_told(), rig.live().chains), (vec![5], 1, 1));
        delete_filter(&rig.block, FilterKey::priority(5, 1)).unwrap();
        let left = list_chains(&rig.block).len();
        match (a, b) {
            (Ok(_), Err("EEXIST")) | (Err("EEXIST"), Ok(_)) if left == 1 => "asked for",
            (Err("EEXIST"), Err("EEXIST")) if left == 0 => "implicit",
            other => panic!("{other:?}"),
        }
    });
}

/// Chain 5, for filters that look at the source alone.
fn templated() -> ChainSpec {
    let mut flower = FlowerSpec::default();
    flower.mask.set(SRC_MAC, SRC_MAC.max());
    ChainSpec { index: 5, template: Some(KindSpec::Flower(Box::new(flower))) }
}

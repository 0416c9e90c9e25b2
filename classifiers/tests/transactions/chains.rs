//! Chains that come and go with a commit.

use tidegate_classifiers::flow_key;
use tidegate_classifiers::request::{
    ChainSpec, FlowerSpec, KindSpec, Mode, add_chain, add_filter, delete_chain, get_chain, list_chains,
};
use tidegate_classifiers::transaction::Overtaken;

use crate::support::*;

/// Only filters of TCP ports fit.
fn templated(index: u32) -> ChainSpec {
    let KindSpec::Flower(spec) = flower(0, 1, 80, 1).kind else { unreachable!() };
    ChainSpec { index, template: Some(KindSpec::Flower(spec)) }
}

/// It does not fit there.
fn misfit(chain: u32, n: u16) -> tidegate_classifiers::request::FilterSpec {
    let mut spec = FlowerSpec::default();
    spec.value.set(flow_key::IP_TTL, 64);
    spec.mask.set(flow_key::IP_TTL, flow_key::IP_TTL.max());
    tidegate_classifiers::request::FilterSpec { kind: KindSpec::Flower(Box::new(spec)), ..flower(chain, 1, 80, n) }
}

/// [TX-15], [AC-11]
#[test]
fn a_prepared_chain_is_there_with_the_commit() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    let tx = rig.plane.begin();
    tx.new_filter(block, &handle(1, goto(5, flower(0, 1, 80, 0))), Mode::Replace).unwrap();
    tx.add_chain(block, templated(5)).unwrap();
    assert_eq!(errno(tx.add_chain(block, 5)), "EEXIST");
    assert_eq!(errno(tx.new_filter(block, &misfit(5, 2), Mode::Add)), "EINVAL");
    assert_eq!(errno(tx.new_filter(block, &matchall(5, 1, 2), Mode::Add)), "EINVAL");
    tx.new_filter(block, &flower(5, 1, 80, 2), Mode::Add).unwrap();
    tx.add_chain(block, 6).unwrap();
    assert_eq!(list_chains(block), [0]);
    assert_eq!(errno(get_chain(block, 5)), "EINVAL");
    assert_eq!(rig.meets([80]), [1]);
    tx.commit().unwrap();
    assert_eq!(list_chains(block), [0, 5, 6]);
    assert_eq!(get_chain(block, 5).unwrap().template, templated(5).template);
    assert_eq!(errno(add_filter(block, &misfit(5, 3))), "EINVAL");
    assert_eq!(rig.meets([80]), [2]);
    rig.tear_down();
}

/// [TX-15], [TX-6]: with what was prepared in it; the chain is the client's.
#[test]
fn a_chain_that_a_client_makes_is_overtaken() {
    let chain = |rig: &Rig| vec![Overtaken::Chain { block: rig.block.id(), chain: 5 }];
    type Make = fn(&Rig);
    let ways: [(bool, Make); 4] = [
        (true, |rig| add_chain(&rig.block, 5).unwrap()),
        (true, |rig| assert!(add_filter(&rig.block, &matchall(5, 9, 9)).is_ok())),
        (true, |rig| add_chain(&rig.block, templated(5)).unwrap()),
        (false, |rig| add_chain(&rig.block, templated(5)).unwrap()),
    ];
    for (asked_for, make) in ways {
        let rig = Rig::new();
        let tx = rig.plane.begin();
        if asked_for {
            tx.add_chain(&rig.block, 5).unwrap();
        }
        tx.new_filter(&rig.block, &misfit(5, 1), Mode::Add).unwrap();
        tx.new_filter(&rig.block, &flower(0, 1, 80, 2), Mode::Add).unwrap();
        make(&rig);
        let (tx, overtaken) = conflict(tx);
        assert_eq!(overtaken, chain(&rig));
        assert!(prepared(&tx, &rig.block).iter().all(|filter| filter.3 != 1), "it may not fit");
        assert_eq!(errno(tx.add_chain(&rig.block, 5)), "EEXIST");
        tx.commit().unwrap();
        assert_eq!(rig.meets([80]), [2]);
        rig.tear_down();
    }
}

/// [TX-15]: clients who only put a filter into a chain, or ask for it without a template, do not disturb who does the same.
#[test]
fn a_chain_that_a_client_only_uses_is_not_overtaken() {
    let rig = Rig::new();
    let block = &rig.block;
    let tx = rig.plane.begin();
    tx.new_filter(block, &misfit(5, 1), Mode::Add).unwrap();
    tx.new_filter(block, &misfit(6, 1), Mode::Add).unwrap();
    add_filter(block, &matchall(5, 9, 9)).unwrap();
    add_chain(block, 6).unwrap();
    tx.commit().unwrap();
    assert_eq!(listing(block), [(5, 1, 1, 1), (5, 9, 1, 9), (6, 1, 1, 1)]);
    delete_chain(block, 5).unwrap();
    delete_chain(block, 6).unwrap();
    rig.tear_down();
}

/// [TX-7]
#[test]
fn a_new_chain_is_one_transactions() {
    let rig = Rig::new();
    let block = &rig.block;
    let (one, two) = (rig.plane.begin(), rig.plane.begin());
    one.add_chain(block, 5).unwrap();
    one.new_filter(block, &flower(6, 1, 80, 1), Mode::Add).unwrap();
    for chain in [5, 6] {
        assert_eq!(errno(two.add_chain(block, chain)), "EBUSY");
        assert_eq!(errno(two.new_filter(block, &flower(chain, 2, 80, 1), Mode::Add)), "EBUSY");
        assert_eq!(errno(two.delete_chain(block, chain)), "EINVAL");
    }
    drop(one);
    two.add_chain(block, 5).unwrap();
    two.new_filter(block, &flower(6, 2, 80, 1), Mode::Add).unwrap();
    two.commit().unwrap();
    assert_eq!(list_chains(block), [5, 6]);
    rig.tear_down();
}

/// [TX-9], [CH-5], [CH-7]: a chain goes with the commit, unless somebody has put a filter into it meanwhile.
#[test]
fn a_chain_is_deleted_with_the_commit() {
    for meanwhile in [false, true] {
        let rig = Rig::new();
        let block = &rig.block;
        add_chain(block, 5).unwrap();
        add_filter(block, &flower(5, 1, 80, 1)).unwrap();
        add_filter(block, &flower(6, 1, 80, 1)).unwrap();
        let tx = rig.plane.begin();
        tx.delete_chain(block, 5).unwrap();
        tx.delete_chain(block, 6).unwrap();
        assert_eq!(prepared(&tx, block), []);
        if meanwhile {
            add_filter(block, &flower(5, 1, 81, 2)).unwrap();
        }
        assert_eq!(list_chains(block), [5, 6]);
        tx.commit().unwrap();
        rig.next_burst();
        assert_eq!(list_chains(block), if meanwhile { vec![5] } else { vec![] });
        if meanwhile {
            tidegate_classifiers::request::delete_filter(block, key(5, 1, 2)).unwrap();
            assert!(list_chains(block).is_empty(), "nobody asks for it any more");
        }
        rig.tear_down();
    }
}

/// A chain that comes and goes in one transaction.
#[test]
fn a_prepared_chain_can_be_deleted() {
    let rig = Rig::new();
    let block = &rig.block;
    let before = rig.plane.live();
    let tx = rig.plane.begin();
    tx.add_chain(block, templated(5)).unwrap();
    tx.new_filter(block, &flower(5, 1, 80, 1), Mode::Add).unwrap();
    tx.delete_chain(block, 5).unwrap();
    assert_eq!(errno(tx.delete_chain(block, 5)), "EINVAL");
    tx.commit().unwrap();
    assert!(list_chains(block).is_empty());
    rig.next_burst();
    rig.next_burst();
    assert_eq!(rig.plane.live(), before);
    rig.tear_down();
}

use tidegate_classifiers::flow_key;
use tidegate_classifiers::request::{
    ChainInfo, ChainSpec, FilterKey, FilterSpec, FlowerSpec, KindSpec, Owner, add_chain, add_filter, change_chain,
    delete_chain, delete_filter, get_chain, list_chains,
};

use crate::support::*;

fn templated(index: u32, template: FlowerSpec) -> ChainSpec {
    ChainSpec { index, template: Some(KindSpec::Flower(Box::new(template))) }
}

/// [CH-1], [CH-4], [CH-12], [OBJ-5]: chain 0 like the others.
#[test]
fn a_chain_comes_with_its_first_filter_and_goes_with_its_last() {
    let (plane, block) = block();
    for chain in [0, 5] {
        add_filter(&block, &flower(chain, 1, 1)).unwrap();
        add_filter(&block, &flower(chain, 2, 1)).unwrap();
        delete_filter(&block, key(chain, 1, 1)).unwrap();
        assert_eq!(list_chains(&block), [chain]);
        delete_filter(&block, key(chain, 2, 1)).unwrap();
        assert_eq!(list_chains(&block), [0; 0]);
    }
    drop(block);
    assert_nothing_lives(&plane);
}

/// [CH-3], [ER-14], [CH-11], [KR-11]: and it takes filters again at once after a flush.
#[test]
fn an_explicit_chain_survives_a_flush() {
    let (_, block) = block();
    for chain in [0, 3] {
        add_chain(&block, chain).unwrap();
        add_filter(&block, &goto(chain, matchall(9, 1 + chain))).unwrap();
        for round in 0..3 {
            add_filter(&block, &flower(chain, 1 + round, 1)).unwrap();
            delete_filter(&block, FilterKey::chain(chain)).unwrap();
            assert!(get_chain(&block, chain).is_ok());
        }
    }
    assert_eq!(listing(&block), [(9, 1, 1), (9, 4, 1)]);
    delete_filter(&block, FilterKey::chain(77)).expect("an absent chain can be flushed");
}

/// [CH-5]: with an explicit reference or without.
#[test]
fn deleting_a_chain_takes_its_filters_with_it() {
    let (plane, block) = block();
    add_chain(&block, 1).unwrap();
    add_filter(&block, &flower(1, 1, 1)).unwrap();
    add_filter(&block, &flower(2, 1, 1)).unwrap();
    delete_chain(&block, 1).unwrap();
    delete_chain(&block, 2).unwrap();
    assert_eq!(list_chains(&block), [0; 0]);
    for chain in [1, 2, 99] {
        assert_eq!(errno(delete_chain(&block, chain)), "EINVAL"); // [ER-19]
    }
    plane.reaper().drain();
    assert_eq!((plane.live().chains, plane.live().filters), (0, 0));
}

/// [CH-6], [OBJ-4], [OBJ-6], [ER-12], [ER-13], [ER-19]
#[test]
fn a_deleted_chain_that_gotos_hold_is_hidden_and_can_be_revived() {
    let (plane, block) = block();
    add_filter(&block, &goto(7, matchall(0, 1))).unwrap();
    add_chain(&block, 7).unwrap();
    add_filter(&block, &flower(7, 1, 1)).unwrap();
    delete_chain(&block, 7).unwrap();
    assert_eq!(list_chains(&block), [0]);
    assert_eq!(errno(get_chain(&block, 7)), "EINVAL");
    assert_eq!(errno(delete_chain(&block, 7)), "EINVAL");
    assert_eq!(plane.live().chains, 2, "it is there for packets");
    add_chain(&block, 7).unwrap();
    assert_eq!(plane.live().chains, 2, "the same object");
    assert_eq!(listing(&block), [(0, 1, 1)]);
}

/// [ER-17], [ER-18], [ER-21]
#[test]
fn a_chain_cannot_be_added_twice_and_never_be_changed() {
    let (_, block) = block();
    assert_eq!(errno(change_chain(&block, 4)), "ENOENT");
    add_chain(&block, 4).unwrap();
    assert_eq!(errno(add_chain(&block, 4)), "EEXIST");
    assert_eq!(errno(change_chain(&block, 4)), "EEXIST");
    assert_eq!(errno(delete_chain(&block, 1 << 28)), "EINVAL");
    assert_eq!(errno(get_chain(&block, 1 << 28)), "EINVAL");
}

/// [TM-1], [ER-20]
#[test]
fn only_flower_has_templates() {
    let (plane, block) = block();
    let spec = ChainSpec { index: 1, template: Some(KindSpec::Matchall) };
    assert_eq!(errno(add_chain(&block, spec)), "EOPNOTSUPP");
    assert_eq!(list_chains(&block), [0; 0]);
    assert_eq!(plane.live().chains, 0); // [KR-20]
}

/// [TM-2], [TM-3], [ER-10], [ER-11], [CH-16]
#[test]
fn filters_keep_to_the_template_of_their_chain() {
    let (_, block) = block();
    add_chain(&block, templated(1, tcp_to(99))).unwrap();
    let info = get_chain(&block, 1).unwrap();
    assert_eq!(
        info,
        ChainInfo { index: 1, owner: Owner::Client, template: Some(KindSpec::Flower(Box::new(tcp_to(99)))) }
    );
    add_filter(&block, &flower(1, 1, 80)).expect("the values of a template mean nothing");
    assert_eq!(errno(add_filter(&block, &matchall(1, 2))), "EINVAL");
    let mut wider = tcp_to(81);
    wider.mask.set(flow_key::SRC_PORT, 1);
    let wider = FilterSpec { kind: KindSpec::Flower(Box::new(wider)), ..flower(1, 3, 0) };
    assert_eq!(errno(add_filter(&block, &wider)), "EINVAL");
    assert_eq!(listing(&block), [(1, 1, 1)]);
    delete_filter(&block, FilterKey::chain(1)).unwrap();
    assert_eq!(errno(add_filter(&block, &wider)), "EINVAL", "the template stays with the chain");
}

/// [TM-6], [KR-18]
#[test]
fn a_template_goes_with_the_chain_even_if_gotos_hold_it() {
    let (_, block) = block();
    add_filter(&block, &goto(1, matchall(0, 1))).unwrap();
    add_chain(&block, templated(1, tcp_to(0))).unwrap();
    delete_chain(&block, 1).unwrap();
    add_chain(&block, 1).unwrap();
    assert_eq!(get_chain(&block, 1).unwrap().template, None);
    add_filter(&block, &matchall(1, 1)).unwrap();
}

//! What changes at one instant, and what does not.

use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::{Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    ActionKind, ActionList, ActionUse, FilterKey, FilterSpec, Mode, add_chain, add_filter, delete_filter, dump_actions,
    get_filter, list_chains, new_filter,
};

use crate::support::*;

/// [TX-1], [DV-8]: in all blocks and chains; a burst that began before goes on with what it met.
#[test]
fn everything_changes_between_two_bursts() {
    let rig = Rig::new();
    let hook = |port| Hook { port: PortId(port), direction: Direction::Ingress };
    let shared = rig.plane.bind(hook(1), 7, None).unwrap();
    let (one, two) = (&rig.block, shared.block());
    add_filter(one, &goto(5, matchall(0, 9, 0))).unwrap();
    for (block, chain) in [(one, 0), (one, 5), (two, 0)] {
        add_filter(block, &flower(chain, 1, if chain == 0 { 80 } else { 81 }, 1)).unwrap();
    }
    let tx = rig.plane.begin();
    for (block, chain, port) in [(one, 0, 80), (one, 5, 81), (two, 0, 80)] {
        tx.new_filter(block, &handle(1, flower(chain, 1, port, 2)), Mode::Replace).unwrap();
        tx.new_filter(block, &flower(chain, 2, port + 10, 3), Mode::Add).unwrap();
    }
    let before = (burst(one), burst(two));
    let meets = |bursts: &(Burst, Burst)| (bursts.0.meets([80, 81, 90, 91]), bursts.1.meets([80, 90]));
    assert_eq!(meets(&before), ([1, 1, 0, 0], [1, 0]));
    let generation = tx.commit().unwrap();
    assert_eq!(generation, rig.plane.generation());
    assert_eq!(meets(&before), ([1, 1, 0, 0], [1, 0]), "still the same burst");
    assert_eq!(meets(&(burst(one), burst(two))), ([2, 2, 3, 3], [2, 3]));
    rig.next_burst();
    assert_eq!(meets(&(burst(one), burst(two))), ([2, 2, 3, 3], [2, 3]));
    assert!(rig.plane.begin().commit().unwrap() > generation);
    drop((before, shared));
    rig.tear_down();
}

/// [TX-3]: listing, get and delete, by everybody else and by the transaction.
#[test]
fn what_is_prepared_is_the_transactions_own() {
    let rig = Rig::new();
    let block = &rig.block;
    for (port, n) in [(80, 1), (81, 2), (82, 3)] {
        add_filter(block, &flower(0, 1, port, n)).unwrap();
    }
    let tx = rig.plane.begin();
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.new_filter(block, &handle(2, flower(0, 1, 81, 12)), Mode::Change).unwrap();
    assert_eq!(tx.new_filter(block, &flower(0, 1, 83, 14), Mode::Add).unwrap(), id(0, 1, 4));
    assert_eq!(tx.new_filter(block, &flower(3, 1, 84, 15), Mode::Add).unwrap(), id(3, 1, 1));

    assert_eq!(listing(block), [(0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 3, 3)]);
    assert_eq!(list_chains(block), [0]);
    assert_eq!(errno(get_filter(block, key(0, 1, 4))), "ENOENT");
    assert_eq!(errno(delete_filter(block, key(0, 1, 4))), "ENOENT");
    assert_eq!(errno(get_filter(block, key(3, 1, 1))), "EINVAL");
    assert_eq!(number(&get_filter(block, key(0, 1, 2)).unwrap()), 2);

    assert_eq!(prepared(&tx, block), [(0, 1, 2, 12), (0, 1, 3, 3), (0, 1, 4, 14), (3, 1, 1, 15)]);
    assert_eq!(errno(tx.get_filter(block, key(0, 1, 1))), "ENOENT");
    assert_eq!(errno(tx.delete_filter(block, key(0, 1, 1))), "ENOENT");
    assert_eq!(number(&tx.get_filter(block, key(0, 1, 2)).unwrap()), 12);
    assert_eq!(number(&tx.get_filter(block, key(3, 1, 1)).unwrap()), 15);

    assert_eq!(rig.meets([80, 81, 82, 83]), [1, 2, 3, 0]);
    tx.commit().unwrap();
    assert_eq!(rig.meets([80, 81, 82, 83]), [0, 12, 3, 14]);
    assert_eq!(listing(block), [(0, 1, 2, 12), (0, 1, 3, 3), (0, 1, 4, 14), (3, 1, 1, 15)]);
    rig.tear_down();
}

/// Requests of one transaction on one filter, in any order.
#[test]
fn a_transaction_can_change_its_mind() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    let tx = rig.plane.begin();
    let replace = |handle_, port, n| tx.new_filter(block, &handle(handle_, flower(0, 1, port, n)), Mode::Replace);
    replace(1, 80, 2).unwrap();
    replace(1, 80, 3).unwrap();
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    assert_eq!(
        errno(replace(1, 80, 4).and(tx.new_filter(block, &handle(1, flower(0, 1, 81, 5)), Mode::Add))),
        "EEXIST"
    );
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.new_filter(block, &handle(7, flower(0, 1, 80, 6)), Mode::Add).unwrap(); // the key, with another handle
    assert_eq!(errno(replace(8, 80, 7)), "EEXIST");
    replace(8, 88, 8).unwrap();
    tx.delete_filter(block, key(0, 1, 8)).unwrap();
    assert_eq!(prepared(&tx, block), [(0, 1, 7, 6)]);
    assert_eq!(rig.meets([80]), [1]);
    tx.commit().unwrap();
    assert_eq!(rig.meets([80, 88]), [6, 0]);
    assert_eq!(listing(block), [(0, 1, 7, 6)]);
    rig.tear_down();
}

/// [TX-4], [AC-3]
#[test]
fn a_transaction_that_is_dropped_leaves_nothing() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    add_chain(block, 4).unwrap();
    let (before, filters) = (rig.plane.live(), listing(block));
    let events = rig.plane.subscribe(100);
    let prepare = || {
        let tx = rig.plane.begin();
        tx.delete_filter(block, key(0, 1, 1)).unwrap();
        tx.new_filter(block, &handle(1, flower(0, 1, 80, 2)), Mode::Add).unwrap();
        tx.new_filter(block, &flower(0, 1, 81, 3), Mode::Add).unwrap();
        tx.new_filter(block, &matchall(0, 2, 4), Mode::Add).unwrap();
        tx.new_filter(block, &goto(6, flower(5, 1, 81, 0)), Mode::Add).unwrap();
        tx.add_chain(block, 6).unwrap();
        tx.delete_chain(block, 4).unwrap();
        assert_ne!(rig.plane.live(), before);
        tx
    };
    drop(prepare());
    prepare().abort();
    for _ in 0..3 {
        rig.next_burst();
    }
    assert_eq!(rig.plane.live(), before);
    assert_eq!((listing(block), list_chains(block)), (filters, vec![0, 4]));
    assert_eq!(dump_actions(&rig.plane, ActionKind::Mirred, 0, 10).len(), 1);
    assert_eq!(add_filter(block, &flower(0, 1, 82, 5)).unwrap(), id(0, 1, 2), "its handle is free");
    assert_eq!(told(&events), ["Add 0:1:2 5"]);
    rig.tear_down();
}

/// [TX-5]
#[test]
fn what_is_not_named_goes_on_as_it_was() {
    let rig = Rig::new();
    let block = &rig.block;
    for (port, n) in [(80, 1), (81, 2)] {
        add_filter(block, &flower(0, 1, port, n)).unwrap();
    }
    rig.meets([80, 80, 81]);
    let before = get_filter(block, key(0, 1, 1)).unwrap();
    assert_eq!(before.hits.packets, 2);
    let tx = rig.plane.begin();
    tx.new_filter(block, &handle(2, flower(0, 1, 81, 3)), Mode::Replace).unwrap();
    tx.new_filter(block, &flower(0, 1, 82, 4), Mode::Add).unwrap();
    tx.commit().unwrap();
    rig.next_burst();
    assert_eq!(get_filter(block, key(0, 1, 1)).unwrap(), before);
    assert_eq!(get_filter(block, key(0, 1, 2)).unwrap().hits.packets, 0);
    rig.tear_down();
}

/// [TX-10], [DD-1], [DD-4]: also the priority and the chain.
#[test]
fn what_a_commit_deletes_stays_for_bursts_of_before() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &goto(5, flower(0, 1, 80, 0))).unwrap();
    add_filter(block, &flower(5, 1, 80, 1)).unwrap();
    let before = rig.burst();
    let tx = rig.plane.begin();
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.delete_filter(block, key(5, 1, 1)).unwrap();
    tx.commit().unwrap();
    while rig.plane.reaper().poll() > 0 {}
    assert_eq!(before.meets([80]), [1]);
    assert_eq!(rig.meets([80]), [0]);
    assert!(listing(block).is_empty());
    assert_eq!(add_filter(block, &handle(1, flower(0, 1, 80, 9))).unwrap(), id(0, 1, 1), "its handle is free at once");
    assert_eq!(before.meets([80]), [1]);
    drop(before);
    rig.next_burst();
    assert_eq!(list_chains(block), [0], "the other one had no filter any more");
    rig.next_burst();
    let LiveCounts { chains, protos, filters, .. } = rig.plane.live();
    assert_eq!((chains, protos, filters), (1, 1, 1));
    rig.tear_down();
}

/// [TX-11]: with prepared filters, and with those that a commit has deleted.
#[test]
fn a_priority_that_packets_may_need_is_not_empty() {
    let rig = Rig::new();
    let block = &rig.block;
    let first = add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    let tx = rig.plane.begin();
    tx.new_filter(block, &flower(0, 1, 81, 2), Mode::Add).unwrap();
    delete_filter(block, first).unwrap();
    assert!(listing(block).is_empty());
    tx.commit().unwrap();
    assert_eq!(rig.meets([80, 81]), [0, 2]);

    let before = rig.burst();
    let tx = rig.plane.begin();
    tx.delete_filter(block, FilterKey::priority(0, 1)).unwrap();
    tx.commit().unwrap();
    let id = add_filter(block, &flower(0, 1, 82, 3)).unwrap();
    delete_filter(block, id).unwrap();
    add_filter(block, &FilterSpec { actions: unknown_action(), ..flower(0, 1, 82, 3) }).unwrap_err();
    assert!(!block.head().is_empty(), "what gotos of this burst would find");
    assert_eq!(before.meets([81]), [2], "the last filter that anybody sees is gone, but not for this burst");
    drop(before);
    rig.next_burst();
    assert!(block.head().is_empty());
    rig.tear_down();
}

/// It is looked for late: when the priority was made.
fn unknown_action() -> ActionList {
    [ActionUse::shared(ActionKind::Mirred, 99)].into_iter().collect()
}

/// [TX-13], [NT-4], [NT-5]
#[test]
fn events_come_with_the_commit() {
    let rig = Rig::new();
    let block = &rig.block;
    for (port, n) in [(80, 1), (81, 2), (82, 3)] {
        add_filter(block, &flower(0, 1, port, n)).unwrap();
    }
    let events = rig.plane.subscribe(100);
    let tx = rig.plane.begin();
    tx.new_filter(block, &handle(1, flower(0, 1, 80, 4)), Mode::Change).unwrap();
    tx.delete_filter(block, key(0, 1, 2)).unwrap();
    tx.new_filter(block, &flower(5, 1, 80, 5), Mode::Replace).unwrap();
    tx.add_chain(block, 6).unwrap();
    assert_eq!(told(&events), [""; 0]);
    tx.commit().unwrap();
    rig.next_burst();
    let expected = ["+chain 5", "+chain 6", "Replace 0:1:1 4", "-0:1:2 2", "Add 5:1:1 5"];
    assert_eq!(told(&events), expected);
    rig.tear_down();
}

/// [TX-14]
#[test]
fn automatic_numbers_pass_over_what_is_prepared() {
    let rig = Rig::new();
    let block = &rig.block;
    let tx = rig.plane.begin();
    let prepared = tx.new_filter(block, &flower(0, 0, 80, 1), Mode::Add).unwrap();
    assert_eq!(prepared, id(0, 0xc000, 1));
    assert_eq!(add_filter(block, &flower(0, 0, 80, 2)).unwrap(), id(0, 0xbfff, 1));
    assert_eq!(tx.new_filter(block, &flower(0, 0xbfff, 81, 3), Mode::Add).unwrap(), id(0, 0xbfff, 2));
    assert_eq!(add_filter(block, &flower(0, 0xbfff, 82, 4)).unwrap(), id(0, 0xbfff, 3));
    assert_eq!(dump_actions(&rig.plane, ActionKind::Mirred, 0, 10).len(), 4);
    tx.commit().unwrap();
    assert_eq!(rig.meets([80, 81, 82]), [2, 3, 4]);
    rig.tear_down();
}

/// [TX-9]
#[test]
fn a_delete_of_many_is_of_those_that_are_there() {
    let rig = Rig::new();
    let block = &rig.block;
    for (priority, port) in [(1, 80), (1, 81), (2, 82)] {
        add_filter(block, &flower(0, priority, port, 1)).unwrap();
    }
    let tx = rig.plane.begin();
    tx.new_filter(block, &flower(0, 1, 83, 2), Mode::Add).unwrap();
    tx.delete_filter(block, FilterKey::priority(0, 1)).unwrap();
    assert_eq!(prepared(&tx, block), [(0, 2, 1, 1)]);
    assert_eq!(errno(tx.delete_filter(block, FilterKey::priority(0, 1))), "ENOENT");
    tx.delete_filter(block, FilterKey::chain(0)).unwrap();
    assert_eq!(prepared(&tx, block), []);
    add_filter(block, &flower(0, 1, 84, 3)).unwrap();
    tx.commit().unwrap();
    assert_eq!(listing(block), [(0, 1, 3, 3)]);
    rig.next_burst();
    assert_eq!(rig.meets([80, 81, 82, 83, 84]), [0, 0, 0, 0, 3]);
    tx_of_nothing(&rig);
    rig.tear_down();
}

/// A flush of an absent chain is a success, also here [ER-14].
fn tx_of_nothing(rig: &Rig) {
    let tx = rig.plane.begin();
    tx.delete_filter(&rig.block, FilterKey::chain(77)).unwrap();
    tx.commit().unwrap();
}

/// [TX-2]: by many threads, which meet in protos.
#[test]
fn many_threads_prepare_one_transaction() {
    let rig = Rig::new();
    let block = &rig.block;
    for n in 0..400 {
        add_filter(block, &handle(u32::from(n) + 1, flower(0, 1, n, 1))).unwrap();
    }
    let tx = rig.plane.begin();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let tx = &tx;
            scope.spawn(move || {
                for n in (thread..400).step_by(4) {
                    let of = u32::from(n) + 1;
                    match n % 8 {
                        0..4 => tx.delete_filter(block, key(0, 1, of)).unwrap(),
                        _ => drop(tx.new_filter(block, &handle(of, flower(0, 1, n, 2)), Mode::Replace).unwrap()),
                    }
                    tx.new_filter(block, &flower(0, 2, n, 3), Mode::Add).unwrap();
                }
            });
        }
    });
    assert_eq!(listing(block).len(), 400);
    let before = rig.burst();
    tx.commit().unwrap();
    for n in 0..400 {
        assert_eq!(before.meets([n]), [1]);
        assert_eq!(rig.meets([n]), [if n % 8 < 4 { 3 } else { 2 }]);
    }
    assert_eq!(listing(block).len(), 600);
    drop(before);
    rig.tear_down();
}

/// [OBJ-2], [BL-8]
#[test]
fn an_open_transaction_holds_its_blocks() {
    let rig = Rig::new();
    let hook = Hook { port: PortId(1), direction: Direction::Ingress };
    let binding = rig.plane.bind(hook, 7, None).unwrap();
    let tx = rig.plane.begin();
    tx.new_filter(binding.block(), &flower(0, 1, 80, 1), Mode::Add).unwrap();
    drop(binding);
    rig.plane.block(7).unwrap();
    tx.commit().unwrap();
    assert_eq!(errno(rig.plane.block(7)), "EINVAL");
    rig.tear_down();
}

#[test]
fn a_transaction_keeps_to_its_plane() {
    let (rig, other) = (Rig::new(), Plane::standalone(1));
    let tx = other.begin();
    assert_eq!(errno(tx.new_filter(&rig.block, &flower(0, 1, 80, 1), Mode::Add)), "EINVAL");
    assert_eq!(errno(tx.dump(&rig.block)), "EINVAL");
    drop(tx);
    rig.tear_down();
}

/// Requests are checked as outside: the same errors, and nothing is left of what was refused [ER-40].
#[test]
fn requests_of_a_transaction_are_told_what_is_wrong() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    let before = rig.plane.live();
    let tx = rig.plane.begin();
    let add = |spec| errno(tx.new_filter(block, &spec, Mode::Add));
    assert_eq!(add(handle(1, flower(0, 1, 81, 2))), "EEXIST");
    assert_eq!(add(flower(0, 1, 80, 2)), "EEXIST");
    assert_eq!(add(matchall(0, 1, 2)), "EINVAL");
    assert_eq!(add(FilterSpec { protocol: IPV6, ..flower(0, 1, 81, 2) }), "EINVAL");
    assert_eq!(errno(tx.new_filter(block, &handle(5, flower(0, 1, 81, 2)), Mode::Change)), "ENOENT");
    assert_eq!(errno(tx.new_filter(block, &handle(1, ranged(0, 1, (1, 9), 2)), Mode::Replace)), "EINVAL");
    assert_eq!(errno(tx.delete_filter(block, key(0, 1, 5))), "ENOENT");
    assert_eq!(errno(tx.delete_filter(block, key(0, 2, 1))), "ENOENT");
    assert_eq!(errno(tx.delete_filter(block, key(4, 1, 1))), "ENOENT");
    assert_eq!(errno(tx.delete_chain(block, 4)), "EINVAL");
    assert_eq!(errno(tx.add_chain(block, 0)), "EEXIST");
    rig.next_burst();
    rig.next_burst();
    assert_eq!(rig.plane.live(), before);
    tx.commit().unwrap();
    assert_eq!(errno(new_filter(block, &flower(0, 1, 80, 2), Mode::Replace)), "EEXIST");
    rig.tear_down();
}

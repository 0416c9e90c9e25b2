//! Two versions of a filter in each kind, and priorities that change theirs.

use tidegate_classifiers::request::{FilterKey, FilterSpec, KindSpec, Mode, U32Spec, add_filter, delete_filter};

use crate::support::*;

/// In a group of few, in a hash table, and in the place of a range.
#[test]
fn a_flower_filter_has_two_versions() {
    for others in [0, 100] {
        let rig = Rig::new();
        let block = &rig.block;
        add_filter(block, &flower(0, 1, 80, 1)).unwrap();
        for n in 0..others {
            add_filter(block, &flower(0, 1, 1000 + n, 9)).unwrap();
        }
        let tx = rig.plane.begin();
        tx.new_filter(block, &handle(1, flower(0, 1, 80, 2)), Mode::Replace).unwrap();
        let before = rig.burst();
        tx.commit().unwrap();
        for n in 0..10 {
            let tx = rig.plane.begin(); // the same once more, while that burst lasts
            tx.new_filter(block, &handle(1, flower(0, 1, 80, 10 + n)), Mode::Replace).unwrap();
            tx.commit().unwrap();
            assert_eq!((before.meets([80]), rig.meets([80])), ([1], [u32::from(10 + n)]));
        }
        rig.next_burst();
        assert_eq!(rig.meets([80]), [19]);
        drop(before);
        rig.tear_down();
    }
}

/// [FL-6], [TX-5]: filters with ranges are asked in their order; a replacement has the place of the old one, also if it is
/// replaced again before that is gone.
#[test]
fn a_range_keeps_its_place() {
    let rig = Rig::new();
    let block = &rig.block;
    for (range, n) in [((10, 20), 1), ((15, 30), 2), ((10, 40), 3)] {
        add_filter(block, &ranged(0, 1, range, n)).unwrap();
    }
    let before = rig.burst();
    for n in [12, 22, 32] {
        let tx = rig.plane.begin();
        tx.new_filter(block, &handle(2, ranged(0, 1, (12, 30), n)), Mode::Replace).unwrap();
        assert_eq!(before.meets([11, 18, 25, 35]), [1, 1, 2, 3]);
        tx.commit().unwrap();
        assert_eq!(rig.meets([11, 18, 25, 35]), [1, 1, u32::from(n), 3]);
    }
    let plain = handle(2, ranged(0, 1, (12, 30), 42));
    tidegate_classifiers::request::new_filter(block, &plain, Mode::Replace).unwrap();
    assert_eq!(rig.meets([11, 18, 25, 35]), [1, 1, 42, 3]);
    rig.next_burst();
    assert_eq!(rig.meets([11, 18, 25, 35]), [1, 1, 42, 3]);
    delete_filter(block, key(0, 1, 1)).unwrap();
    assert_eq!(rig.meets([11, 18, 25, 35]), [3, 42, 42, 3]);
    drop(before);
    rig.tear_down();
}

/// [MA-1], [ER-4]: the one filter can go and come in one transaction.
#[test]
fn matchall_changes_by_delete_and_add() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &matchall(0, 1, 1)).unwrap();
    let tx = rig.plane.begin();
    assert_eq!(errno(tx.new_filter(block, &matchall(0, 1, 2), Mode::Add)), "EEXIST");
    assert_eq!(errno(tx.new_filter(block, &handle(1, matchall(0, 1, 2)), Mode::Replace)), "EEXIST");
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.new_filter(block, &matchall(0, 1, 2), Mode::Add).unwrap();
    assert_eq!(errno(tx.new_filter(block, &handle(9, matchall(0, 1, 3)), Mode::Add)), "EEXIST");
    let before = rig.burst();
    tx.commit().unwrap();
    let tx = rig.plane.begin();
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.new_filter(block, &handle(9, matchall(0, 1, 3)), Mode::Add).unwrap();
    let between = rig.burst();
    tx.commit().unwrap();
    assert_eq!((before.meets([80]), between.meets([80]), rig.meets([80])), ([1], [2], [3]));
    assert_eq!(listing(block), [(0, 1, 9, 3)]);
    drop((before, between));
    rig.next_burst();
    assert_eq!(rig.meets([80]), [3]);
    rig.tear_down();
}

/// [FW-1]
#[test]
fn an_fw_filter_has_two_versions() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &fw(0, 1, 7, 1)).unwrap();
    let mut packet = tcp(80);
    packet.set_mark(7);
    let before = rig.burst();
    for n in [2, 3] {
        let tx = rig.plane.begin();
        tx.new_filter(block, &fw(0, 1, 7, n), Mode::Replace).unwrap();
        tx.commit().unwrap();
        assert_eq!((before.meet(&packet), rig.burst().meet(&packet)), (1, u32::from(n)));
    }
    rig.next_burst();
    let tx = rig.plane.begin();
    tx.delete_filter(block, key(0, 1, 7)).unwrap();
    tx.commit().unwrap();
    assert_eq!((rig.burst().meet(&packet), listing(block).len()), (0, 0));
    drop(before);
    rig.tear_down();
}

/// [TX-12]: neither in a priority of its own, nor where the transaction would have to delete one.
#[test]
fn u32_is_not_for_transactions() {
    let rig = Rig::new();
    let block = &rig.block;
    let node = |priority| FilterSpec { kind: KindSpec::U32(U32Spec::Node(Box::default())), ..matchall(0, priority, 1) };
    let there = add_filter(block, &node(1)).unwrap();
    let before = rig.plane.live();
    let tx = rig.plane.begin();
    assert_eq!(errno(tx.new_filter(block, &node(1), Mode::Add)), "EOPNOTSUPP");
    assert_eq!(errno(tx.new_filter(block, &node(2), Mode::Add)), "EOPNOTSUPP");
    assert_eq!(errno(tx.delete_filter(block, there)), "EOPNOTSUPP");
    assert_eq!(errno(tx.delete_filter(block, FilterKey::priority(0, 1))), "EOPNOTSUPP");
    assert_eq!(errno(tx.delete_filter(block, FilterKey::chain(0))), "EOPNOTSUPP");
    assert_eq!(errno(tx.delete_chain(block, 0)), "EOPNOTSUPP");
    assert_eq!(errno(tx.new_filter(block, &flower(0, 1, 80, 1), Mode::Add)), "EINVAL");
    tx.get_filter(block, there).unwrap();
    assert_eq!(rig.plane.live(), before);
    tx.commit().unwrap();
    delete_filter(block, there).unwrap();
    rig.tear_down();
}

/// [TX-8]: a priority gets another kind, another protocol, and both back, while one burst lasts.
#[test]
fn a_priority_changes_its_kind_at_one_instant() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    add_filter(block, &matchall(0, 2, 9)).unwrap();
    let bursts: Vec<_> = [matchall(0, 1, 2), fw(0, 1, 0x7f, 3), flower(0, 1, 80, 4), flower(0, 1, 80, 5)]
        .into_iter()
        .map(|spec| {
            let tx = rig.plane.begin();
            if listing(block)[0].3 != 4 {
                assert_eq!(errno(tx.new_filter(block, &spec, Mode::Add)), "EINVAL", "not while there is a filter");
            }
            tx.delete_filter(block, FilterKey::priority(0, 1)).unwrap();
            tx.new_filter(block, &spec, Mode::Add).unwrap();
            assert_eq!(prepared(&tx, block).len(), 2);
            assert_eq!(listing(block).len(), 2);
            let before = rig.burst();
            tx.commit().unwrap();
            before
        })
        .collect();
    let met: Vec<_> = bursts.iter().map(|burst| burst.meets([80])).collect();
    assert_eq!((met, rig.meets([80])), (vec![[1], [2], [9], [4]], [5]));
    assert_eq!(listing(block).len(), 2);
    drop(bursts);
    rig.next_burst();
    assert_eq!((rig.meets([80]), listing(block)), ([5], vec![(0, 1, 2, 5), (0, 2, 1, 9)]));
    rig.tear_down();
}

/// [TX-8]: what is not committed does not bind plain requests; nor does what only packets of before may meet.
#[test]
fn a_prepared_priority_is_not_there_for_others() {
    let rig = Rig::new();
    let block = &rig.block;
    let tx = rig.plane.begin();
    tx.new_filter(block, &flower(0, 1, 80, 1), Mode::Add).unwrap();
    assert_eq!(errno(delete_filter(block, FilterKey::priority(0, 1))), "ENOENT");
    add_filter(block, &matchall(0, 1, 2)).unwrap();
    let (tx, overtaken) = conflict(tx);
    assert_eq!(overtaken, lost(block, &[id(0, 1, 1)]));
    tx.commit().unwrap();
    assert_eq!(rig.meets([80]), [2]);

    let before = rig.burst();
    let tx = rig.plane.begin();
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.commit().unwrap();
    add_filter(block, &flower(0, 1, 80, 3)).unwrap();
    assert_eq!((before.meets([80]), rig.meets([80, 81])), ([2], [3, 0]));
    assert_eq!(listing(block), [(0, 1, 1, 3)]);
    drop(before);
    rig.next_burst();
    assert_eq!(rig.meets([80, 81]), [3, 0]);
    rig.tear_down();
}

/// [TX-8], [TX-4]: a priority that was to change its kind does not.
#[test]
fn a_priority_keeps_its_kind_if_the_transaction_is_dropped() {
    let rig = Rig::new();
    let block = &rig.block;
    add_filter(block, &flower(0, 1, 80, 1)).unwrap();
    let tx = rig.plane.begin();
    tx.delete_filter(block, key(0, 1, 1)).unwrap();
    tx.new_filter(block, &matchall(0, 1, 2), Mode::Add).unwrap();
    drop(tx);
    add_filter(block, &flower(0, 1, 81, 3)).unwrap();
    assert_eq!(rig.meets([80, 81, 82]), [1, 3, 0]);
    rig.tear_down();
}

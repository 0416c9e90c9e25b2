//! Plain requests and other transactions in the way.

use tidegate_classifiers::request::{
    FilterId, FilterKey, FilterSpec, Mode, add_filter, delete_chain, delete_filter, new_filter,
};
use tidegate_classifiers::transaction::Transaction;

use crate::support::*;

/// [TX-6], [RP-5]: a plain request is answered as if no transaction were open; what it takes is overtaken, and nothing else is. The
/// owner looks again, and commits.
#[test]
fn a_plain_request_overtakes() {
    // Filters 1 to 3 are there, for ports 81 to 83.
    let replace = |tx: &Transaction, rig: &Rig| {
        tx.new_filter(&rig.block, &handle(1, flower(0, 1, 81, 11)), Mode::Replace).map(drop).unwrap();
    };
    let delete = |tx: &Transaction, rig: &Rig| tx.delete_filter(&rig.block, key(0, 1, 1)).unwrap();
    let add = |tx: &Transaction, rig: &Rig| {
        tx.new_filter(&rig.block, &handle(5, flower(0, 1, 85, 15)), Mode::Add).map(drop).unwrap();
    };
    let move_key = |tx: &Transaction, rig: &Rig| {
        tx.delete_filter(&rig.block, key(0, 1, 1)).unwrap();
        tx.new_filter(&rig.block, &handle(5, flower(0, 1, 81, 15)), Mode::Add).map(drop).unwrap();
    };
    let new = |spec: FilterSpec, mode| move |rig: &Rig| new_filter(&rig.block, &spec, mode).map(drop);
    let gone = |key: FilterKey| move |rig: &Rig| delete_filter(&rig.block, key);
    type Prepare<'a> = &'a dyn Fn(&Transaction, &Rig);
    type Plain = Box<dyn Fn(&Rig) -> Result<(), tidegate_classifiers::error::RequestError>>;
    let cases: Vec<(&str, Prepare<'_>, Plain, &[u32])> = vec![
        ("replace, replaced", &replace, Box::new(new(handle(1, flower(0, 1, 81, 21)), Mode::Replace)), &[1]),
        ("replace, changed", &replace, Box::new(new(handle(1, flower(0, 1, 91, 21)), Mode::Change)), &[1]),
        ("replace, deleted", &replace, Box::new(gone(key(0, 1, 1))), &[1]),
        ("delete, replaced", &delete, Box::new(new(handle(1, flower(0, 1, 81, 21)), Mode::Replace)), &[1]),
        ("delete, deleted", &delete, Box::new(gone(key(0, 1, 1))), &[1]),
        ("add, same handle", &add, Box::new(new(handle(5, flower(0, 1, 95, 25)), Mode::Add)), &[5]),
        ("add, same handle, replace", &add, Box::new(new(handle(5, flower(0, 1, 95, 25)), Mode::Replace)), &[5]),
        ("add, same key", &add, Box::new(new(handle(6, flower(0, 1, 85, 25)), Mode::Add)), &[5]),
        ("add, other filter's key", &add, Box::new(new(handle(2, flower(0, 1, 85, 25)), Mode::Change)), &[5]),
        ("moved key, replaced", &move_key, Box::new(new(handle(1, flower(0, 1, 81, 21)), Mode::Replace)), &[5, 1]),
        ("moved key, deleted", &move_key, Box::new(gone(key(0, 1, 1))), &[1]),
        ("priority", &move_key, Box::new(gone(FilterKey::priority(0, 1))), &[1, 5]),
        ("flush", &move_key, Box::new(gone(FilterKey::chain(0))), &[1, 5]),
        ("chain", &move_key, Box::new(|rig: &Rig| delete_chain(&rig.block, 0)), &[1, 5]),
        ("others", &move_key, Box::new(new(handle(2, flower(0, 1, 82, 25)), Mode::Replace)), &[]),
        ("another", &move_key, Box::new(new(handle(7, flower(0, 1, 87, 25)), Mode::Add)), &[]),
        ("deleted beside", &move_key, Box::new(gone(key(0, 1, 2))), &[]),
    ];
    for (name, prepare, plain, handles) in cases {
        let rigs = [Rig::new(), Rig::new()];
        for rig in &rigs {
            for n in 1..=3 {
                add_filter(&rig.block, &flower(0, 1, 80 + n, n)).unwrap();
            }
        }
        let [rig, alone] = &rigs;
        let tx = rig.plane.begin();
        prepare(&tx, rig);
        tx.new_filter(&rig.block, &flower(0, 2, 89, 19), Mode::Add).unwrap();
        assert_eq!(plain(rig), plain(alone), "{name}");
        let ports = [81, 82, 83, 85, 87, 91, 95];
        assert_eq!((listing(&rig.block), rig.meets(ports)), (listing(&alone.block), alone.meets(ports)), "{name}");
        let expected: Vec<FilterId> = handles.iter().map(|&handle| id(0, 1, handle)).collect();
        let tx = if matches!(name, "flush" | "chain") {
            let (tx, overtaken) = conflict(tx);
            assert_eq!(overtaken, lost(&rig.block, &[&expected[..], &[id(0, 2, 1)]].concat()), "{name}");
            tx
        } else if expected.is_empty() {
            tx
        } else {
            let (tx, overtaken) = conflict(tx);
            assert_eq!(overtaken, lost(&rig.block, &expected), "{name}");
            tx
        };
        assert_eq!(rig.meets(ports), alone.meets(ports), "{name}: the commit was refused");
        let will_be = prepared(&tx, &rig.block);
        tx.commit().unwrap();
        assert_eq!(listing(&rig.block), will_be, "{name}");
        for rig in rigs {
            rig.next_burst();
            rig.tear_down();
        }
    }
}

/// [TX-7]: the second transaction is refused, whatever it wants there; it can have it when the first one is gone.
#[test]
fn the_second_transaction_is_refused() {
    let rig = Rig::new();
    let block = &rig.block;
    for n in 1..=3 {
        add_filter(block, &flower(0, 1, 80 + n, n)).unwrap();
    }
    add_filter(block, &matchall(0, 3, 9)).unwrap();
    let (one, two) = (rig.plane.begin(), rig.plane.begin());
    one.delete_filter(block, key(0, 1, 1)).unwrap();
    one.new_filter(block, &handle(2, flower(0, 1, 82, 12)), Mode::Replace).unwrap();
    one.new_filter(block, &handle(5, flower(0, 1, 85, 15)), Mode::Add).unwrap();
    one.new_filter(block, &flower(0, 2, 80, 1), Mode::Add).unwrap();
    one.delete_filter(block, key(0, 3, 1)).unwrap();
    one.new_filter(block, &flower(0, 3, 80, 1), Mode::Add).unwrap();
    let busy = |tx: &Transaction| {
        let new = |spec| tx.new_filter(block, &spec, Mode::Replace).map(drop);
        vec![
            tx.delete_filter(block, key(0, 1, 1)),
            new(handle(1, flower(0, 1, 81, 2))),
            tx.delete_filter(block, key(0, 1, 2)),
            new(handle(2, flower(0, 1, 82, 2))),
            new(handle(5, flower(0, 1, 95, 2))),
            new(handle(6, flower(0, 1, 85, 2))),
            new(flower(0, 2, 80, 2)),
            new(matchall(0, 2, 2)),
            new(fw(0, 3, 7, 2)),
        ]
    };
    for (n, result) in busy(&two).into_iter().enumerate() {
        assert_eq!(errno(result), "EBUSY", "{n}");
    }
    assert_eq!(errno(two.new_filter(block, &handle(9, flower(0, 1, 81, 2)), Mode::Add)), "EEXIST", "as it is now");
    two.new_filter(block, &handle(3, flower(0, 1, 83, 13)), Mode::Replace).unwrap();
    drop(one);
    rig.next_burst();
    let results: Vec<_> = busy(&two).into_iter().map(|result| result.map_err(|error| error.errno())).collect();
    let ok = Ok(());
    let expected = [ok, ok, ok, ok, ok, ok, ok, Err("EINVAL"), Err("EINVAL")];
    assert_eq!(results, expected);
    two.commit().unwrap();
    rig.tear_down();
}

/// [TX-6]: who is refused because another transaction prepares, or because a commit was in the way, leaves nothing.
#[test]
fn a_refused_commit_keeps_the_rest_prepared() {
    let rig = Rig::new();
    let block = &rig.block;
    for n in 1..=3 {
        add_filter(block, &flower(0, 1, 80 + n, n)).unwrap();
    }
    let generation = rig.plane.generation();
    let tx = rig.plane.begin();
    for n in 1..=3 {
        tx.new_filter(block, &handle(n.into(), flower(0, 1, 80 + n, 10 + n)), Mode::Replace).unwrap();
    }
    new_filter(block, &handle(2, flower(0, 1, 82, 22)), Mode::Replace).unwrap();
    let (tx, overtaken) = conflict(tx);
    assert_eq!(overtaken, lost(block, &[id(0, 1, 2)]));
    assert_eq!(rig.plane.generation(), generation);
    assert_eq!(rig.meets([81, 82, 83]), [1, 22, 3]);
    tx.new_filter(block, &handle(2, flower(0, 1, 82, 12)), Mode::Replace).unwrap();
    delete_filter(block, key(0, 1, 1)).unwrap();
    let (tx, overtaken) = conflict(tx);
    assert_eq!(overtaken, lost(block, &[id(0, 1, 1)]));
    tx.commit().unwrap();
    assert_eq!(rig.meets([81, 82, 83]), [0, 12, 13]);
    rig.tear_down();
}

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::request::{
    ChainCursor, Cursor, DumpFilter, FilterKey, ProtoInfo, Record, add_chain, add_filter, delete_chain, delete_filter,
    dump_chains, dump_page, list_chains,
};

use crate::support::*;

/// All records, in pages of `max`.
fn pages(block: &Arc<Block>, filter: DumpFilter, max: usize) -> Vec<Record> {
    let (mut cursor, mut all) = (Cursor::default(), Vec::new());
    loop {
        let page = dump_page(block, &filter, &mut cursor, max).unwrap();
        assert!(page.len() <= max);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn words(records: &[Record]) -> Vec<String> {
    let word = |record: &Record| match record {
        Record::Proto(proto) => format!("{}:{}", proto.chain, proto.priority),
        Record::Filter(filter) => format!("{}:{}:{}", filter.chain, filter.priority, filter.handle),
    };
    records.iter().map(word).collect()
}

/// [WK-1], [WK-3], [WK-4], [WK-9]: whatever the size of the pages.
#[test]
fn a_listing_has_headers_and_filters_in_order() {
    let (_, block) = block();
    for (chain, priority, handle) in [(5, 2, 7), (5, 2, 1), (5, 1, u32::MAX), (5, 1, 3), (0, 9, 1)] {
        let port = u16::try_from(handle % 65_000).unwrap();
        add_filter(&block, &with_handle(handle, flower(chain, priority, port))).unwrap();
    }
    let expected = ["5:1", "5:1:3", "5:1:4294967295", "5:2", "5:2:1", "5:2:7", "0:9", "0:9:1"];
    for max in 1..=10 {
        assert_eq!(words(&pages(&block, DumpFilter::default(), max)), expected, "pages of {max}");
    }
    let header = ProtoInfo { chain: 5, priority: 1, protocol: IPV4, kind: "flower" };
    assert_eq!(pages(&block, DumpFilter::default(), 1)[0], Record::Proto(header));
}

/// [WK-5]
#[test]
fn a_listing_can_be_narrowed() {
    let (_, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    add_filter(&block, &matchall(0, 2)).unwrap();
    add_filter(&block, &flower(1, 1, 1)).unwrap();
    let list = |filter| words(&pages(&block, filter, 2));
    assert_eq!(list(DumpFilter { chain: Some(1), ..DumpFilter::default() }), ["1:1", "1:1:1"]);
    assert_eq!(list(DumpFilter { priority: 1, ..DumpFilter::default() }), ["0:1", "0:1:1", "1:1", "1:1:1"]);
    assert_eq!(list(DumpFilter { protocol: 3, ..DumpFilter::default() }), ["0:2", "0:2:1"]);
    assert_eq!(list(DumpFilter { chain: Some(9), ..DumpFilter::default() }), [""; 0]);
}

/// [WK-10], [ER-38]
#[test]
fn a_page_without_room_is_an_error_not_the_end() {
    let (_, block) = block();
    let result = dump_page(&block, &DumpFilter::default(), &mut Cursor::default(), 0);
    assert_eq!(errno(result), "EMSGSIZE");
}

/// [WK-7], [WK-8], [KR-75]: what was under the cursor goes, and comes back, between pages.
#[test]
fn a_listing_goes_on_after_what_was_deleted_under_it() {
    let (plane, block) = block();
    for priority in 1..=4 {
        for port in 1..=3 {
            add_filter(&block, &flower(0, priority, port)).unwrap();
        }
    }
    let mut cursor = Cursor::default();
    let mut next = |max| words(&dump_page(&block, &DumpFilter::default(), &mut cursor, max).unwrap());
    assert_eq!(next(6), ["0:1", "0:1:1", "0:1:2", "0:1:3", "0:2", "0:2:1"]);
    delete_filter(&block, key(0, 2, 2)).unwrap();
    assert_eq!(next(1), ["0:2:3"]);
    delete_filter(&block, FilterKey::priority(0, 2)).unwrap();
    delete_filter(&block, FilterKey::priority(0, 3)).unwrap();
    assert_eq!(next(2), ["0:4", "0:4:1"]);
    delete_filter(&block, FilterKey::chain(0)).unwrap();
    add_filter(&block, &flower(0, 4, 1)).unwrap();
    assert_eq!(next(5), ["0:4", "0:4:1"], "another chain 0");
    assert_eq!(next(5), [""; 0]);
    drop(block);
    assert_nothing_lives(&plane);
}

/// [WK-6], [WK-7]: a priority that comes before the one that is half listed.
#[test]
fn a_listing_does_not_begin_again_with_a_half_listed_priority() {
    let (_, block) = block();
    for port in 1..=2 {
        add_filter(&block, &flower(0, 9, port)).unwrap();
    }
    let mut cursor = Cursor::default();
    let mut next = |max| words(&dump_page(&block, &DumpFilter::default(), &mut cursor, max).unwrap());
    assert_eq!(next(2), ["0:9", "0:9:1"]);
    add_filter(&block, &flower(0, 5, 1)).unwrap();
    assert_eq!(next(9), ["0:9:2"]);
}

/// [WK-6], [WK-7]: the chain under the cursor goes; of the next one nothing is left out.
#[test]
fn a_listing_goes_on_with_the_whole_next_chain() {
    let (_, block) = block();
    for (chain, priority) in [(1, 5), (1, 6), (2, 3), (2, 5)] {
        add_filter(&block, &flower(chain, priority, 1)).unwrap();
    }
    let mut cursor = Cursor::default();
    let mut next = |max| words(&dump_page(&block, &DumpFilter::default(), &mut cursor, max).unwrap());
    assert_eq!(next(2), ["1:5", "1:5:1"]);
    delete_filter(&block, FilterKey::chain(1)).unwrap();
    assert_eq!(next(9), ["2:3", "2:3:1", "2:5", "2:5:1"]);
}

/// [WK-7], [CH-14], [KR-16], [OBJ-4]
#[test]
fn each_chain_is_listed_once_whatever_is_hidden_between() {
    let (_, block) = block();
    for chain in 1..=50 {
        match chain % 3 {
            0 => add_filter(&block, &goto(1000 + chain, matchall(chain, 1))).map(drop).unwrap(),
            _ => add_chain(&block, chain).unwrap(),
        }
    }
    let all: Vec<_> = (1..=50).collect();
    assert_eq!(list_chains(&block), all);
    for max in [1, 3, 7] {
        let (mut cursor, mut listed) = (ChainCursor::default(), Vec::new());
        loop {
            let page = dump_chains(&block, &mut cursor, max);
            if page.is_empty() {
                break;
            }
            listed.extend(page.iter().map(|chain| chain.index));
        }
        assert_eq!(listed, all);
    }
}

/// [WK-6], [CC-16], [KR-38]: what stays is listed exactly once, what comes and goes at most once.
#[test]
fn a_listing_beside_changes_has_what_stays_exactly_once() {
    let (_, block) = block();
    for port in (1..=999).step_by(3) {
        let priority = 1 + u32::from(port) % 5;
        add_filter(&block, &with_handle(port.into(), flower(u32::from(port) % 4, priority, port))).unwrap();
    }
    let stays = listing(&block);
    std::thread::scope(|scope| {
        let block = &block;
        let changes: Vec<_> = (1..3_u16)
            .map(|offset| {
                scope.spawn(move || {
                    for round in 0..5 {
                        for port in (1..=999).step_by(3) {
                            let (chain, priority) = (u32::from(port + round) % 6, 1 + u32::from(port) % 7);
                            let port = port + offset;
                            if let Ok(id) = add_filter(block, &with_handle(port.into(), flower(chain, priority, port)))
                            {
                                delete_filter(block, id).unwrap();
                            }
                        }
                        let _ = add_chain(block, 77);
                        let _ = delete_chain(block, 77);
                    }
                })
            })
            .collect();
        while !changes.iter().all(|thread| thread.is_finished()) {
            let mut seen = HashMap::new();
            for record in pages(block, DumpFilter::default(), 7) {
                if let Record::Filter(filter) = record {
                    *seen.entry((filter.chain, filter.priority, filter.handle)).or_insert(0) += 1;
                }
            }
            assert!(stays.iter().all(|id| seen.get(id) == Some(&1)));
        }
    });
    assert_eq!(listing(&block), stays);
}

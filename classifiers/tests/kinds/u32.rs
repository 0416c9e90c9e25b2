//! u32: tables, nodes, ids, links, one rule after the other.

use tidegate_classifiers::block::Block;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionKind, ActionUse, ChainSpec, FilterSpec, KindSpec, Mode, U32Field, U32Hash, U32Key, U32Mark, U32Node,
    U32Offset, U32Spec,
};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use super::support::{LAST, Rig, Sent, byte, errno, filter, node, packet, table};

const DROP: Verdict = Verdict::Drop(DropReason::Filter);

/// Root table of the first u32 priority of a block, and its first node.
const ROOT: u32 = 0x8000_0000;
const FIRST: u32 = 0x8000_0800;

/// In the root table, with these keys.
fn keys(keys: &[U32Key]) -> U32Node {
    U32Node { keys: keys.to_vec(), ..U32Node::default() }
}

/// In this table and bucket, without keys.
fn within(table: u32) -> U32Node {
    U32Node { table, ..U32Node::default() }
}

fn link(table: u32, keys: &[U32Key]) -> U32Node {
    U32Node { link: Some(table), ..self::keys(keys) }
}

fn with_handle(handle: u32, spec: FilterSpec) -> FilterSpec {
    FilterSpec { handle, ..spec }
}

/// [U3-1], [HA-4]
#[test]
fn the_first_priority_has_root_table_800_with_one_bucket() {
    let rig = Rig::new();
    assert_eq!(rig.add(&node(1, keys(&[]), &[Control::Shot])), Ok(FIRST));
    assert_eq!(rig.listed(), [(1, ROOT), (1, FIRST)]);
    assert_eq!(rig.get(1, ROOT).unwrap().matches, KindSpec::U32(U32Spec::Table { divisor: 1 }));
    assert_eq!(errno(rig.add(&node(1, within(ROOT | 1 << 12), &[]))), "EINVAL", "bucket 1");
    assert_eq!(rig.get(1, 0xfff0_0000).unwrap().handle, ROOT, "fff: is the root table");
    assert_eq!(rig.add(&node(1, within(0xfff0_0000), &[])), Ok(FIRST + 1));
}

/// [U3-2]
#[test]
fn every_key_counts_and_only_the_bits_of_its_mask() {
    let rig = Rig::new();
    let port = U32Key { value: 0x0050, mask: 0xffff, offset: 20, next_header: false };
    rig.add(&node(1, keys(&[byte(0, 0x45), port]), &[Control::Shot])).unwrap();
    let l3 = |first, port| [&[first][..], &[0; 19], &[9, 9, 0, port]].concat();
    assert_eq!(rig.send(&packet(&l3(0x45, 80))), DROP);
    assert_eq!(rig.send(&packet(&l3(0x46, 80))), Verdict::Trap);
    assert_eq!(rig.send(&packet(&l3(0x45, 81))), Verdict::Trap);
    let destination = U32Key { value: 2, mask: 0xff, offset: -12, next_header: false };
    rig.add(&node(2, keys(&[destination]), &[Control::Stolen])).unwrap();
    assert_eq!(rig.send(&packet(&l3(0x46, 80))), Verdict::Consume, "the last byte of the destination address");
}

/// [U3-2]
#[test]
fn mark_and_port_must_match() {
    let rig = Rig::new();
    let mark = U32Mark { value: 2, mask: 3 };
    rig.add(&node(1, U32Node { mark, indev: Some(PortId(7)), ..keys(&[]) }, &[Control::Shot])).unwrap();
    let send = |mark, port| rig.send(&Sent { mark, port: PortId(port), ..packet(&[0; 20]) });
    assert_eq!(send(6, 7), DROP);
    assert_eq!(send(3, 7), Verdict::Trap);
    assert_eq!(send(6, 6), Verdict::Trap);
}

/// [U3-3], [DP-11]
#[test]
fn nodes_are_tried_in_ascending_order_until_one_decides() {
    let rig = Rig::new();
    for (id, control) in [(0x805, Control::Shot), (2, Control::Continue), (0x803, Control::Continue)] {
        assert_eq!(rig.add(&with_handle(id, node(1, keys(&[]), &[control]))), Ok(ROOT | id));
    }
    rig.add(&with_handle(0x806, node(1, keys(&[]), &[Control::Stolen]))).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), DROP);
    let hits: Vec<_> = rig.dump().iter().map(|info| (info.handle, info.hits.packets)).collect();
    assert_eq!(hits, [(ROOT, 0), (ROOT | 2, 1), (ROOT | 0x803, 1), (ROOT | 0x805, 1), (ROOT | 0x806, 0)]);
}

/// [U3-3]: down, and back to what the linking node does itself.
#[test]
fn after_a_linked_table_the_linking_node_decides() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    rig.add(&node(1, U32Node { table: 0x0010_0000, ..keys(&[byte(1, 9)]) }, &[Control::Stolen])).unwrap();
    rig.add(&node(1, link(0x0010_0000, &[byte(0, 1)]), &[Control::Shot])).unwrap();
    assert_eq!(rig.send(&packet(&[1, 9, 0, 0, 0, 0])), Verdict::Consume);
    assert_eq!(rig.send(&packet(&[1, 8, 0, 0, 0, 0])), DROP);
    assert_eq!(rig.send(&packet(&[2, 9, 0, 0, 0, 0])), Verdict::Trap);
    rig.request(&with_handle(FIRST, node(1, keys(&[]), &[])), Mode::Change).unwrap();
    assert_eq!(rig.send(&packet(&[1, 8, 0, 0, 0, 0])), Verdict::Trap, "no action: on after the link");
}

/// [U3-3]
#[test]
fn a_packet_goes_eight_links_deep_and_no_deeper() {
    let rig = Rig::new();
    let id = |n: u32| n << 20;
    for n in 1..=9 {
        rig.add(&table(1, id(n), 1)).unwrap();
    }
    rig.add(&node(1, link(id(1), &[]), &[])).unwrap();
    for n in 1..=7 {
        rig.add(&node(1, U32Node { table: id(n), ..link(id(n + 1), &[]) }, &[])).unwrap();
    }
    let last = rig.add(&node(1, within(id(8)), &[Control::Shot])).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), DROP);
    rig.delete(1, last).unwrap();
    rig.add(&node(1, U32Node { table: id(8), ..link(id(9), &[]) }, &[Control::Shot])).unwrap();
    rig.add(&node(1, keys(&[]), &[Control::Stolen])).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), Verdict::Trap, "no match at all, not even of a later node");
}

/// [U3-3], [U3-6]
#[test]
fn a_table_that_leads_to_itself_ends_without_a_match() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    rig.add(&node(1, U32Node { table: 0x0010_0000, ..link(0x0010_0000, &[]) }, &[Control::Shot])).unwrap();
    rig.add(&node(1, link(0x0010_0000, &[]), &[Control::Shot])).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), Verdict::Trap);
}

/// [U3-4]
#[test]
fn a_key_beyond_the_end_ends_the_search_of_the_priority() {
    let rig = Rig::new();
    rig.add(&node(1, keys(&[byte(8, 1)]), &[Control::Shot])).unwrap();
    let fallback = rig.add(&node(1, keys(&[]), &[Control::Shot])).unwrap();
    assert_eq!(rig.send(&packet(&[0; 12])), DROP);
    assert_eq!(rig.send(&packet(&[0; 11])), Verdict::Trap, "the word ends behind the packet");
    assert_eq!((rig.hits(1, fallback), rig.hits(LAST, 1)), (1, 1));
}

/// [U3-5]
#[test]
fn a_node_without_action_and_class_never_ends_the_search() {
    let rig = Rig::new();
    rig.add(&node(1, keys(&[]), &[])).unwrap();
    assert_eq!((rig.send(&packet(&[0; 20])), rig.hits(1, FIRST)), (Verdict::Trap, 0));
    let spec = U32Node { class: Some(0x0001_0001), ..keys(&[]) };
    let with_class = rig.add(&node(1, spec, &[])).unwrap();
    assert_eq!((rig.send(&packet(&[0; 20])), rig.hits(1, with_class)), (Verdict::Pass, 1));
}

/// [U3-2], [U3-6]: IPv4's header length leads to the ports; as tc's `offset at 0 mask 0f00 shift 6 eat`.
#[test]
fn the_next_header_is_where_the_packet_says() {
    let field = U32Field { offset: 0, mask: 0x0f00, shift: 6 };
    let offset = Some(U32Offset { plus: 0, field: Some(field) });
    let port = |next_header| U32Key { value: 80, mask: 0xffff, offset: 0, next_header };
    let ip = |words: u8, port| [&[0x40 | words][..], &vec![0; usize::from(words) * 4 - 1], &[0, 0, 0, port]].concat();
    for eat in [true, false] {
        let rig = Rig::new();
        rig.add(&table(1, 0x0010_0000, 1)).unwrap();
        rig.add(&node(1, U32Node { table: 0x0010_0000, ..keys(&[port(!eat)]) }, &[Control::Shot])).unwrap();
        rig.add(&node(1, U32Node { offset, eat, ..link(0x0010_0000, &[]) }, &[])).unwrap();
        assert_eq!(rig.send(&packet(&ip(5, 80))), DROP);
        assert_eq!(rig.send(&packet(&ip(7, 80))), DROP);
        assert_eq!(rig.send(&packet(&ip(7, 81))), Verdict::Trap);
        let mut short = ip(5, 80);
        short[0] = 0x4f; // claims 60 bytes
        rig.add(&node(1, keys(&[]), &[Control::Stolen])).unwrap();
        let verdict = if eat { Verdict::Consume } else { Verdict::Trap };
        assert_eq!(rig.send(&packet(&short)), verdict, "eaten up: the table is passed over; else a key beyond the end");
    }
}

/// [U3-1], [U3-2]
#[test]
fn the_hash_selects_the_bucket() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0020_0000, 256)).unwrap();
    let hash = U32Hash { offset: 12, mask: 0x0000_ff00 };
    rig.add(&node(1, U32Node { hash: Some(hash), ..link(0x0020_0000, &[]) }, &[])).unwrap();
    let handle = rig.add(&node(1, within(0x0020_0000 | 0x7b << 12), &[Control::Shot])).unwrap();
    assert_eq!(handle, 0x0027_b800);
    let l3 = |byte| [&[0; 14][..], &[byte, 0, 0, 0]].concat();
    assert_eq!((rig.send(&packet(&l3(0x7b))), rig.send(&packet(&l3(0x7c)))), (DROP, Verdict::Trap));
    assert_eq!(hash.bucket(0x0102_7b04, 256), 0x7b, "what `sample` computes [U3-6]");
    assert_eq!(hash.bucket(0x0102_7b04, 16), 0xb);
}

/// [U3-1], [U3-6], [HA-4], [ER-26]
#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let rig = Rig::new();
    for divisor in [0, 3, 257, 512, u32::MAX] {
        assert_eq!(errno(rig.add(&table(1, 0, divisor))), "EINVAL", "divisor {divisor}");
    }
    assert!(request::list_chains(&rig.block) == [0] && rig.listed().is_empty(), "no empty priority stays [TP-10]");
    rig.add(&table(1, 0x0010_0000, 4)).unwrap();
    rig.add(&table(1, 0x0020_0000, 4)).unwrap();
    let before = rig.listed();
    let shifted = |shift| Some(U32Offset { plus: 0, field: Some(U32Field { offset: 0, mask: 1, shift }) });
    let refused = [
        table(1, 0x0030_1000, 1), // a table's handle has no bucket
        FilterSpec { actions: filter(1, 0, KindSpec::Matchall, &[Control::Ok]).actions, ..table(1, 0, 1) },
        node(1, within(0x0010_4000), &[]),                           // bucket 4 of 4
        node(1, within(0x0030_0000), &[]),                           // no such table
        with_handle(0x0020_0800, node(1, within(0x0010_0000), &[])), // of another table
        node(1, link(ROOT, &[]), &[]),                               // to a root table
        node(1, link(0x0030_0000, &[]), &[]),                        // to no table
        node(1, link(0x0010_0800, &[]), &[]),                        // to a node
        node(1, U32Node { offset: shifted(16), ..keys(&[]) }, &[]),  // [KR-49]
        node(1, keys(&[byte(0, 0); 256]), &[]),
    ];
    for spec in &refused {
        assert_eq!(errno(rig.add(spec)), "EINVAL", "{spec:?}");
    }
    assert_eq!(rig.listed(), before);
    rig.add(&node(1, U32Node { offset: shifted(15), ..keys(&[]) }, &[])).unwrap();
    rig.add(&node(1, keys(&[byte(0, 0); 255]), &[])).unwrap();
    let template = Some(KindSpec::U32(U32Spec::Table { divisor: 1 }));
    assert_eq!(errno(request::add_chain(&rig.block, ChainSpec { index: 7, template })), "EOPNOTSUPP"); // [ER-20]
}

/// [HA-4], [U3-6]
#[test]
fn the_bucket_of_a_given_handle_means_nothing() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 4)).unwrap();
    let spec = node(1, within(0x0010_3000), &[]);
    assert_eq!(rig.add(&with_handle(0x0010_1005, spec.clone())), Ok(0x0010_3005));
    assert_eq!(rig.add(&with_handle(0x0010_2000, spec.clone())), Ok(0x0010_3800), "no node: an automatic one");
    assert_eq!(rig.add(&with_handle(0x0000_0007, spec.clone())), Ok(0x0010_3007), "no table: that of `ht`");
    assert_eq!(errno(rig.add(&with_handle(0x0010_2005, spec))), "EEXIST", "it would be 1:3:5 again");
}

/// [HA-4], [KR-49]: automatic and explicit numbers are of one space.
#[test]
fn table_ids_go_round_in_a_circle_and_never_collide() {
    let rig = Rig::new();
    rig.add(&node(1, keys(&[]), &[])).unwrap();
    assert_eq!(rig.add(&table(1, 0, 1)), Ok(0x8010_0000));
    rig.add(&table(1, 0x8020_0000, 1)).unwrap();
    assert_eq!(rig.add(&table(1, 0, 1)), Ok(0x8030_0000));
    rig.delete(1, 0x8030_0000).unwrap();
    assert_eq!(rig.add(&table(1, 0, 1)), Ok(0x8040_0000), "in a circle, not the lowest free one");
    assert_eq!(errno(rig.add(&table(1, 0x8040_0000, 1))), "EEXIST");
    assert_eq!(errno(rig.request(&table(1, 0x8040_0000, 1), Mode::Replace)), "EINVAL", "a table cannot be replaced");
    assert_eq!(errno(rig.add(&table(1, 0xfff0_0000, 1))), "EEXIST", "the root table");
    let others = 0x7fe - 3; // 801: to ffe:, of which three are taken
    for _ in 0..others {
        rig.add(&table(1, 0, 1)).unwrap();
    }
    assert_eq!(errno(rig.add(&table(1, 0, 1))), "ENOSPC");
    let ids: std::collections::BTreeSet<_> = rig.listed().into_iter().collect();
    assert_eq!(ids.len(), 0x7fe + 2, "no two alike, the root and its node among them");
}

/// [HA-4], [KR-49]
#[test]
fn ids_do_not_leak_over_2048_rounds() {
    let rig = Rig::new();
    rig.add(&node(1, keys(&[]), &[])).unwrap();
    for _ in 0..2100 {
        let table_handle = rig.add(&table(1, 0, 1)).unwrap();
        let node_handle = rig.add(&node(1, within(table_handle), &[])).unwrap();
        assert_eq!(node_handle, table_handle | 0x800);
        rig.delete(1, table_handle).unwrap();
    }
    assert_eq!(rig.listed(), [(1, ROOT), (1, FIRST)]);
    assert_eq!(rig.block.plane().live().filters, 3, "with the last resort");
}

/// [HA-4], [ER-35], [KR-49]
#[test]
fn node_ids_begin_at_800_go_on_at_1_and_end_without_a_duplicate() {
    let rig = Rig::new();
    let add = || rig.add(&node(1, keys(&[]), &[])).map(|handle| handle & 0xfff);
    assert!((0x800..=0xfff).all(|id| add() == Ok(id)));
    assert!((1..=0x7ff).all(|id| add() == Ok(id)));
    assert_eq!(errno(add()), "ENOSPC");
    rig.delete(1, ROOT | 0x900).unwrap();
    rig.delete(1, ROOT | 0x10).unwrap();
    assert_eq!([add(), add()], [Ok(0x900), Ok(0x10)]);
    assert_eq!(errno(add()), "ENOSPC");
}

/// [U3-8], [ER-34]
#[test]
fn a_table_is_deleted_with_its_nodes_unless_it_is_linked_or_the_root() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    rig.add(&table(1, 0x0020_0000, 1)).unwrap();
    let inner = rig.add(&node(1, U32Node { table: 0x0010_0000, ..link(0x0020_0000, &[]) }, &[Control::Shot])).unwrap();
    let outer = rig.add(&node(1, link(0x0010_0000, &[]), &[])).unwrap();
    assert_eq!(errno(rig.delete(1, ROOT)), "EINVAL");
    assert_eq!(errno(rig.delete(1, 0x0010_0000)), "EBUSY");
    assert_eq!(errno(rig.delete(1, 0x0020_0000)), "EBUSY");
    assert_eq!(rig.send(&packet(&[0; 20])), DROP, "nothing happened");
    rig.add(&node(1, keys(&[]), &[])).unwrap();
    rig.delete(1, outer).unwrap();
    rig.delete(1, 0x0010_0000).unwrap();
    assert_eq!(errno(rig.get(1, inner)), "ENOENT");
    rig.delete(1, 0x0020_0000).unwrap(); // the link to it went with the table
    assert_eq!(rig.listed(), [(1, ROOT), (1, FIRST + 1)]);
}

/// [U3-8]
#[test]
fn a_priority_goes_with_the_last_node_of_the_block() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    let first = rig.add(&node(1, keys(&[]), &[Control::Shot])).unwrap();
    let second = rig.add(&node(2, keys(&[]), &[Control::Stolen])).unwrap();
    assert_eq!(second, 0x8010_0800, "root tables after the first one have automatic ids");
    rig.delete(2, second).unwrap();
    assert_eq!(rig.listed(), [(1, 0x0010_0000), (1, ROOT), (1, FIRST), (2, 0x8010_0000)], "another one shares");
    rig.delete(1, first).unwrap();
    assert_eq!(rig.listed(), [(1, 0x0010_0000), (1, ROOT), (2, 0x8010_0000)], "it still does");
    request::delete_filter(&rig.block, request::FilterKey::priority(0, 2)).unwrap();
    rig.add(&node(1, keys(&[]), &[])).unwrap();
    rig.delete(1, FIRST).unwrap();
    assert_eq!(rig.listed(), [], "the tables went with the last node");
    assert_eq!(rig.add(&node(1, keys(&[]), &[])), Ok(FIRST), "from the beginning");
}

/// [U3-7], [WK-11]
#[test]
fn tables_are_shared_in_a_block_and_listed_under_their_own_priority() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    let in_chain = |spec| FilterSpec { chain: 5, ..spec };
    rig.add(&in_chain(table(1, 0x0020_0000, 1))).unwrap();
    rig.add(&node(2, link(0x0010_0000, &[]), &[])).unwrap();
    // Through another priority, into a table of the first one; found through either, listed under its own.
    let shared = rig.add(&node(2, within(0x0010_0000), &[Control::Shot])).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), DROP);
    assert_eq!((rig.hits(1, shared), rig.hits(2, shared)), (1, 1));
    let listed: Vec<_> = rig.dump().iter().map(|info| (info.chain, info.priority, info.handle)).collect();
    let expected = [
        (0, 1, 0x0010_0000),
        (0, 1, shared),
        (0, 1, ROOT),
        (0, 2, 0x8020_0000),
        (0, 2, 0x8020_0800),
        (5, 1, 0x0020_0000),
        (5, 1, 0x8010_0000),
    ];
    assert_eq!(listed, expected);
    assert_eq!(errno(rig.add(&table(2, 0x0010_0000, 1))), "EEXIST", "found, as if it were its own");
    let other = Block::new(1);
    request::add_filter(&other, &table(1, 0x0010_0000, 1)).unwrap();
    assert_eq!(request::dump(&other).len(), 2, "another block has its own tables");
}

/// [U3-7], [CH-6]: like a chain that only gotos hold.
#[test]
fn a_table_that_is_linked_when_its_priority_goes_is_there_empty_and_hidden() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    rig.add(&node(1, within(0x0010_0000), &[Control::Shot])).unwrap();
    let linking = rig.add(&node(2, link(0x0010_0000, &[]), &[Control::Stolen])).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), DROP);
    request::delete_filter(&rig.block, request::FilterKey::priority(0, 1)).unwrap();
    assert_eq!(rig.send(&packet(&[0; 20])), Verdict::Consume, "no node is left in it");
    assert_eq!(errno(rig.get(2, 0x0010_0000)), "ENOENT");
    assert_eq!(errno(rig.add(&node(2, within(0x0010_0000), &[]))), "EINVAL");
    assert_eq!(errno(rig.add(&table(2, 0x0010_0000, 1))), "EEXIST", "the id is taken as long as it is there");
    rig.add(&node(2, keys(&[]), &[])).unwrap();
    rig.delete(2, linking).unwrap();
    rig.add(&table(2, 0x0010_0000, 1)).unwrap();
}

/// [FO-7], [U3-9], [ST-7], [ST-6]
#[test]
fn a_replacement_keeps_keys_and_counters_and_what_it_does_not_give() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    let inner = rig.add(&node(1, within(0x0010_0000), &[Control::Stolen])).unwrap();
    let spec = U32Node { indev: Some(PortId(0)), ..link(0x0010_0000, &[byte(0, 1)]) };
    let handle = rig.add(&node(1, spec.clone(), &[Control::Shot])).unwrap();
    let one = packet(&[1; 20]);
    assert_eq!(rig.send(&one), Verdict::Consume);
    rig.send(&packet(&[2; 20]));
    rig.delete(1, inner).unwrap();
    assert_eq!(rig.send(&one), DROP);

    let wanted = keys(&[byte(0, 2)]); // ignored
    rig.request(&with_handle(handle, node(1, wanted.clone(), &[Control::Trap])), Mode::Change).unwrap();
    let info = rig.get(1, handle).unwrap();
    assert_eq!(info.matches, KindSpec::U32(U32Spec::Node(Box::new(spec.clone()))));
    assert_eq!((info.runs, info.hits.packets, info.actions[0].hits.packets), (3, 1, 0), "its action begins at 0");
    rig.add(&node(1, within(0x0010_0000), &[Control::Stolen])).unwrap();
    assert_eq!(rig.send(&one), Verdict::Consume, "the link is there still");

    let unlinked = U32Node { link: Some(0), indev: Some(PortId(9)), ..wanted };
    rig.request(&with_handle(handle, node(1, unlinked, &[Control::Shot])), Mode::Replace).unwrap();
    assert_eq!(rig.send(&one), Verdict::Trap, "from another port");
    assert_eq!(rig.send(&Sent { port: PortId(9), ..one }), DROP);
    let info = rig.get(1, handle).unwrap();
    assert_eq!((info.runs, info.hits.packets), (6, 2));
    rig.delete(1, 0x0010_0000).unwrap(); // nothing links to it any more
    assert_eq!(errno(rig.request(&with_handle(0x0010_0000, node(1, keys(&[]), &[])), Mode::Change)), "ENOENT");
    assert_eq!(errno(rig.request(&with_handle(ROOT, node(1, keys(&[]), &[])), Mode::Change)), "EINVAL");
    assert_eq!(errno(rig.add(&with_handle(handle, node(1, keys(&[]), &[])))), "EEXIST");
}

/// [KR-46], [KR-48]: a class is nothing that is held, so that nothing can be given back twice; it stays and goes with the
/// node.
#[test]
fn a_class_stays_through_changes_also_through_failing_ones() {
    let rig = Rig::new();
    let handle = rig.add(&node(1, U32Node { class: Some(7), ..keys(&[]) }, &[])).unwrap();
    let shared = FilterSpec {
        actions: [ActionUse::shared(ActionKind::Mirred, 9)].into_iter().collect(), // which is not there
        ..with_handle(handle, node(1, U32Node { class: Some(8), ..keys(&[]) }, &[]))
    };
    for _ in 0..100 {
        rig.request(&with_handle(handle, node(1, keys(&[]), &[])), Mode::Change).unwrap();
        assert_eq!(errno(rig.request(&shared, Mode::Change)), "EINVAL");
    }
    let class = |info: request::FilterInfo| match info.matches {
        KindSpec::U32(U32Spec::Node(node)) => node.class,
        _ => None,
    };
    assert_eq!(class(rig.get(1, handle).unwrap()), Some(7));
    assert_eq!((rig.send(&packet(&[0; 20])), rig.hits(1, handle)), (Verdict::Pass, 1));
}

/// [KR-47]
#[test]
fn failing_changes_neither_lose_nor_gain_references_on_tables() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    rig.add(&table(1, 0x0020_0000, 1)).unwrap();
    let handle = rig.add(&node(1, link(0x0010_0000, &[]), &[])).unwrap();
    let failing = |link| FilterSpec {
        actions: [ActionUse::shared(ActionKind::Mirred, 9)].into_iter().collect(), // which is not there
        ..with_handle(handle, node(1, U32Node { link, ..keys(&[]) }, &[]))
    };
    for _ in 0..10 {
        for link in [None, Some(0), Some(0x0010_0000), Some(0x0020_0000)] {
            assert_eq!(errno(rig.request(&failing(link), Mode::Change)), "EINVAL");
        }
        assert_eq!(errno(rig.request(&with_handle(handle, node(1, link(ROOT, &[]), &[])), Mode::Change)), "EINVAL");
        assert_eq!(errno(rig.add(&with_handle(0, failing(Some(0x0020_0000))))), "EINVAL");
    }
    assert_eq!(errno(rig.delete(1, 0x0010_0000)), "EBUSY");
    rig.delete(1, 0x0020_0000).unwrap();
    for _ in 0..10 {
        rig.request(&with_handle(handle, node(1, link(0x0010_0000, &[]), &[])), Mode::Change).unwrap(); // to itself
    }
    assert_eq!(errno(rig.delete(1, 0x0010_0000)), "EBUSY");
    rig.request(&with_handle(handle, node(1, link(0, &[]), &[])), Mode::Change).unwrap();
    rig.delete(1, 0x0010_0000).unwrap();
}

/// [KR-50]: requests that are meant for nodes meet tables.
#[test]
fn a_table_is_no_node() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 1)).unwrap();
    let spec = U32Node { class: Some(1), ..keys(&[]) };
    assert_eq!(errno(rig.request(&with_handle(0x0010_0000, node(1, spec.clone(), &[])), Mode::Change)), "EINVAL");
    assert_eq!(errno(rig.add(&with_handle(0x0010_0000, node(1, spec, &[])))), "EEXIST");
    assert_eq!(rig.send(&packet(&[0; 20])), Verdict::Trap);
    assert_eq!(rig.get(1, 0x0010_0000).unwrap().hits.packets, 0);
}

/// [WK-3], [WK-6]: one record a page.
#[test]
fn a_listing_goes_by_table_bucket_and_node() {
    let rig = Rig::new();
    rig.add(&table(1, 0xffe0_0000, 4)).unwrap();
    rig.add(&table(1, 0x0010_0000, 4)).unwrap();
    for table in [0xffe0_3000, 0x0010_2000, 0x0010_1000, 0xffe0_3000, 0] {
        rig.add(&node(1, within(table), &[])).unwrap();
    }
    let mut handles = Vec::new();
    let mut cursor = request::Cursor::default();
    let filter = request::DumpFilter { priority: 1, ..Default::default() };
    while let [record] = &request::dump_page(&rig.block, &filter, &mut cursor, 1).unwrap()[..] {
        if let request::Record::Filter(info) = record {
            handles.push(info.handle);
        }
    }
    let expected = [0x0010_0000, 0x0010_1800, 0x0010_2800, ROOT, FIRST, 0xffe0_0000, 0xffe0_3800, 0xffe0_3801];
    assert_eq!(handles, expected);
}

/// [DD-1], [OBJ-1]: links in a circle keep nothing alive.
#[test]
fn nothing_is_left_of_tables_that_lead_to_each_other() {
    let rig = Rig::new();
    rig.add(&table(1, 0x0010_0000, 256)).unwrap();
    rig.add(&table(2, 0x0020_0000, 1)).unwrap();
    rig.add(&node(1, U32Node { table: 0x0010_0000, ..link(0x0020_0000, &[]) }, &[Control::Shot])).unwrap();
    rig.add(&node(2, U32Node { table: 0x0020_0000, ..link(0x0010_0000, &[]) }, &[Control::Goto(3)])).unwrap();
    let plane = std::sync::Arc::clone(rig.block.plane());
    drop(rig);
    plane.reaper().drain();
    assert_eq!(plane.live(), Default::default());
}

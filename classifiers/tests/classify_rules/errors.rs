use tidegate_classifiers::flow_key::{SRC_IP_LOW, SRC_MAC};
use tidegate_classifiers::request::{self, CHAIN_MAX, ChainSpec, FilterKey, FilterSpec, KindName, KindSpec, Mode};
use tidegate_classifiers::verdict::Control;

use crate::stage::*;
use crate::support::*;

/// [RQ-1]: what is not given fits; `all` meets every ethertype.
#[test]
fn a_filter_is_named_by_chain_priority_protocol_kind_and_handle() {
    let mut rig = Rig::new(&[in_chain(2, FilterSpec { handle: 5, ..flower(3, IPV4, tcp_to(80), &[]) })]);
    let full = FilterKey { chain: 2, priority: 3, protocol: IPV4, handle: 5, kind: Some(KindName::Flower) };
    for key in [full, FilterKey { protocol: 0, ..full }, FilterKey { kind: None, ..full }] {
        assert_eq!(request::get_filter(&rig.block, key).unwrap().name, "".into());
    }
    request::add_filter(&rig.block, &matchall(1, &[])).unwrap();
    for packet in [tcp(80), tagged_udp(1, 2)] {
        rig.send(&packet);
    }
    assert_eq!(rig.packets(0, 1), 2);
}

/// [RQ-3], [RQ-8], [FO-1]: each request has all mistakes from one on; the first one in order is the answer.
#[test]
fn the_first_mistake_in_order_is_the_answer() {
    let rig = Rig::new(&[]);
    let template = KindSpec::Flower(Box::new(keys(&[(SRC_MAC, 0)])));
    request::add_chain(&rig.block, ChainSpec { index: 1, template: Some(template) }).unwrap();
    request::add_filter(&rig.block, &in_chain(1, one(1))).unwrap();
    let answer = |spec: FilterSpec, mode| errno(request::new_filter(&rig.block, &spec, mode));

    let kind = FilterSpec { protocol: IPV4, ..unknown(1) };
    assert_eq!(
        answer(FilterSpec { chain: CHAIN_MAX + 1, priority: 0, ..kind.clone() }, Mode::Change),
        "ENOENT",
        "priority"
    );
    assert_eq!(answer(FilterSpec { chain: CHAIN_MAX + 1, ..kind.clone() }, Mode::Add), "EINVAL", "chain");
    assert_eq!(answer(in_chain(1, kind), Mode::Add), "EINVAL", "protocol");
    assert_eq!(
        answer(in_chain(1, FilterSpec { handle: 1, ..unknown(1) }), Mode::Add),
        "EINVAL",
        "kind, before the handle"
    );
    let outside = || flower(1, 3, keys(&[(SRC_IP_LOW, 1)]), &[]);
    assert_eq!(
        answer(in_chain(1, FilterSpec { handle: 1, ..outside() }), Mode::Add),
        "EEXIST",
        "handle, before the mask"
    );
    assert_eq!(answer(in_chain(1, FilterSpec { handle: 2, ..outside() }), Mode::Change), "ENOENT", "the same");
    assert_eq!(
        answer(in_chain(1, matchall(2, &vec![gact(Control::Pipe); 33])), Mode::Add),
        "EINVAL",
        "template, before actions"
    );
    assert_eq!(
        answer(FilterSpec { protocol: 0, ..unknown(7) }, Mode::Change),
        "EINVAL",
        "protocol, before it is to be there"
    );
    assert_eq!(answer(unknown(7), Mode::Change), "ENOENT");
}

/// [RQ-4]
#[test]
fn priority_0_means_automatic_or_the_whole_chain_or_nothing() {
    let rig = Rig::new(&[matchall(1, &[])]);
    let block = &rig.block;
    assert_eq!(request::new_filter(block, &matchall(0, &[]), Mode::Replace).unwrap().priority, 0xc000);
    assert_eq!(errno(request::new_filter(block, &matchall(0, &[]), Mode::Change)), "ENOENT");
    assert_eq!(errno(request::get_filter(block, key(0, 0, 1))), "ENOENT");
    let all = FilterKey::chain(0);
    for key in [
        FilterKey { protocol: IPV4, ..all },
        FilterKey { handle: 1, ..all },
        FilterKey { kind: Some(KindName::Matchall), ..all },
    ] {
        assert_eq!(errno(request::delete_filter(block, key)), "ENOENT");
    }
    assert_eq!(request::dump(block).len(), 2);
    request::delete_filter(block, all).unwrap();
    assert_eq!(request::dump(block), []);
}

/// [ER-3]: with replace too, under whatever handle.
#[test]
fn a_flower_key_is_there_once() {
    let rig = Rig::new(&[with_key(1, 5), with_key(2, 6)]);
    for (handle, mode) in [(0, Mode::Add), (0, Mode::Replace), (3, Mode::Replace), (2, Mode::Change)] {
        assert_eq!(errno(request::new_filter(&rig.block, &with_key(handle, 5), mode)), "EEXIST", "{handle} {mode:?}");
    }
    assert_eq!(request::dump(&rig.block).len(), 2);
}

/// [ER-5], [ER-7], [ER-12], [ER-13], [ER-14], [ER-15], [ER-16], [KR-24]: gets and deletes of what is not there, or is another.
#[test]
fn each_cause_has_its_error() {
    let rig = Rig::new(&[FilterSpec { handle: 1, ..flower(1, IPV4, tcp_to(80), &[]) }, matchall(0x8000, &[])]);
    let block = &rig.block;
    let kind = |kind, priority| FilterKey { kind: Some(kind), ..key(0, priority, 1) };
    let cases = [
        (key(9, 1, 1), "EINVAL", "ENOENT", "chain"),
        (key(0, 2, 1), "ENOENT", "ENOENT", "priority"),
        (key(0, 1, 2), "ENOENT", "ENOENT", "handle"),
        (FilterKey { protocol: IPV6, ..key(0, 1, 1) }, "EINVAL", "EINVAL", "protocol"),
        (FilterKey { protocol: 3, ..key(0, 1, 1) }, "EINVAL", "EINVAL", "all is a protocol"),
        (kind(KindName::Matchall, 1), "EINVAL", "EINVAL", "kind"),
        (kind(KindName::U32, 1), "EINVAL", "EINVAL", "locked kind"),
        (kind(KindName::U32, 2), "ENOENT", "ENOENT", "priority, before kind"),
        (key(CHAIN_MAX + 1, 1, 1), "EINVAL", "EINVAL", "chain index"),
    ];
    for (key, get, delete, what) in cases {
        assert_eq!(errno(request::get_filter(block, key)), get, "{what}");
        assert_eq!(errno(request::delete_filter(block, key)), delete, "{what}");
    }
    request::delete_filter(block, FilterKey::chain(9)).expect("nothing to flush is flushed");
    assert_eq!(errno(request::add_filter(block, &flower(1, IPV6, tcp_to(1), &[]))), "EINVAL");
    assert_eq!(errno(request::add_filter(block, &matchall(0, &[]))), "ENOSPC");
    assert_eq!(request::dump(block).len(), 2);
}

/// [AV-5], [ER-28]: codes carry 28 bits.
#[test]
fn verdicts_that_cannot_be_said_are_refused() {
    let rig = Rig::new(&[]);
    for control in [Control::Jump(1 << 28), Control::Jump(u32::MAX), Control::Goto(1 << 28), Control::Goto(u32::MAX)] {
        assert_eq!(errno(request::add_filter(&rig.block, &matchall(1, &[gact(control)]))), "EINVAL", "{control:?}");
    }
    let largest = [gact(Control::Jump((1 << 28) - 1))];
    request::add_filter(&rig.block, &matchall(1, &largest)).unwrap();
}

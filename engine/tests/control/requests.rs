//! What requests do.

use serde_json::{Value, json};
use tidegate_client::wire::{BlockName, Record, Request};
use tidegate_client::{Client, ClientError};

use crate::kit::Site;

/// The handles of `on`'s filters, in the order of the listing.
pub(crate) fn handles(client: &mut Client, on: &str) -> Vec<u64> {
    let records = client.filters(json!({ "on": on })).map(|record| match record.unwrap() {
        Record::Filter(filter) => Some(filter["handle"].as_u64().unwrap()),
        Record::Proto(_) => None,
    });
    records.flatten().collect()
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>, errno: &str) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.errno(), Some(errno), "{error}");
    error.to_string()
}

#[test]
fn a_filter_is_added_replaced_changed_and_deleted() {
    let site = Site::new();
    let mut client = site.client();
    client.bind("wan", Some(0), None).unwrap();
    let filter = |action| json!({ "on": "wan", "priority": 5, "handle": 7, "match": { "src_mac": "02:00:00:00:00:01" }, "action": action });
    let key = json!({ "on": "wan", "priority": 5, "handle": 7 });
    let action = |client: &mut Client| client.get_filter(key.clone()).unwrap()["actions"][0]["action"].clone();

    refused(client.change_filter(filter("drop")), "ENOENT");
    let added = client.add_filter(filter("drop")).unwrap();
    assert_eq!((added[0].priority, added[0].handle, added.len()), (5, 7, 1));
    assert_eq!(action(&mut client), "drop");
    refused(client.add_filter(filter("pass")), "EEXIST");
    client.replace_filter(filter("pass")).unwrap();
    assert_eq!(action(&mut client), "pass");
    client.change_filter(filter("trap")).unwrap();
    assert_eq!(action(&mut client), "trap");
    client.delete_filter(key.clone()).unwrap();
    refused(client.get_filter(key), "EINVAL");
    assert!(handles(&mut client, "wan").is_empty());
}

#[test]
fn what_is_wrong_with_a_filter_is_said_by_key() {
    let site = Site::new();
    let mut client = site.client();
    let why = refused(
        client.add_filter(json!({ "on": "office", "match": { "dst_port": "ssh" }, "actoin": "drop" })),
        "EINVAL",
    );
    assert!(why.contains("dst_port") && why.contains("actoin"), "{why}");
    let why = refused(client.add_filter(json!({ "action": "drop" })), "EINVAL");
    assert!(why.contains("`on`"), "{why}");
    for no_table in [json!("drop"), json!(7), json!(null), json!([])] {
        refused(client.add_filter(no_table), "EINVAL");
    }
    let why = refused(client.add_filter(json!({ "on": "office", "chain": "scna", "action": "drop" })), "EINVAL");
    assert!(why.contains("scan"), "{why}");
    refused(client.add_filter(json!({ "on": "office", "action": "mirror dmz" })), "EINVAL");
}

/// [RQ-9], [RQ-10], [RQ-11]
#[test]
fn blocks_are_found_by_name_port_hook_and_index() {
    let site = Site::new();
    let mut client = site.client();
    let mut add = |on: Value| client.add_filter(json!({ "on": on, "action": "drop" }));
    refused(add(json!("dmz")), "ENODEV");
    refused(add(json!("wan")), "EINVAL");
    refused(add(json!("wan/egress")), "EINVAL");
    refused(add(json!("wan/sideways")), "EINVAL");
    refused(add(json!(9)), "EINVAL");
    refused(add(json!(0)), "EINVAL");
    let why = refused(add(json!("guests")), "EOPNOTSUPP");
    assert!(why.contains("office"), "{why}");
    add(json!("office")).unwrap();
    add(json!(1)).unwrap();
    assert_eq!(handles(&mut client, "lan").len(), 2, "to look at it, the port will do");
    for record in client.filters(json!({ "on": "guests" })) {
        let (Record::Proto(table) | Record::Filter(table)) = record.unwrap();
        assert_eq!(table["on"], "office", "what is listed says where it is");
    }
}

#[test]
fn a_filter_for_both_families_has_two_places() {
    let site = Site::new();
    let mut client = site.client();
    let added = client.add_filter(
        json!({ "on": "office", "priority": 10, "match": { "ip_proto": "udp", "dst_port": 53 }, "action": "pass" }),
    );
    assert_eq!(added.unwrap().iter().map(|id| id.priority).collect::<Vec<_>>(), [10, 11]);
}

#[test]
fn a_listing_in_pages_is_the_listing() {
    let site = Site::new();
    let mut client = site.client();
    let filter = |n: u32| {
        let (chain, priority) = (n % 3, 1 + n % 7);
        json!({ "on": "office", "chain": chain, "priority": priority, "protocol": "ip", "match": { "dst_port": n, "ip_proto": "tcp" }, "action": "drop" })
    };
    for outcome in client.pipeline((0..500).map(|n| Request::AddFilter { filter: filter(n) })) {
        outcome.unwrap();
    }
    let whole: Vec<Record> = client.filters(json!({ "on": "office" })).map(Result::unwrap).collect();
    assert_eq!(whole.len(), 500 + 3 * 7);
    for max in [1, 2, 3, 20, 1024] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let reply =
                client.request(&Request::DumpFilters { filter: json!({ "on": "office" }), after, max: Some(max) });
            let tidegate_client::wire::Reply::FilterPage(page) = reply.unwrap() else { panic!("no page") };
            assert!(page.records.len() <= max);
            paged.extend(page.records);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole, "{max}");
    }
    let some: Vec<_> =
        client.filters(json!({ "on": "office", "chain": 2, "priority": 3 })).map(Result::unwrap).collect();
    assert!(
        !some.is_empty()
            && some.iter().all(|record| {
                let (Record::Proto(table) | Record::Filter(table)) = record;
                table["chain"] == 2 && table["priority"] == 3
            })
    );
    refused(
        client.request(&Request::DumpFilters { filter: json!({ "on": "office" }), after: None, max: Some(0) }),
        "EMSGSIZE",
    );
    let after = Some("the middle".into());
    refused(client.request(&Request::DumpFilters { filter: json!({ "on": "office" }), after, max: None }), "EINVAL");
    refused(client.filters(json!({ "on": "office", "handle": 1 })).next().unwrap(), "EINVAL");
}

#[test]
fn chains_and_actions_are_listed_to_their_end() {
    let site = Site::new();
    let mut client = site.client();
    for chain in 0..600 {
        client.add_chain(json!({ "on": "office", "chain": chain })).unwrap();
    }
    refused(client.change_chain(json!({ "on": "office", "chain": 599 })), "EEXIST");
    refused(client.change_chain(json!({ "on": "office", "chain": 600 })), "ENOENT");
    assert_eq!(client.get_chain(json!({ "on": "office", "chain": 599 })).unwrap()["chain"], 599);
    let chains: Vec<_> = client.chains("office").map(|chain| chain.unwrap()["chain"].as_u64().unwrap()).collect();
    assert_eq!(chains, (0..600).collect::<Vec<_>>());
    for _ in 0..20 {
        let words: Vec<Value> = (0..30).map(|_| "drop".into()).collect();
        assert_eq!(client.add_actions(words.into()).unwrap().len(), 30);
    }
    let listed: Vec<_> = client.actions("gact").map(|action| action.unwrap()["index"].as_u64().unwrap()).collect();
    assert_eq!(listed, (1..=600).collect::<Vec<_>>());
    client.delete_actions(vec![json!({ "kind": "gact", "index": 600 })]).unwrap();
    assert_eq!(client.flush_actions("gact").unwrap(), 599);
    refused(client.flush_actions("ct"), "EINVAL");
}

#[test]
fn all_hooks_are_bound_or_none() {
    let site = Site::new();
    let mut client = site.client();
    refused(client.bind("wan", None, None), "EINVAL");
    refused(client.bind("dmz", Some(0), None), "ENODEV");
    refused(client.bind("wan", Some(0), Some(0)), "EOPNOTSUPP");
    assert!(site.attached().is_empty(), "the ingress hook is as it was");
    refused(client.unbind("wan"), "EINVAL");
    client.bind("wan", Some(0), None).unwrap();
    refused(client.bind("wan", Some(3), None), "EINVAL");
    assert_eq!(site.attached().len(), 1);
    client.add_filter(json!({ "on": "wan", "action": "drop" })).unwrap();
    client.unbind("wan").unwrap();
    assert!(site.attached().is_empty());
    client.bind("wan", Some(0), None).unwrap();
    assert!(handles(&mut client, "wan").is_empty(), "the block went with its hook");
}

/// [BL-1], [BL-4], [BL-5]
#[test]
fn without_a_gateway_ports_are_made_by_binding_them() {
    let site = Site::standalone();
    let mut client = site.client();
    refused(client.status(), "EOPNOTSUPP");
    refused(client.bind("veth 0", Some(0), None), "ENODEV");
    refused(client.bind("veth0", Some(5), Some(5)), "EBUSY");
    refused(client.unbind("veth0"), "ENODEV");
    client.bind("veth0", Some(0), Some(5)).unwrap();
    client.bind("veth1", Some(5), None).unwrap();
    client.add_filter(json!({ "on": "veth0", "action": "redirect veth1" })).unwrap();
    client.add_filter(json!({ "on": 5, "priority": 3, "action": "drop" })).unwrap();
    assert_eq!(handles(&mut client, "veth0/egress"), handles(&mut client, "veth1"));
    let blocks = client.blocks().unwrap();
    let hooks: Vec<_> = blocks.iter().map(|block| (block.on.clone(), block.index, block.hooks.join(" "))).collect();
    let expected = [(BlockName::Index(5), 5, "veth0/egress veth1"), (BlockName::Name("veth0".into()), 0, "veth0")];
    assert_eq!(hooks, expected.map(|(on, index, hooks)| (on, index, hooks.to_owned())));
    client.unbind("veth0").unwrap();
    assert_eq!(handles(&mut client, "veth1").len(), 1, "another hook has the block still");
    client.unbind("veth1").unwrap();
    refused(client.add_filter(json!({ "on": 5, "action": "drop" })), "EINVAL");
}

#[test]
fn many_requests_get_their_replies_in_order() {
    let site = Site::new();
    let mut client = site.client();
    let filter = |n: u32| json!({ "on": "office", "priority": 1, "handle": 1 + n / 2, "protocol": "ip", "match": { "src_ip": format!("10.0.{}.{}", n / 512, n / 2 % 256) }, "action": "drop" });
    let requests = (0..2000).map(|n| Request::AddFilter { filter: filter(n) });
    let outcomes: Vec<_> = client.pipeline(requests).collect();
    assert_eq!(outcomes.len(), 2000);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match n % 2 {
            0 => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
            _ => _ = refused(outcome, "EEXIST"),
        }
    }
    let taken = client.pipeline((2000..4000).map(|n| Request::AddFilter { filter: filter(n) })).take(3).count();
    assert_eq!(taken, 3);
    assert_eq!(client.status().unwrap().pid, 4711, "the reply is the one to this request");
    let key = json!({ "on": "office", "priority": 1, "handle": 1 });
    let gets = (0..5000).map(|_| Request::GetFilter { filter: key.clone() });
    assert_eq!(client.pipeline(gets).filter(Result::is_ok).count(), 5000, "more of both than sockets hold");
    let pages =
        (0..50).map(|_| Request::DumpFilters { filter: json!({ "on": "office" }), after: None, max: Some(1024) });
    assert_eq!(client.pipeline(pages).filter(Result::is_ok).count(), 50, "replies far longer than requests");
}

#[test]
fn many_requests_end_with_their_connection() {
    let mut site = Site::new();
    let mut client = site.client();
    let endless = std::iter::repeat_with(|| Request::DumpBlocks {});
    let mut outcomes = client.pipeline(endless);
    assert!(outcomes.next().unwrap().is_ok());
    drop(site.server.take());
    let broken = outcomes.find_map(Result::err).unwrap();
    assert!(matches!(broken, ClientError::Broken(_)), "{broken}");
    assert!(outcomes.next().is_none());
    assert!(matches!(client.status(), Err(ClientError::Broken(_))));
}

#[test]
fn a_gateway_that_is_not_there_is_unreachable() {
    let site = Site::new();
    let missing = Client::connect(site.folder().join("no.sock")).unwrap_err();
    assert!(matches!(missing, ClientError::Unreachable { .. }), "{missing}");
    assert!(missing.to_string().contains("is it running"), "{missing}");
}

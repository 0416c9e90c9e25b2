//! Whatever the lines of a batch of tc, commands or mistakes; what they made is listed in any style, and the JSON of it,
//! imported, is what is there.

use std::path::Path;

use serde_json::Value;
use tidegate_client::Client;
use tidegate_client::wire::{BlockName, Record};
use tidegate_config::{Names, Scope, json};
use tidegate_tc::{Streams, import, run};

use crate::site::Site;

/// How listings may look. All of them would take long.
const STYLES: [&[&str]; 5] = [&[], &["-s"], &["-s", "-o"], &["-s", "-br"], &["-s", "-j", "-p"]];

#[test]
fn fuzz() {
    let site = Site::new();
    bolero::check!(name = "grammar").with_iterations(100).for_each(|bytes: &[u8]| {
        let lines: Vec<&[u8]> =
            bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| !may_monitor(line)).collect();
        let (code, _, mistakes) = tc(&["-force", "-batch", "-"], &site.socket, &lines.concat());
        assert_eq!(code == 0, mistakes.is_empty(), "{mistakes}");
        let mut client = Client::connect(&site.socket).unwrap();
        let blocks = client.blocks().unwrap();
        let mut ports = Names::new("port");
        let hooks = blocks.iter().flat_map(|block| &block.hooks);
        (0..).zip(hooks).for_each(|(id, hook)| ports.insert(hook.strip_suffix("/egress").unwrap_or(hook), id));
        let style = STYLES[bytes.len() % STYLES.len()];
        for block in &blocks {
            survives(&mut client, &block.on, &ports, style, &site.socket);
        }
        drop(client);
        site.clean();
    });
}

/// Whether a line could be the beginning of `tc monitor`, which has no end.
fn may_monitor(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let word =
        line.trim_start().trim_start_matches(['"', '\'']).split(|c: char| c.is_whitespace() || "\"'\\".contains(c));
    word.into_iter().next().is_some_and(|word| !word.is_empty() && "monitor".starts_with(word))
}

/// Lists a block in a style. What tc's JSON tells, imported, is what the gateway lists.
fn survives(client: &mut Client, on: &BlockName, ports: &Names, style: &[&str], socket: &Path) {
    let index = on.to_string();
    let place = match on {
        BlockName::Index(_) => ["block", index.as_str()].to_vec(),
        BlockName::Name(name) => match name.strip_suffix("/egress") {
            Some(port) => vec!["dev", port, "egress"],
            None => vec!["dev", name.as_str(), "ingress"],
        },
    };
    let show = |style: &[&str], object: &str| {
        let words = [style, &[object, "show"], &place].concat();
        let (code, listing, mistakes) = tc(&words, socket, b"");
        assert_eq!((code, mistakes.as_str()), (0, ""), "{words:?}");
        listing
    };
    show(style, "filter");
    show(style, "chain");
    let listed = client.filters(serde_json::json!({ "on": on.to_value() })).map(Result::unwrap);
    let listed = listed.filter_map(|record| match record {
        Record::Filter(filter) => Some(filter),
        Record::Proto(_) => None,
    });
    let (listed, untold): (Vec<_>, Vec<_>) = listed.partition(is_told);
    let place = |chain: &Value, priority: &Value, handle: &Value| {
        (chain.as_u64().unwrap_or(0), priority.as_u64(), handle.as_u64()) // chain 0 goes without saying
    };
    let untold: Vec<_> =
        untold.iter().map(|filter| place(&filter["chain"], &filter["priority"], &filter["handle"])).collect();
    let mut listing: Value = serde_json::from_str(&show(&["-j"], "filter")).unwrap();
    listing.as_array_mut().unwrap().retain(|record| {
        let place = place(&record["chain"], &record["pref"], &record["options"]["handle"]);
        has_told_kind(record) && !untold.contains(&place)
    });
    let imported = import(&listing, "here").unwrap_or_else(|wrong| panic!("{wrong:?}\n{listing}"));
    assert_eq!(imported.len(), listed.len(), "{listing}");
    let scope = Scope { ports, chains: None };
    for (imported, mut listed) in imported.into_iter().zip(listed) {
        // The name of a port that is gone is lost.
        let Ok(wanted) = json::filter(without_seen(&mut listed), scope) else { continue };
        let imported = json::filter(without_seen(&mut imported.clone()), scope);
        assert_eq!(imported.as_ref(), Ok(&wanted), "{listing}");
    }
}

/// Whether tc's JSON tells all of a filter: not of other kinds, not the rate of police, not `at` of pedit.
fn is_told(filter: &Value) -> bool {
    let untold = |words: &str| words.starts_with("police ") || words.starts_with("pedit ") && words.contains(" at ");
    let mut actions = filter["actions"].as_array().unwrap().iter().filter_map(|action| action["action"].as_str());
    has_told_kind(filter) && !actions.any(untold)
}

fn has_told_kind(record: &Value) -> bool {
    record["kind"] == "flower" || record["kind"] == "matchall"
}

/// A filter of a listing as a request for it: the number of an action matters if others hold it too.
fn without_seen(filter: &mut Value) -> Value {
    let fields = filter.as_object_mut().unwrap();
    fields.remove("on");
    fields.remove("stats");
    for action in fields["actions"].as_array_mut().unwrap() {
        let action = action.as_object_mut().unwrap();
        if action.remove("stats").is_some_and(|stats| stats["ref"].as_u64() <= Some(1)) {
            action.remove("index");
        }
    }
    filter.take()
}

/// Runs tc: exit code, listing, mistakes.
fn tc(words: &[&str], socket: &Path, mut input: &[u8]) -> (u8, String, String) {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(&words, socket, Streams { input: &mut input, out: &mut out, err: &mut err });
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

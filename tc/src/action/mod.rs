//! Actions: `action drop index 7`, and their listings.

mod csum; // checksums made anew
mod gact; // a verdict, possibly by chance
mod mirred; // a copy, or the packet itself, to a port
mod nat; // another IPv4 prefix
mod pedit; // words of the packet, changed in their bits
mod police; // a limit to a rate
mod sample; // packets shown to who listens
mod skbedit; // another mark
mod tunnel_key; // the tunnel that goes with a packet
mod vlan; // a tag more, less, or another one

use serde_json::{Map, Value, json};
use tidegate_classifiers::request::{ActionKind, ActionSpec};
use tidegate_classifiers::verdict::Control;
use tidegate_config::actions::{self, show_control};

use crate::arguments::{Failure, Words, decimal, number, stands_for};
use crate::printer::Printer;

/// Verdicts, in the order in which abbreviations are looked up.
const VERDICTS: [(&str, Control); 8] = [
    ("continue", Control::Continue),
    ("drop", Control::Shot),
    ("shot", Control::Shot),
    ("pass", Control::Ok),
    ("ok", Control::Ok),
    ("reclassify", Control::Reclassify),
    ("pipe", Control::Pipe),
    ("trap", Control::Trap),
];

/// Kinds of actions that tc has and the gateway has not. Any other word is taken for a verdict.
const ELSEWHERE: [&str; 10] = ["skbmod", "mpls", "ct", "ctinfo", "connmark", "bpf", "gate", "ife", "simple", "xt"];

/// Reads actions up to the end, or to a word that belongs to the filter: tables in the words of the file.
pub(crate) fn read_list(words: &mut Words<'_>) -> Result<Vec<Value>, Failure> {
    let mut actions = Vec::new();
    loop {
        while words.take("action") {}
        match words.peek() {
            None | Some("flowid" | "classid") => return Ok(actions),
            Some(word) => {
                let action = read(words).map_err(|failure| Failure {
                    text: format!(
                        "{}\nbad action parsing\nparse_action: bad value ({word})!\nIllegal \"action\"",
                        failure.text
                    ),
                    ..failure
                })?;
                actions.push(action.into());
            }
        }
    }
}

fn read(words: &mut Words<'_>) -> Result<Map<String, Value>, Failure> {
    let mut table = Map::new();
    if words.take("mirred") {
        mirred::read(words, &mut table)?;
    } else if let Some(read) = words.peek().and_then(reader) {
        let kind = words.next();
        let spec = read(words, &mut table)?;
        read_index(words, &mut table)?;
        match spec {
            Some(spec) => table.insert("action".into(), actions::words(&spec).into()),
            None => table.insert("kind".into(), kind.into()),
        };
    } else if words.take("gact") || words.peek().is_some_and(is_verdict) {
        gact::read(words, &mut table)?;
    } else {
        let kind = words.value()?;
        return Err(match words.peek() {
            _ if !ELSEWHERE.contains(&kind) => bad_verdict(kind),
            Some(option) => Failure::new(format!("Unknown action \"{kind}\", hence option \"{option}\" is unparsable")),
            None => Failure::new(format!("Unknown action \"{kind}\"")),
        });
    }
    loop {
        if words.take("cookie") {
            table.insert("cookie".into(), words.value()?.to_ascii_lowercase().into());
        } else if words.take_any(&["hw_stats"]) {
            let what = words.value()?;
            if !["immediate", "delayed", "disabled"].iter().any(|known| stands_for(what, known)) {
                return Err(Failure::wrong(what, "value is invalid"));
            }
        } else if let Some(flag @ ("no_percpu" | "skip_hw" | "skip_sw")) = words.peek() {
            words.next();
            table.insert(flag.into(), true.into());
        } else {
            return Ok(table);
        }
    }
}

/// Reads what comes after the kind, and the index if it is not last: what is asked for, or nothing if only an index is.
type Reader = fn(&mut Words<'_>, &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure>;

/// Kinds other than gact and mirred, whose words are not those of the file.
fn reader(kind: &str) -> Option<Reader> {
    match kind {
        "police" => Some(police::read),
        "vlan" => Some(vlan::read),
        "skbedit" => Some(skbedit::read),
        "csum" => Some(csum::read),
        "pedit" => Some(pedit::read),
        "nat" => Some(nat::read),
        "sample" => Some(sample::read),
        "tunnel_key" => Some(tunnel_key::read),
        _ => None,
    }
}

/// Whether there are actions of this kind.
pub(crate) fn is_kind(word: &str) -> bool {
    ActionKind::ALL.iter().any(|kind| kind.as_str() == word)
}

/// Whether only an index is given.
fn index_follows(words: &Words<'_>, table: &Map<String, Value>) -> bool {
    table.contains_key("index") || words.peek().is_some_and(|word| stands_for(word, "index"))
}

/// An action of a kind of [`reader`], from a listing of tc, in the words of the file; but for its verdict.
///
/// # Errors
/// Why it cannot be taken over.
pub(crate) fn import(kind: &str, listed: &Value) -> Result<String, String> {
    match kind {
        "police" => Err("tc's JSON does not tell the rate of police".into()),
        "vlan" => vlan::import(listed),
        "skbedit" => skbedit::import(listed),
        "csum" => Ok(csum::import(listed)),
        "pedit" => pedit::import(listed),
        "nat" => Ok(nat::import(listed)),
        "sample" => Ok(sample::import(listed)),
        "tunnel_key" => tunnel_key::import(listed),
        _ => Err(format!("the gateway has no action {kind}")),
    }
}

/// `index N`, if it is there.
fn read_index(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    if words.take_any(&["index"]) {
        let index = words.peek().and_then(decimal).ok_or_else(|| Failure::new("Illegal \"index\""))?;
        words.next();
        if index > 0 {
            table.insert("index".into(), index.into());
        }
    }
    Ok(())
}

fn is_verdict(word: &str) -> bool {
    VERDICTS.iter().map(|(name, _)| *name).chain(["goto", "jump"]).any(|name| stands_for(word, name))
}

/// The verdict that comes now; `otherwise` if none does.
fn verdict_or(words: &mut Words<'_>, otherwise: Control) -> Result<Control, Failure> {
    if words.peek().is_some_and(is_verdict) { verdict(words) } else { Ok(otherwise) }
}

/// The verdict that must come now.
fn verdict(words: &mut Words<'_>) -> Result<Control, Failure> {
    let word = words.value()?;
    if let Some((_, verdict)) = VERDICTS.iter().find(|(name, _)| stands_for(word, name)) {
        return Ok(*verdict);
    }
    let mut count = |what: &str| {
        let value = words.peek().and_then(number);
        words.next();
        value.ok_or_else(|| Failure::new(format!("Illegal \"{what}\"")))
    };
    match word {
        _ if stands_for(word, "jump") => count("jump").map(Control::Jump),
        _ if stands_for(word, "goto") => {
            if !words.take_any(&["chain"]) {
                return Err(Failure::new("\"chain\" keyword expected after goto"));
            }
            let chain = words.value()?;
            number(chain).map(Control::Goto).ok_or_else(|| Failure::new("Illegal \"chain index\""))
        }
        _ => Err(bad_verdict(word)),
    }
}

fn bad_verdict(word: &str) -> Failure {
    Failure::syntax(format!("Bad action type {word}\nUsage: ... gact <ACTION> [RAND] [INDEX]"))
}

/// The actions of a filter; nothing if there are none.
pub(crate) fn print_list(actions: &[Value], printer: &mut Printer) {
    if !actions.is_empty() {
        printer.list(Some("actions"), |printer| {
            for (order, action) in (1..).zip(actions) {
                print(order, action, false, printer);
            }
        });
    }
}

/// A listing of actions of their own: `order` counts from `first`.
pub(crate) fn print_table(total: usize, first: usize, actions: &[Value], printer: &mut Printer) {
    printer.object(None, |printer| {
        printer.field("total acts", total, format_args!("total acts {total}"));
        printer.line();
    });
    printer.object(None, |printer| {
        printer.list(Some("actions"), |printer| {
            for (order, action) in (first..).zip(actions) {
                print(order, action, true, printer);
            }
        });
    });
}

fn print(order: usize, action: &Value, alone: bool, printer: &mut Printer) {
    printer.object(None, |printer| {
        printer.line();
        printer.field("order", order, format_args!("\taction order {order}: "));
        let words = action["action"].as_str().unwrap_or_default();
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            [what @ ("mirror" | "redirect"), ref rest @ ..] => {
                mirred::print(what, rest, printer);
                print_holders("\tindex ", action, printer);
            }
            [kind, ..] if reader(kind).is_some() => {
                if let Some(spec) = actions::parse(words) {
                    print_spec(&spec, action, printer);
                }
            }
            ref words => {
                gact::print(words, printer);
                print_holders("\t index ", action, printer);
            }
        }
        printer.line();
        if printer.style.stats {
            print_stats(&action["stats"], printer);
        }
        if let Some(cookie) = action["cookie"].as_str() {
            printer.field("cookie", cookie, format_args!("\tcookie {cookie}"));
            printer.line();
        }
        let flags = ["no_percpu", "skip_hw"].into_iter().filter(|flag| action[*flag] == true);
        let hardware = (alone && action["skip_hw"] != true).then_some("not_in_hw");
        let mut some = false;
        for flag in flags.chain(hardware) {
            printer.field(flag, true, format_args!("\t{flag}"));
            some = true;
        }
        if some {
            printer.line();
        }
        if alone {
            printer.text(format_args!("\tused_hw_stats"));
            printer.list(Some("used_hw_stats"), |printer| printer.element("disabled", format_args!(" disabled")));
            printer.line();
        }
    });
}

/// What a kind of [`reader`] prints of itself, with its holders.
fn print_spec(spec: &ActionSpec, action: &Value, printer: &mut Printer) {
    match spec {
        ActionSpec::Police(police) => police::print(police, action, printer),
        ActionSpec::Vlan(spec) => vlan::print(spec, action, printer),
        ActionSpec::Skbedit(spec) => skbedit::print(spec, action, printer),
        ActionSpec::Csum(spec) => csum::print(spec, action, printer),
        ActionSpec::Pedit(spec) => pedit::print(spec, action, printer),
        ActionSpec::Nat(spec) => nat::print(spec, action, printer),
        ActionSpec::Sample(spec) => sample::print(spec, action, printer),
        ActionSpec::TunnelKey(spec) => tunnel_key::print(spec, action, printer),
        ActionSpec::Gact(_) | ActionSpec::Mirred(_) => {}
    }
}

/// The number after `before`, and who holds the action.
fn print_holders(before: &str, action: &Value, printer: &mut Printer) {
    let (index, refs, binds) = (&action["index"], &action["stats"]["ref"], &action["stats"]["bind"]);
    printer.field("index", index.clone(), format_args!("{before}{index}"));
    printer.field("ref", refs.clone(), format_args!(" ref {refs}"));
    printer.field("bind", binds.clone(), format_args!(" bind {binds}"));
    print_ages(&action["stats"], printer);
}

fn print_control(before: &str, control: Control, after: &str, printer: &mut Printer) {
    print_verdict(before, &show_control(control).split(' ').collect::<Vec<_>>(), after, printer);
}

fn print_verdict(before: &str, verdict: &[&str], after: &str, printer: &mut Printer) {
    let kind = verdict.first().copied().unwrap_or("pass");
    let value = verdict.get(1).and_then(|value| value.parse::<u32>().ok());
    printer.object(Some("control_action"), |printer| {
        printer.field("type", kind, format_args!("{before}{kind}"));
        match value {
            Some(chain) if kind == "goto" => printer.field("chain", chain, format_args!(" chain {chain}")),
            Some(count) => printer.field("jump", count, format_args!(" {count}")),
            None => {}
        }
    });
    printer.text(format_args!("{after}"));
}

/// [ST-2]
fn print_ages(stats: &Value, printer: &mut Printer) {
    if !printer.style.stats {
        return;
    }
    let seconds = |key: &str| stats[key].as_u64().map(|ms| ms / 1000);
    let ages = [
        ("installed_ms", "installed", "installed"),
        ("used_ms", "last_used", "used"),
        ("first_used_ms", "first_used", "firstused"),
    ];
    for (key, field, word) in ages {
        if let Some(age) = seconds(key) {
            printer.field(field, age, format_args!(" {word} {age} sec"));
        }
    }
}

/// [ST-1]
fn print_stats(stats: &Value, printer: &mut Printer) {
    let count = |key: &str| stats[key].as_u64().unwrap_or(0);
    let (bytes, packets, drops, overlimits) = (count("bytes"), count("packets"), count("drops"), count("overlimits"));
    printer.text(format_args!("\tAction statistics:"));
    printer.line();
    printer.object(Some("stats"), |printer| {
        printer.field("bytes", bytes, format_args!("\tSent {bytes} bytes"));
        printer.field("packets", packets, format_args!(" {packets} pkt"));
        printer.field("drops", drops, format_args!(" (dropped {drops},"));
        printer.field("overlimits", overlimits, format_args!(" overlimits {overlimits}"));
        printer.field("requeues", 0, format_args!(" requeues 0) "));
        printer.line();
        printer.field("backlog", 0, format_args!("\tbacklog 0b"));
        printer.field("qlen", 0, format_args!(" 0p requeues 0"));
    });
    printer.line();
}

/// Kind and index of each: `action gact index 1 action mirred index 2`.
pub(crate) fn read_keys(words: &mut Words<'_>) -> Result<Vec<Value>, Failure> {
    let mut keys = Vec::new();
    while words.peek().is_some() {
        if words.take("action") {
            continue;
        }
        let kind = read_kind(words)?;
        if !words.take_any(&["index"]) {
            return Err(Failure::new(format!("Error: no index specified action: {kind}")));
        }
        let index = words.peek().and_then(decimal).filter(|index| *index > 0);
        let index = index.ok_or_else(|| Failure::new("Illegal \"index\""))?;
        words.next();
        keys.push(json!({ "kind": kind, "index": index }));
    }
    Ok(keys)
}

/// The kind of actions that a listing is about: `action gact`.
pub(crate) fn read_kind<'a>(words: &mut Words<'a>) -> Result<&'a str, Failure> {
    words.take("action");
    words.value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Style;

    fn read(line: &str) -> Result<Value, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        read_list(&mut Words::new(&words)).map(Value::from).map_err(|failure| failure.text)
    }

    /// [CL-8]
    #[test]
    fn actions_become_words_of_the_file() {
        let cases = [
            ("action drop", json!([{"action": "drop"}])),
            ("drop index 7", json!([{"action": "drop", "index": 7}])),
            (
                "action ok action pipe index 4294967295",
                json!([{"action": "pass"}, {"action": "pipe", "index": u32::MAX}]),
            ),
            ("action gact index 3", json!([{"kind": "gact", "index": 3}])),
            (
                "action police rate 1mbit burst 100k conform-exceed drop/pipe index 3",
                json!([{"action": "police rate 1mbit burst 100k", "index": 3}]),
            ),
            (
                "action police pkts_rate 1000 pkts_burst 200 index 1 conform-exceed 0 / goto chain 42",
                json!([{"action": "police pkts_rate 1000 pkts_burst 200 exceed pass conform goto 42", "index": 1}]),
            ),
            ("action police index 199", json!([{"kind": "police", "index": 199}])),
            (
                "action vlan push id 10 protocol 802.1AD prio 3 index 8",
                json!([{"action": "vlan push 10 protocol 802.1ad priority 3", "index": 8}]),
            ),
            (
                "action vlan modify id 0x10 continue action vlan pop",
                json!([{"action": "vlan modify 16 then continue"}, {"action": "vlan pop"}]),
            ),
            ("action vlan index 1", json!([{"kind": "vlan", "index": 1}])),
            (
                "action skbedit mark 7/0xf pass index 3",
                json!([{"action": "skbedit mark 0x7/0xf then pass", "index": 3}]),
            ),
            (
                "action csum ip4h and tcp index 3 action csum udp pipe",
                json!([{"action": "csum ip tcp then pass", "index": 3}, {"action": "csum udp"}]),
            ),
            ("action nat ingress 10.0.0.0/24 192.0.2.0 pipe", json!([{"action": "nat ingress 10.0.0.0/24 192.0.2.0"}])),
            (
                "action sample rate 10 group 4294967295 trunc 64 continue index 3 action sample index 1",
                json!([
                    {"action": "sample rate 10 group 4294967295 trunc 64 then continue", "index": 3},
                    {"kind": "sample", "index": 1}]),
            ),
            (
                "action tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2 id 42 dst_port 4789 tos 10 ttl 0x40 nocsum nofrag index 9",
                json!([{"action": "tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2 id 42 dst_port 4789 tos 10 ttl 64 nocsum nofrag",
                    "index": 9}]),
            ),
            ("action tunnel_key unset pass", json!([{"action": "tunnel_key unset then pass"}])),
            ("action nat egress any 192.0.2.1", json!([{"action": "nat egress 0.0.0.0 192.0.2.1 then pass"}])),
            (
                "action pedit munge offset -14 u16 set 0x1234 munge ip ttl set 64 pipe index 4",
                json!([{"action": "pedit network-16 set 0x1234 keep 0xffff0000 and network+8 set 0x40000000 keep 0xffffff", "index": 4}]),
            ),
            (
                "action pedit ex munge ip ttl add 255 munge tcp dport set 80 munge eth dst set 02:00:00:00:00:09",
                json!([{"action": "pedit ip ttl add 255 and tcp dport set 80 and eth+0 set 0x2000000 keep 0x0 and eth+4 set 0x90000 keep 0xffff then pass"}]),
            ),
            (
                "action pedit munge offset 12 u16 at 0 0f 2 set 0xaaaa retain 0xff00 pipe",
                json!([{"action": "pedit network+12 set 0xaa000000 keep 0xffffff at 0 mask 0xf shift 2"}]),
            ),
            (
                "action pass random determ drop 2 index 90 cookie C1A0",
                json!([
                {"action": "pass random determ drop 2", "index": 90, "cookie": "c1a0"}]),
            ),
            ("action pass random netrand jump 1 0", json!([{"action": "pass random netrand jump 1 1"}])),
            ("goto chain 42 no_percpu skip_hw", json!([{"action": "goto 42", "no_percpu": true, "skip_hw": true}])),
            ("action pass hw_stats disabled no_percpu", json!([{"action": "pass", "no_percpu": true}])),
            ("action mirred egress mirror index 1 dev lo", json!([{"index": 1, "action": "mirror lo"}])),
            ("action mirred egress redirect dev lo index 2", json!([{"action": "redirect lo", "index": 2}])),
            (
                "action mirred egress redirect index 2 dev lo action pipe",
                json!([
                {"index": 2, "action": "redirect lo"}, {"action": "pipe"}]),
            ),
            (
                "action mirred ingress mirror dev lo reclassify cookie aa11",
                json!([
                {"action": "mirror lo ingress then reclassify", "cookie": "aa11"}]),
            ),
            (
                "action mirred ingress mirror dev lo jump 10 index 99",
                json!([
                {"action": "mirror lo ingress then jump 10", "index": 99}]),
            ),
            (
                "action mirred ingress redirect index 1 blockid 21",
                json!([{"index": 1, "action": "redirect block 21 ingress"}]),
            ),
            ("action mirred index 5", json!([{"index": 5, "kind": "mirred"}])),
            ("action drop classid 1:2", json!([{"action": "drop"}])),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_action_is_refused() {
        let cases = [
            ("action drop index 4294967296", "Illegal \"index\""),
            ("action pass random determ drop 10001", "Illegal probability val"),
            ("action mirred inbound mirror dev lo", "mirred option not supported inbound"),
            ("action mirred egress remirror dev lo", "mirred: a direction"),
            ("action mirred ingress redirect index 1", "mirred: a direction"),
            ("action mirred ingress redirect blockid 21 dev v0", "mirred: \"dev\" and \"blockid\""),
            ("action police rate 1mbit", "'burst' requires 'rate'."),
            ("action police rate 3tb burst 10k", "Error: argument \"3tb\" is wrong: rate"),
            ("action police rate 1mbit rate 1mbit burst 10k", "Double \"rate\" spec"),
            ("action police rate 1mbit burst 1k peakrate 2mbit", "'mtu' is required"),
            ("action police avrate 1mbit", "police: there is no rate estimator"),
            ("action police rate 1mbit burst 1k conform-exceed 10/drop", "Bad action type 10"),
            ("action vlan push", "id needs to be set for push"),
            ("action vlan pop id 3", "Error: argument \"id\" is wrong: only valid for push/modify"),
            ("action vlan pop pop", "unexpected \"pop\""),
            ("action vlan pop_eth", "vlan pop_eth: a port here sends nothing but Ethernet"),
            ("action skbedit priority 3", "skbedit priority: a packet here has nothing of the kind"),
            ("action csum pipe", "csum: at least one checksum"),
            ("action nat ingress 10.0.0.0/33 10.0.0.1", "Error: argument \"10.0.0.0/33\" is wrong"),
            ("action pedit munge tcp dport set 1", "Munge parameters not supported"),
            ("action pedit munge ip ttl add 1", "Non extended mode"),
            ("action pedit munge offset 15 u16 set 1", "offsets must be in one word"),
            ("action pedit ex munge ip ttl set 300", "bad pedit parsing"),
            ("action sample rate 1 index 3", "param \"group\" not set"),
            ("action sample rate 4294967296 group 1", "Illegal rate 4294967296"),
            ("action tunnel_key src_ip 192.0.2.1 dst_ip 192.0.2.2", "tunnel_key: set or unset must be given"),
            ("action tunnel_key set unset", "unexpected \"unset\""),
            ("action tunnel_key set dst_ip 192.0.2.2 id 7", "set needs tunnel_key parameters"),
            ("action tunnel_key set src_ip 192.0.2.1 dst_ip 2001:db8::1", "set needs tunnel_key parameters"),
            (
                "action tunnel_key set src_ip 192.0.2.300",
                "Error: any valid prefix is expected rather than \"192.0.2.300\".",
            ),
            ("action tunnel_key set geneve_opts 0102:80:00880022", "tunnel_key geneve_opts: nothing here"),
            ("action ct zone 1", "Unknown action \"ct\", hence option \"zone\" is unparsable"),
            ("action gact pump", "Bad action type pump"),
            ("action goto 7", "\"chain\" keyword expected after goto"),
        ];
        for (line, expected) in cases {
            let text = read(line).unwrap_err();
            assert!(text.starts_with(expected), "{line}: {text}");
        }
    }

    fn printed(action: &Value, style: Style) -> String {
        let mut printer = Printer::new(style);
        printer.list(None, |printer| print(1, action, true, printer));
        printer.take()
    }

    /// [CL-5], [CL-6]
    #[test]
    fn listings_are_those_of_tc() {
        let gact = json!({"action": "pass random determ drop 2", "index": 90, "cookie": "c1a0",
            "stats": {"ref": 2, "bind": 1, "packets": 3, "bytes": 252, "drops": 1, "used_ms": 2500}});
        assert_eq!(
            printed(&gact, Style::default()),
            "\n\taction order 1: gact action pass\n\t random type determ drop val 2\n\t index 90 ref 2 bind 1\n\tcookie c1a0\n\
             \tnot_in_hw\n\tused_hw_stats disabled\n"
        );
        assert_eq!(
            printed(&gact, Style { stats: true, ..Style::default() }),
            "\n\taction order 1: gact action pass\n\t random type determ drop val 2\n\t index 90 ref 2 bind 1 used 2 sec\n\
             \tAction statistics:\n\tSent 252 bytes 3 pkt (dropped 1, overlimits 0 requeues 0) \n\tbacklog 0b 0p requeues 0\n\
             \tcookie c1a0\n\tnot_in_hw\n\tused_hw_stats disabled\n"
        );
        let mirred = json!({"action": "redirect block 21", "index": 1, "stats": {"ref": 1, "bind": 0}});
        assert_eq!(
            printed(&mirred, Style::default()),
            "\n\taction order 1: mirred (Egress Redirect to block 21) stolen\n\tindex 1 ref 1 bind 0\n\tnot_in_hw\n\tused_hw_stats disabled\n"
        );
        assert_eq!(
            printed(&mirred, Style { json: true, ..Style::default() }),
            "[{\"order\":1,\"kind\":\"mirred\",\"mirred_action\":\"redirect\",\"direction\":\"egress\",\"to_blockid\":21,\
             \"control_action\":{\"type\":\"stolen\"},\"index\":1,\"ref\":1,\"bind\":0,\"not_in_hw\":true,\
             \"used_hw_stats\":[\"disabled\"]}]"
        );
        let police = json!({"action": "police rate 1mbit burst 100k exceed reclassify conform pass", "index": 26,
            "stats": {"ref": 1, "bind": 0, "packets": 2, "bytes": 100, "overlimits": 1, "used_ms": 1000}});
        assert_eq!(
            printed(&police, Style::default()),
            "\n\taction order 1:  police 0x1a rate 1Mbit burst 100Kb mtu 2Kb action reclassify overhead 0b \n\tref 1 bind 0\n\
             \tnot_in_hw\n\tused_hw_stats disabled\n"
        );
        assert_eq!(
            printed(&police, Style { json: true, ..Style::default() }),
            "[{\"order\":1,\"kind\":\"police\",\"index\":26,\"control_action\":{\"type\":\"reclassify\"},\"overhead\":0,\"ref\":1,\"bind\":0,\
             \"not_in_hw\":true,\"used_hw_stats\":[\"disabled\"]}]"
        );
        for (words, text) in [
            ("vlan pop", "vlan  pop pipe\n\t index 1"),
            ("vlan push 10", "vlan  push id 10 protocol 802.1Q priority 0 pipe\n\t index 1"),
            ("vlan modify 10 protocol 802.1ad then drop", "vlan  modify id 10 protocol 802.1ad drop\n\t index 1"),
            ("skbedit mark 7/0xff", "skbedit  mark 7/0xff pipe\n\t index 1"),
            ("csum ip tcp then pass", "csum (iph, tcp) action pass\n\tindex 1"),
            ("sample rate 10 group 7", "sample rate 1/10 group 7 pipe\n\t index 1"),
            ("sample rate 1 group 0 trunc 64 then drop", "sample rate 1/1 group 0 trunc_size 64 drop\n\t index 1"),
            ("tunnel_key unset", "tunnel_key  unset pipe\n\t index 1"),
            (
                "tunnel_key set src_ip 2001:db8::1 dst_ip 2001:db8::2 id 7 dst_port 6081 tos 16 ttl 64 nocsum nofrag then pass",
                "tunnel_key  set\n\tsrc_ip 2001:db8::1\n\tdst_ip 2001:db8::2\n\tkey_id 7\n\tdst_port 6081\n\tnocsum\n\ttos 0x10\n\tttl 64\n\
                 \tnofrag pass\n\t index 1",
            ),
            ("nat egress 10.0.0.0/8 192.0.2.1 then pass", " nat egress 10.0.0.0/8 192.0.2.1 pass\n\t index 1"),
        ] {
            let listed = json!({"action": words, "index": 1, "stats": {"ref": 1, "bind": 0}});
            let rest = " ref 1 bind 0\n\tnot_in_hw\n\tused_hw_stats disabled\n";
            assert_eq!(printed(&listed, Style::default()), format!("\n\taction order 1: {text}{rest}"));
        }
        let pedit = json!({"action": "pedit ip ttl set 64 and network-4 add 0x1 keep 0xffff0000 then pass", "index": 1,
            "stats": {"ref": 1, "bind": 0}});
        assert_eq!(
            printed(&pedit, Style::default()),
            "\n\taction order 1:  pedit action pass keys 2\n \t index 1 ref 1 bind 0\n\t key #0  at ipv4+8: val 40000000 mask 00ffffff\n\
             \t key #1  at -4: add 00000001 mask ffff0000\n\tnot_in_hw\n\tused_hw_stats disabled\n"
        );
        assert_eq!(
            printed(&pedit, Style { json: true, ..Style::default() }),
            "[{\"order\":1,\"kind\":\"pedit\",\"control_action\":{\"type\":\"pass\"},\"nkeys\":2,\"index\":1,\"ref\":1,\"bind\":0,\"keys\":[\
             {\"htype\":\"ipv4\",\"offset\":8,\"cmd\":\"set\",\"val\":\"40000000\",\"mask\":\"ffffff\"},\
             {\"htype\":\"network\",\"offset\":-4,\"cmd\":\"add\",\"val\":\"1\",\"mask\":\"ffff0000\"}],\
             \"not_in_hw\":true,\"used_hw_stats\":[\"disabled\"]}]"
        );
        let goto = json!({"action": "goto 7", "index": 1, "no_percpu": true, "stats": {"ref": 1, "bind": 1}});
        assert_eq!(
            printed(&goto, Style::default()),
            "\n\taction order 1: gact action goto chain 7\n\t random type none pass val 0\n\t index 1 ref 1 bind 1\n\
             \tno_percpu\tnot_in_hw\n\tused_hw_stats disabled\n"
        );
    }

    /// [CL-6]: what tc lists can be taken over, and means the same.
    #[test]
    fn what_is_printed_as_json_is_imported() {
        for words in [
            "vlan pop",
            "vlan push 10 protocol 802.1ad priority 3",
            "vlan modify 10 then drop",
            "skbedit mark 0x7/0xff",
            "csum ip tcp then pass",
            "nat ingress 10.0.0.0/8 192.0.2.1 then pass",
            "sample rate 10 group 7",
            "sample rate 10 group 7 trunc 0 then continue",
            "tunnel_key unset",
            "tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2",
            "tunnel_key set src_ip 2001:db8::1 dst_ip 2001:db8::2 id 0 dst_port 6081 tos 16 ttl 64 nocsum nofrag then pass",
            "pedit ip ttl set 64 and network-4 add 0x1 keep 0xffff0000 and eth+0 set 0x1 keep 0x0 then pass",
        ] {
            let listed = json!({"action": words, "index": 1, "stats": {"ref": 1, "bind": 0}});
            let json: Value =
                serde_json::from_str(&printed(&listed, Style { json: true, ..Style::default() })).unwrap();
            let kind = json[0]["kind"].as_str().or(json[0]["type"].as_str()).unwrap();
            let taken = import(kind, &json[0]).unwrap();
            let (_, then) = words.split_once(" then ").unwrap_or((words, "pipe"));
            assert_eq!(actions::parse(&format!("{taken} then {then}")), actions::parse(words), "{taken}");
        }
        assert!(import("police", &json!({})).is_err() && import("ct", &json!({})).is_err());
        assert!(
            import("skbedit", &json!({"priority": 3})).is_err()
                && import("vlan", &json!({"vlan_action": "pop_eth"})).is_err()
                && import("tunnel_key", &json!({"mode": "set", "geneve_opts": []})).is_err()
        );
    }
}

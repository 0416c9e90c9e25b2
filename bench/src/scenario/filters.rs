//! The filters of a scenario, and flows of which it is known what must become of them.

use std::fmt::{Display, Write};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail, ensure};
use fastrand::Rng;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::request::{KindSpec, Mode, new_filter};
use tidegate_classifiers::verdict::Control;
use tidegate_config::ConfigErrors;

use super::{Rules, Scenario};
use crate::classbench;
use crate::forward::{UdpFlow, add_flow_filter, stranger};
use crate::rule_set::{Order, RuleSet, UDP};
use crate::storm::flower;
use crate::tester::flows::{DROP_PORT, Flows, Mix};
use crate::tester::tag::Fate;
use crate::usage::Usage;

/// The block of both ports.
pub(crate) const BLOCK: &str = "edge";

/// Filters of a scenario.
#[derive(Debug)]
pub(crate) struct Filters {
    /// Those that the gateway's file has.
    text: String,
    /// Those that are requested when it runs: text has no place for some of what ClassBench has.
    set: Option<(RuleSet, Vec<Control>)>,
    /// What is sent past them.
    pub(crate) flows: Flows,
    /// What made them.
    rules: Rules,
    mix: Mix,
    seed: u64,
}

impl Filters {
    /// Filters and flows of `scenario`; sets of ClassBench lie in `data`.
    ///
    /// # Errors
    /// [`Usage`] if a file is missing; or if a set has no packets of UDP.
    pub(crate) fn new(scenario: &Scenario, data: &Path, seed: u64) -> Result<Filters> {
        let Scenario { rules, mix, .. } = scenario;
        let of = |text, set, flows| Filters { text, set, flows, rules: rules.clone(), mix: mix.clone(), seed };
        let flows = || Flows::new(mix, seed);
        Ok(match rules {
            Rules::None => of(String::new(), None, flows()),
            Rules::Generated(count) => of(generated(*count, mix.vlan, seed)?, None, flows()),

            Rules::File(path) => {
                let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                of(text, None, flows())
            }
            Rules::ClassBench(name) => {
                let set = classbench::load(data, name)
                    .map_err(|error| unreadable(&data.join(name), &format!("{error:#}")))?;
                let mut rng = Rng::with_seed(seed);
                let controls: Vec<Control> =
                    set.rules.iter().map(|_| if rng.f64() < mix.drop { Control::Shot } else { Control::Ok }).collect();
                let flows = labelled(&set, &controls, scenario, &mut rng);
                ensure!(flows.len() > 0, "{name} has no packet of UDP");
                of(String::new(), Some((set, controls)), flows)
            }
        })
    }

    /// The gateway's file: filters first, so that a line of them keeps its number.
    pub(crate) fn with(&self, settings: &str) -> String {
        format!("{}\n{settings}", self.text)
    }

    /// What is wrong with the gateway's file `file`: if the filters are those of a file, that is told of it.
    pub(crate) fn blame(&self, error: Error, file: &Path) -> Error {
        match (&self.rules, error.downcast_ref::<ConfigErrors>()) {
            (Rules::File(path), Some(errors)) => {
                let place = |path: &Path| format!("{}:", path.display());
                Usage(errors.to_string().replace(&place(file), &place(path))).into()
            }
            _ => error,
        }
    }

    /// Filters that the kernel can have as well.
    ///
    /// # Errors
    /// If it cannot.
    fn in_kernel(&self) -> Result<u32> {
        match self.rules {
            _ if self.mix.vlan.is_some() || self.mix.ipv6 > 0.0 => bail!("only IPv4 without a tag is compared here"),
            Rules::None => Ok(0),
            Rules::Generated(count) if count <= KERNEL_RULES_MAX => Ok(count),
            Rules::Generated(_) => bail!("more than {KERNEL_RULES_MAX} rules, asked one after the other, are too slow"),
            _ => bail!("only `generated` rules are compared here"),
        }
    }

    /// The same as a script of nft.
    ///
    /// # Errors
    /// If the kernel cannot have them.
    pub(crate) fn nft(&self) -> Result<String> {
        let count = self.in_kernel()?;
        let mut text =
            "table netdev bench {\nchain ingress {\ntype filter hook ingress device \"in\" priority 0;\n".to_owned();
        for (number, ((src, sport), (dst, dport))) in strangers(count, self.seed) {
            let verdict = if number % 2 == 0 { "accept" } else { "drop" };
            writeln!(text, "ip saddr {src} ip daddr {dst} udp sport {sport} udp dport {dport} {verdict}")?;
        }
        if count > 0 {
            writeln!(text, "udp dport {DROP_PORT} drop")?;
        }
        text += "fwd to \"out\"\n}\n}\n";
        Ok(text)
    }

    /// The same as a batch of tc.
    ///
    /// # Errors
    /// If the kernel cannot have them.
    pub(crate) fn tc(&self) -> Result<String> {
        let count = self.in_kernel()?;
        let mut text = "qdisc add dev in clsact\n".to_owned();
        let mut add = |priority: u32, matches: &str, action: &str| {
            writeln!(text, "filter add dev in ingress protocol ip prio {priority} u32 {matches} action {action}")
        };
        let redirect = "mirred egress redirect dev out";
        for (number, ((src, sport), (dst, dport))) in strangers(count, self.seed) {
            let ends = format!("match ip src {src}/32 match ip dst {dst}/32");
            let ports = format!("match ip sport {sport} 0xffff match ip dport {dport} 0xffff");
            add(1 + number / TC_TABLE, &format!("{ends} {ports}"), redirect)?;
        }
        // Not every kernel has gact: no packet, no need.
        if self.mix.drop > 0.0 {
            add(2 + count / TC_TABLE, &format!("match ip dport {DROP_PORT} 0xffff"), "drop")?;
        }
        add(3 + count / TC_TABLE, "match u32 0 0", redirect)?;
        Ok(text)
    }

    /// Requests the filters that are in no file.
    ///
    /// # Errors
    /// If one is refused.
    pub(crate) fn request(&self, block: &Arc<Block>) -> Result<()> {
        let Some((set, controls)) = &self.set else { return Ok(()) };
        for ((rule, control), priority) in set.rules.iter().zip(controls).zip(1..) {
            let mut spec = flower(0, priority, set.version.ethertype(), *control);
            spec.kind = KindSpec::Flower(Box::new(rule.flower()));
            new_filter(block, &spec, Mode::Add).with_context(|| format!("{rule:?}"))?;
        }
        Ok(())
    }
}

/// Says that what a scenario names is not there.
fn unreadable(path: &Path, why: &dyn Display) -> Usage {
    Usage(format!("{}: cannot be read: {why}", path.display()))
}

/// Rules that the kernel asks one after the other, at most: more take longer than anybody waits.
const KERNEL_RULES_MAX: u32 = 10_000;

/// Filters of tc in a priority: it can have 2,047 priorities of u32, of some thousand filters each, and asks them in order.
const TC_TABLE: u32 = 1000;

/// `count` filters, each with a priority of its own. The last one drops what goes to [`DROP_PORT`]; the others are about flows that
/// never come.
fn generated(count: u32, vlan: Option<u16>, seed: u64) -> Result<String> {
    let vlan = vlan.map(|id| format!("vlan_id = {id}, ")).unwrap_or_default();
    let mut text = String::new();
    for (number, flow) in strangers(count, seed) {
        let action = if number % 2 == 0 { "pass" } else { "drop" };
        add_flow_filter(&mut text, BLOCK, number, &vlan, flow, action)?;
    }
    write!(
        text,
        "\n[[filter]]\non = \"{BLOCK}\"\nname = \"filter-{count}\"\naction = \"drop\"\n\
         match = {{ {vlan}ip_proto = \"udp\", dst_port = {DROP_PORT} }}\n"
    )?;
    Ok(text)
}

/// Flows that never come, each with the number of its filter: all filters but the last.
fn strangers(count: u32, seed: u64) -> impl Iterator<Item = (u32, UdpFlow)> {
    let mut rng = Rng::with_seed(seed);
    (1..count).map(move |number| (number, stranger(&mut rng)))
}

/// Flows with the headers of a set that are UDP, as many as the scenario wants or there are, and the fate that the best rule has
/// for them.
fn labelled(set: &RuleSet, controls: &[Control], scenario: &Scenario, rng: &mut Rng) -> Flows {
    let ranks = Order::File.ranks(set.rules.len());
    let udp = set.headers.iter().filter(|header| header.proto == UDP).take(scenario.mix.flows as usize);
    let flows = udp.map(|header| {
        let dropped = set.search(&ranks, header).is_some_and(|rule| controls[rule as usize] == Control::Shot);
        (set.version, *header, if dropped { Fate::Drop } else { Fate::Pass })
    });
    Flows::of(flows, &scenario.mix, rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_set::{ANY_PORT, Header, Prefix, Rule, Version};

    #[test]
    fn generated_filters_are_accepted_and_each_has_a_priority_of_its_own() {
        for (vlan, drops) in [(None, 2), (Some(100), 2)] {
            let folder = tempfile::tempdir().unwrap();
            let text = format!(
                "[port.in]\nforward_to = \"host\"\nblock = \"{BLOCK}\"\n[block.{BLOCK}]\n{}",
                generated(100, vlan, 1).unwrap()
            );
            let config = crate::gateway::config(folder.path(), &text).unwrap();
            let filters = &config.blocks[0].filters;
            assert_eq!(filters.len(), 99 + drops, "the last one is for both versions of IP");
            assert!(filters.is_sorted_by(|a, b| a.priority < b.priority));
        }
    }

    #[test]
    fn the_kernel_gets_the_same_rules_or_a_reason_why_not() {
        let filters = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.toml");
            fs::write(&path, text).unwrap();
            Filters::new(&Scenario::load(path.to_str().unwrap()).unwrap(), Path::new("/"), 1).unwrap()
        };
        let three = filters("[rules]\ngenerated = 3\n[traffic]\ndrop = 10\n");
        let nft = three.nft().unwrap();
        assert_eq!((nft.matches(" udp sport ").count(), nft.matches("udp dport 9 drop").count()), (2, 1), "{nft}");
        let tc = three.tc().unwrap();
        assert_eq!((tc.matches("redirect dev out").count(), tc.matches("0xffff action drop").count()), (3, 1), "{tc}");
        let one = filters("[rules]\ngenerated = 1\n").tc().unwrap();
        assert_eq!(one.lines().count(), 2, "{one}");
        for (text, reason) in [
            ("[traffic]\nvlan = 3\n", "only IPv4 without a tag"),
            ("[rules]\ngenerated = 10001\n", "more than 10000 rules"),
        ] {
            let error = filters(text).nft().unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn a_flow_of_a_set_has_the_fate_of_its_best_rule() {
        let rule = |dst: u128, len| Rule {
            src: Prefix::new(Version::V4, 0, 0),
            dst: Prefix::new(Version::V4, dst, len),
            src_ports: ANY_PORT,
            dst_ports: ANY_PORT,
            proto: None,
        };
        let header = |dst, proto| Header { src: 1, dst, src_port: 2, dst_port: 3, proto };
        let set = RuleSet {
            version: Version::V4,
            rules: vec![rule(0x0a00_0001, 32), rule(0x0a00_0000, 8)],
            headers: vec![header(0x0a00_0001, UDP), header(0x0a00_0002, UDP), header(0x0b00_0000, UDP), header(0, 6)],
            labels: None,
        };
        let scenario = Scenario::load("forward").unwrap();
        let flows = labelled(&set, &[Control::Ok, Control::Shot], &scenario, &mut Rng::with_seed(1));
        let fates: Vec<Fate> = (0..3).map(|flow| flows.get(flow).unwrap().fate()).collect();
        assert_eq!((fates, flows.len()), (vec![Fate::Pass, Fate::Drop, Fate::Pass], 3));
    }
}

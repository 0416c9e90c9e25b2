//! The filters of a scenario, and flows of which it is known what must become of them.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::request::{KindSpec, Mode, new_filter};
use tidegate_classifiers::verdict::Control;

use super::{Rules, Scenario};
use crate::classbench;
use crate::forward::{add_flow_filter, stranger};
use crate::rule_set::{Order, RuleSet, UDP};
use crate::storm::flower;
use crate::tester::flows::{DROP_PORT, Flows};
use crate::tester::tag::Fate;

/// The block of both ports.
pub(crate) const BLOCK: &str = "edge";

/// Filters of a scenario.
#[derive(Debug)]
pub(crate) struct Filters {
    /// Those that the gateway's file has.
    pub(crate) text: String,
    /// Those that are requested when it runs: text has no place for some of what ClassBench has.
    set: Option<(RuleSet, Vec<Control>)>,
    /// What is sent past them.
    pub(crate) flows: Flows,
}

impl Filters {
    /// Filters and flows of `scenario`; sets of ClassBench lie in `data`.
    ///
    /// # Errors
    /// If a file is missing, or has no packets of UDP.
    pub(crate) fn new(scenario: &Scenario, data: &Path, seed: u64) -> Result<Filters> {
        let flows = || Flows::new(&scenario.mix, seed);
        Ok(match &scenario.rules {
            Rules::None => Filters { text: String::new(), set: None, flows: flows() },
            Rules::Generated(count) => {
                Filters { text: generated(*count, scenario.mix.vlan, seed)?, set: None, flows: flows() }
            }
            Rules::File(path) => {
                let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                Filters { text, set: None, flows: flows() }
            }
            Rules::ClassBench(name) => {
                let set = classbench::load(data, name)?;
                let mut rng = Rng::with_seed(seed);
                let controls: Vec<Control> = set
                    .rules
                    .iter()
                    .map(|_| if rng.f64() < scenario.mix.drop { Control::Shot } else { Control::Ok })
                    .collect();
                let flows = labelled(&set, &controls, scenario, &mut rng);
                ensure!(flows.len() > 0, "{name} has no packet of UDP");
                Filters { text: String::new(), set: Some((set, controls)), flows }
            }
        })
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

/// `count` filters, each with a priority of its own. The last one drops what goes to [`DROP_PORT`]; the others are about flows that
/// never come.
fn generated(count: u32, vlan: Option<u16>, seed: u64) -> Result<String> {
    let vlan = vlan.map(|id| format!("vlan_id = {id}, ")).unwrap_or_default();
    let mut rng = Rng::with_seed(seed);
    let mut text = String::new();
    for number in 1..count {
        let action = if number % 2 == 0 { "pass" } else { "drop" };
        add_flow_filter(&mut text, BLOCK, number, &vlan, stranger(&mut rng), action)?;
    }
    write!(
        text,
        "\n[[filter]]\non = \"{BLOCK}\"\nname = \"filter-{count}\"\naction = \"drop\"\n\
         match = {{ {vlan}ip_proto = \"udp\", dst_port = {DROP_PORT} }}\n"
    )?;
    Ok(text)
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

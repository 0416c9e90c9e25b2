//! The text of a scenario to a checked one: every mistake with its place.

use std::ops::RangeInclusive;
use std::path::Path;

use tidegate_config::place::Place;
use tidegate_config::table::{Node, Table};
use tidegate_config::{ConfigErrors, Problems, Wrong, choice, read_text};

use super::{Disturbance, Rate, Rules, Scenario};
use crate::tester::flows::{Mix, smallest};

/// Longest frame that is sent: an MTU of 1500.
const SIZE_MAX: u16 = 1514;
const FLOWS: RangeInclusive<u32> = 1..=1_000_000;
const RATES: RangeInclusive<u32> = 1..=20_000_000;
const SECONDS: RangeInclusive<u32> = 1..=3600;
const ROUNDS: RangeInclusive<u32> = 1..=1000;
const FILTERS: RangeInclusive<u32> = 1..=1_000_000;
const CLIENTS: RangeInclusive<u32> = 1..=256;

/// Which disturbance, and what it is if nothing more is said.
const DISTURBANCES: [(&str, Disturbance); 3] = [
    ("reload-storm", Disturbance::ReloadStorm { filters: 10_000 }),
    ("update-storm", Disturbance::UpdateStorm { filters: 10_000 }),
    ("socket-flood", Disturbance::SocketFlood { clients: 8 }),
];

/// Reads `text`, which messages call `source`.
///
/// # Errors
/// All mistakes in it.
pub(super) fn read(name: &str, source: &str, text: &str) -> Result<Scenario, ConfigErrors> {
    let mut problems = Problems::default();
    let mut root = read_text(source, text.to_owned(), &mut problems);
    let about = root.read("about", &mut problems, |node| Ok(node.text()?.to_owned())).unwrap_or_default();
    let rules = root.table("rules", "[rules]", &mut problems);
    let rules = self::rules(rules, &mut problems);
    let traffic = root.table("traffic", "[traffic]", &mut problems);
    let mix = mix(traffic, &rules, &mut problems);
    let mut load = root.table("load", "[load]", &mut problems);
    let rate = load.read("rate", &mut problems, self::rate).unwrap_or(Rate::Search);
    let seconds = load.read("seconds", &mut problems, |node| node.number(SECONDS)).unwrap_or(2);
    let rounds = load.read("rounds", &mut problems, |node| node.number(ROUNDS)).unwrap_or(5);
    load.finish(&mut problems);
    let disturbance = match root.take("disturbance") {
        Some(node) => disturbance(node, &mut problems),
        None => None,
    };
    root.finish(&mut problems);
    let (name, text) = (name.to_owned(), text.to_owned());
    problems.finish(Scenario { name, text, about, rules, mix, rate, seconds, rounds, disturbance })
}

fn rules(mut table: Table, problems: &mut Problems) -> Rules {
    let generated = table.read("generated", problems, |node| Ok((node.number(FILTERS)?, node.place)));
    let classbench = table.read("classbench", problems, |node| Ok((node.text()?.to_owned(), node.place)));
    let file = table.read("file", problems, |node| Ok((Path::new(node.text()?).to_owned(), node.place)));
    table.finish(problems);
    let places = [generated.as_ref().map(|it| it.1), classbench.as_ref().map(|it| it.1), file.as_ref().map(|it| it.1)];
    let mut given: Vec<Place> = places.into_iter().flatten().collect();
    given.sort_unstable();
    for &more in given.iter().skip(1) {
        problems
            .push(more, Wrong::new("a second set of rules").hint("`generated`, `classbench` or `file`: one of them"));
    }
    match (generated, classbench, file) {
        (Some((filters, _)), ..) => Rules::Generated(filters),
        (_, Some((set, _)), _) => Rules::ClassBench(set),
        (.., Some((path, _))) => Rules::File(path),
        _ => Rules::None,
    }
}

fn mix(mut table: Table, rules: &Rules, problems: &mut Problems) -> Mix {
    let flows = table.read("flows", problems, |node| node.number(FLOWS)).unwrap_or(1000);
    let vlan = table.read("vlan", problems, |node| Ok((node.number(1..=4094u16)?, node.place)));
    let ipv6 = table.read("ipv6", problems, |node| Ok((percent(node)?, node.place)));
    let drop = table.read("drop", problems, |node| Ok((percent(node)?, node.place)));
    let least = smallest(ipv6.is_some_and(|(share, _)| share > 0.0), vlan.is_some());
    let sizes = table.read_list("sizes", problems, |node| {
        node.number(least..=SIZE_MAX).map_err(|wrong| match node.number(64..=SIZE_MAX) {
            Ok(size) => Wrong::new(format!("{size} is too small for headers and tag"))
                .hint(format!("{least} is the least with this IP version and VLAN tag")),
            Err(_) => wrong,
        })
    });
    table.finish(problems);
    match (rules, drop) {
        (Rules::None, Some((share, place))) if share > 0.0 => {
            problems.push(
                place,
                Wrong::new("drop: there is no filter that could").hint("give [rules], such as `generated = 1`"),
            );
        }
        _ => {}
    }
    if let Rules::ClassBench(_) = rules {
        let places = [vlan.map(|it| it.1), ipv6.map(|it| it.1)];
        for place in places.into_iter().flatten() {
            let wrong = Wrong::new("ClassBench's packets are IPv4 without a tag");
            problems.push(place, wrong.hint("leave it out, or take `generated` rules"));
        }
    }
    let sizes: Vec<u16> = sizes.unwrap_or_default().into_iter().map(|(size, _)| size).collect();
    Mix {
        flows,
        sizes: if sizes.is_empty() { vec![least.max(64)] } else { sizes },
        vlan: vlan.map(|(id, _)| id),
        ipv6: ipv6.map_or(0.0, |(share, _)| share),
        drop: drop.map_or(0.0, |(share, _)| share),
    }
}

fn rate(node: &Node) -> Result<Rate, Wrong> {
    match node.text() {
        Ok("search") => Ok(Rate::Search),
        Ok(word) => {
            Err(Wrong::new(format!("`{}` is no rate", word.escape_debug())).hint("packets a second, or \"search\""))
        }
        Err(_) => Ok(Rate::Fixed(node.number(RATES)?)),
    }
}

fn disturbance(node: Node, problems: &mut Problems) -> Option<Disturbance> {
    let mut table = Table::from_node("[disturbance]", node, problems);
    if !table.has_any(&["kind"]) {
        table.missing("kind", "one of reload-storm, update-storm, socket-flood");
    }
    let kind = table.read("kind", problems, |node| choice(node.text()?, &DISTURBANCES));
    let mut number = |key, range| table.read(key, problems, |node| node.number(range));
    let disturbance = match kind {
        Some(Disturbance::ReloadStorm { filters }) => {
            Some(Disturbance::ReloadStorm { filters: number("filters", FILTERS).unwrap_or(filters) })
        }
        Some(Disturbance::UpdateStorm { filters }) => {
            Some(Disturbance::UpdateStorm { filters: number("filters", FILTERS).unwrap_or(filters) })
        }
        Some(Disturbance::SocketFlood { clients }) => {
            Some(Disturbance::SocketFlood { clients: number("clients", CLIENTS).unwrap_or(clients) })
        }
        None => {
            drop(["filters", "clients"].map(|key| table.take(key))); // whose they are is not known
            None
        }
    };
    table.finish(problems);
    disturbance
}

/// A share, from a whole number of percent.
fn percent(node: &Node) -> Result<f64, Wrong> {
    Ok(f64::from(node.number(0..=100u8)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        read("x", "x.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_plainest_scenario() {
        let scenario = read("x", "x.toml", "").unwrap();
        assert_eq!((scenario.rules, scenario.rate, scenario.disturbance), (Rules::None, Rate::Search, None));
        assert_eq!(scenario.mix, Mix { flows: 1000, sizes: vec![64], vlan: None, ipv6: 0.0, drop: 0.0 });
        assert_eq!(read("x", "x.toml", "[traffic]\nipv6 = 1\nvlan = 5").unwrap().mix.sizes, [88]);
    }

    #[test]
    fn every_key_is_taken() {
        let text = "about = \"all\"\n[rules]\ngenerated = 7\n[traffic]\nflows = 2\nsizes = [90, 1514]\nvlan = 9\nipv6 = 50\n\
                    drop = 25\n[load]\nrate = 1000\nseconds = 3\nrounds = 4\n[disturbance]\nkind = \"socket-flood\"\nclients = 3\n";
        let scenario = read("x", "x.toml", text).unwrap();
        assert_eq!(scenario.mix, Mix { flows: 2, sizes: vec![90, 1514], vlan: Some(9), ipv6: 0.5, drop: 0.25 });
        assert_eq!((scenario.rules, scenario.rate), (Rules::Generated(7), Rate::Fixed(1000)));
        assert_eq!((scenario.seconds, scenario.rounds), (3, 4));
        assert_eq!(scenario.disturbance, Some(Disturbance::SocketFlood { clients: 3 }));
    }

    #[test]
    fn every_mistake_has_its_place_and_a_hint() {
        let text = "[traffic]\nflow = 1\nsizes = [64, 60, 2000]\nipv6 = 1\n[load]\nrate = \"most\"\nseconds = 0\n[rules]\n\
                    generated = 1\nclassbench = \"acl1_1k\"\n[disturbance]\nkind = \"reload\"\n[more]\n";
        assert_eq!(
            mistakes(text),
            "x.toml:2:1: unknown field `flow` in [traffic]; did you mean `flows`?\n\
             x.toml:3:10: sizes: 64 is too small for headers and tag; 84 is the least with this IP version and VLAN tag\n\
             x.toml:3:14: sizes: 60 is out of range; it goes from 84 to 1514\n\
             x.toml:3:18: sizes: 2000 is out of range; it goes from 84 to 1514\n\
             x.toml:6:8: rate: `most` is no rate; packets a second, or \"search\"\n\
             x.toml:7:11: seconds: 0 is out of range; it goes from 1 to 3600\n\
             x.toml:10:14: a second set of rules; `generated`, `classbench` or `file`: one of them\n\
             x.toml:12:8: kind: `reload` is not known; one of reload-storm, update-storm, socket-flood\n\
             x.toml:13:2: unknown field `more` in the file; known fields: about, rules, traffic, load, disturbance"
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert_eq!(
            mistakes("[traffic]\ndrop = 10\n"),
            "x.toml:2:8: drop: there is no filter that could; give [rules], such as `generated = 1`"
        );
        assert_eq!(
            mistakes("[rules]\nclassbench = \"a\"\n[traffic]\nvlan = 3\n"),
            "x.toml:4:8: ClassBench's packets are IPv4 without a tag; leave it out, or take `generated` rules"
        );
        assert_eq!(
            mistakes("[disturbance]\nfilters = 3\n").lines().last().unwrap(),
            "x.toml:1:1: [disturbance] lacks `kind`; one of reload-storm, update-storm, socket-flood"
        );
        assert_eq!(
            mistakes("[disturbance]\nkind = \"update-storm\"\nclients = 3\n"),
            "x.toml:3:1: unknown field `clients` in [disturbance]; known fields: kind, filters"
        );
    }
}

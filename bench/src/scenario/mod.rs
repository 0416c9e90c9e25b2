//! Scenarios: which filters there are, what is sent past them, and what goes on meanwhile. Files of TOML, some compiled in.

pub(crate) mod filters; // the filters of a scenario, and what must become of packets
mod read; // a file to a checked scenario

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_config::ConfigErrors;

use crate::tester::flows::Mix;
use crate::usage::Usage;

/// Name and text of each scenario that is compiled in.
pub(crate) const SHIPPED: [(&str, &str); 11] = [
    ("drop", include_str!("../../scenarios/drop.toml")),
    ("forward", include_str!("../../scenarios/forward.toml")),
    ("forward-10k", include_str!("../../scenarios/forward-10k.toml")),
    ("forward-100k", include_str!("../../scenarios/forward-100k.toml")),
    ("vlan", include_str!("../../scenarios/vlan.toml")),
    ("ipv6", include_str!("../../scenarios/ipv6.toml")),
    ("many-flows", include_str!("../../scenarios/many-flows.toml")),
    ("attack", include_str!("../../scenarios/attack.toml")),
    ("reload-storm", include_str!("../../scenarios/reload-storm.toml")),
    ("update-storm", include_str!("../../scenarios/update-storm.toml")),
    ("socket-flood", include_str!("../../scenarios/socket-flood.toml")),
];

/// A checked scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    /// What it is called: its file's name without the ending.
    pub(crate) name: String,
    /// Its text, as it was read.
    pub(crate) text: String,
    /// What it is for, in a line.
    pub(crate) about: String,
    /// Which filters there are.
    pub(crate) rules: Rules,
    /// What is sent.
    pub(crate) mix: Mix,
    /// How much of it.
    pub(crate) rate: Rate,
    /// How long each trial is, in seconds.
    pub(crate) seconds: u32,
    /// How often everything takes its turn.
    pub(crate) rounds: u32,
    /// What goes on meanwhile.
    pub(crate) disturbance: Option<Disturbance>,
}

/// `[rules]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// No filter.
    None,
    /// So many filters made up here, each with a priority of its own. Only the last one is about the traffic.
    Generated(u32),
    /// A set of ClassBench, by its name.
    ClassBench(String),
    /// `[[filter]]`s of a file of ours, on the block `edge`.
    File(PathBuf),
}

/// `rate = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// Packets a second.
    Fixed(u32),
    /// As much as goes without loss, which has to be found.
    Search,
}

/// `[disturbance]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Reloads one after the other, of a file in which a hundredth of these filters changes.
    ReloadStorm { filters: u32 },
    /// Filters that come and go as fast as they can, where so many are present in a proto that every packet meets.
    UpdateStorm { filters: u32 },
    /// Clients of the control socket who talk without end, send rubbish, or say nothing.
    SocketFlood { clients: u32 },
}

impl Disturbance {
    /// As files call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Disturbance::ReloadStorm { .. } => "reload-storm",
            Disturbance::UpdateStorm { .. } => "update-storm",
            Disturbance::SocketFlood { .. } => "socket-flood",
        }
    }
}

impl Scenario {
    /// The scenario of this name, or in this file.
    ///
    /// # Errors
    /// [`Usage`], with all mistakes, each with its place.
    pub(crate) fn load(what: &str) -> Result<Scenario, Usage> {
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == what) {
            return Ok(read::read(name, &format!("{name}.toml"), text)?);
        }
        let path = Path::new(what);
        if path.extension().is_none() {
            let names = SHIPPED.map(|(name, _)| name).join(", ");
            return Err(Usage(format!(
                "no scenario is called `{what}`; there are {names}, and files that end in .toml"
            )));
        }
        let text = fs::read_to_string(path).map_err(|error| Usage(format!("{what}: cannot be read: {error}")))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut scenario = read::read(&name, what, &text)?;
        // A file that it names lies beside it.
        if let Rules::File(file) = &mut scenario.rules {
            *file = path.with_file_name(&file);
        }
        Ok(scenario)
    }
}

impl From<ConfigErrors> for Usage {
    fn from(errors: ConfigErrors) -> Usage {
        Usage(errors.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_right_and_says_what_it_is_for() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::load(name).unwrap();
            assert_eq!((&*scenario.name, &*scenario.text), (name, text));
            assert!(!scenario.about.is_empty(), "{name}");
        }
        assert_eq!(Scenario::load("attack").unwrap().mix.drop, 0.99);
        assert_eq!(Scenario::load("forward-100k").unwrap().rules, Rules::Generated(100_000));
        assert_eq!(Scenario::load("reload-storm").unwrap().disturbance.unwrap().name(), "reload-storm");
    }

    #[test]
    fn a_file_has_its_own_name_and_finds_what_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, "[rules]\nfile = \"filters.toml\"\n").unwrap();
        let scenario = Scenario::load(path.to_str().unwrap()).unwrap();
        assert_eq!(scenario.name, "mine");
        assert_eq!(scenario.rules, Rules::File(folder.path().join("filters.toml")));
    }

    #[test]
    fn a_name_that_nothing_bears_is_answered_with_those_there_are() {
        let error = Scenario::load("forwards").unwrap_err().to_string();
        assert!(error.starts_with("no scenario is called `forwards`; there are drop, forward, "), "{error}");
        let error = Scenario::load("/nowhere/x.toml").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x.toml: cannot be read: "), "{error}");
    }
}

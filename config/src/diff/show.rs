//! Changes as text and as JSON, in the words of the file.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::{Changes, Replaced};
use crate::names::Names;
use crate::show;

impl Changes {
    /// One line for each change, `+`, `-` or `~`; nothing if there is none. `block` is the name of the block.
    pub fn text(&self, block: &str, ports: &Names) -> String {
        let mut text = String::new();
        let mut line = |sign: char, what: &str| _ = writeln!(text, "{sign} {block}: {what}");
        self.chains_added.iter().for_each(|chain| line('+', &format!("chain {chain}")));
        for filter in &self.removed {
            line('-', &show::filter_spec(filter, ports).to_string());
        }
        for Replaced { old, new } in &self.replaced {
            line('~', &format!("{} => {}", show::filter_spec(old, ports), show::filter_spec(new, ports)));
        }
        for filter in &self.added {
            line('+', &show::filter_spec(filter, ports).to_string());
        }
        self.chains_removed.iter().for_each(|chain| line('-', &format!("chain {chain}")));
        text
    }

    /// The same for programs.
    pub fn json(&self, block: &str, ports: &Names) -> Json {
        let filters =
            |filters: &[_]| -> Vec<Json> { filters.iter().map(|filter| show::filter_spec(filter, ports)).collect() };
        let replaced = self.replaced.iter().map(|Replaced { old, new }| {
            json!({ "old": show::filter_spec(old, ports), "new": show::filter_spec(new, ports) })
        });
        json!({
            "on": block,
            "chains_added": self.chains_added,
            "chains_removed": self.chains_removed,
            "added": filters(&self.added),
            "removed": filters(&self.removed),
            "replaced": replaced.collect::<Vec<_>>(),
            "unchanged": self.unchanged,
        })
    }
}

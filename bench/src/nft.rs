//! The kernel's own way: `nft -f`, in a namespace of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_engine::lab::{Lab, Namespace};

use crate::reload::{Shape, address, fate};

/// A table with a set and a chain, which other tables of rules take the place of.
pub(crate) struct Nft {
    namespace: Namespace,
    folder: PathBuf,
    _lab: Lab,
}

impl Nft {
    /// # Errors
    /// If there is no `nft`, or the kernel has no tables for it.
    pub(crate) fn new() -> Result<Nft> {
        let lab = Lab::new("nft");
        let nft = Nft { namespace: lab.namespace("nft")?, folder: lab.folder()?, _lab: lab };
        nft.load(TABLE)?;
        Ok(nft)
    }

    /// Makes the table hold what a file of `crate::reload::case` holds; how long that took, program and all. A list is a set,
    /// and only what is different is deleted and added; rules in order are all replaced, as there is nothing in nft that would find
    /// the difference.
    ///
    /// # Errors
    /// If it is refused.
    pub(crate) fn become_file(&self, shape: Shape, filters: u32, percent: u32, second: bool) -> Result<Duration> {
        let fates = |second: bool| (0..filters).map(move |number| fate(number, percent, second));
        let text = match shape {
            Shape::List => {
                let others = |of: bool| {
                    let pairs = fates(of).zip(fates(!of)).filter(|(here, there)| percent == 100 || here.0 != there.0);
                    elements(pairs.map(|((id, _), _)| id))
                };
                let (gone, come) = (others(!second), others(second));
                format!("delete element inet t s {{ {gone} }}\nadd element inet t s {{ {come} }}\n")
            }
            Shape::Ordered => {
                let rules = fates(second).map(|(id, action)| {
                    let verdict = if action == "pass" { "accept" } else { "drop" };
                    format!("ip daddr {} {verdict}\n", address(id))
                });
                format!("flush chain inet t c\ntable inet t {{\nchain c {{\n{}}}\n}}\n", rules.collect::<String>())
            }
        };
        self.load(&text)
    }

    /// Fills the set with the elements of the first file, or empties the table.
    ///
    /// # Errors
    /// If it is refused.
    pub(crate) fn begin(&self, shape: Shape, filters: u32) -> Result<()> {
        self.load("flush set inet t s\nflush chain inet t c\n")?;
        if shape == Shape::List {
            self.load(&format!("add element inet t s {{ {} }}\n", elements(0..filters)))?;
        }
        Ok(())
    }

    fn load(&self, text: &str) -> Result<Duration> {
        let file = self.folder.join("bench.nft");
        std::fs::write(&file, text)?;
        let started = Instant::now();
        let mut command: Command = self.namespace.exec("nft");
        let output = command.arg("-f").arg(&file).output().context("nft -f")?;
        let took = started.elapsed();
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(took)
    }
}

/// The addresses of filters, as a list for a set.
fn elements(ids: impl Iterator<Item = u32>) -> String {
    ids.map(|id| address(id).to_string()).collect::<Vec<_>>().join(", ")
}

const TABLE: &str = "table inet t { set s { type ipv4_addr; }; chain c { type filter hook forward priority 0; }; }\n";

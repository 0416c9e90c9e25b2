//! Names of ports, blocks and chains, and the numbers that they stand for.

use std::collections::BTreeMap;

use crate::error::Wrong;
use crate::words::{instead, quote};

/// What names stand for: a port's id, or a chain's number.
#[derive(Clone, Debug)]
pub struct Names {
    what: &'static str,
    numbers: BTreeMap<String, u32>,
    names: BTreeMap<u32, String>,
}

/// The names that the words of a filter may use.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Ports; the numbers are [`PortId`](tidegate_classifiers::port::PortId)s.
    pub ports: &'a Names,
    /// Chains of the filter's block. `None` if it is not known which block that is: then no name is wrong.
    pub chains: Option<&'a Names>,
}

impl Names {
    /// No names yet, of `what` as messages call it: `port`, `chain`.
    pub fn new(what: &'static str) -> Self {
        Names { what, numbers: BTreeMap::new(), names: BTreeMap::new() }
    }

    /// `name` stands for `number` from now on.
    pub fn insert(&mut self, name: &str, number: u32) {
        self.numbers.insert(name.to_owned(), number);
        self.names.insert(number, name.to_owned());
    }

    /// `name` stands for nothing any more.
    pub fn remove(&mut self, name: &str) {
        if let Some(number) = self.numbers.remove(name) {
            self.names.remove(&number);
        }
    }

    /// The name of `number`, if it has one.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    /// The number that `name` stands for, if it is known.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.numbers.iter().map(|(name, number)| (name.as_str(), *number))
    }

    pub(crate) fn find(&self, name: &str) -> Result<u32, Wrong> {
        self.numbers.get(name).copied().ok_or_else(|| {
            let hint = match self.numbers.is_empty() {
                true => format!("the file names no {}", self.what),
                false => instead(name, self.numbers.keys().map(String::as_str)),
            };
            Wrong::missing(format!("no {} is called {}", self.what, quote(name))).hint(hint)
        })
    }
}

/// Whether `name` can be told from a number, and shown in a table.
pub(crate) fn check(name: &str) -> Result<(), Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let problem = || Wrong::new(format!("{} is not a name", quote(name)));
    if name.is_empty() || !name.chars().all(fine) {
        return Err(problem().hint("names are made of letters, digits, `-`, `_` and `.`"));
    }
    if !name.contains(|c: char| c.is_ascii_alphabetic()) {
        return Err(problem().hint("a name needs a letter"));
    }
    Ok(())
}

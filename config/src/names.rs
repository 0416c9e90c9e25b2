//! Names that the file gives to ports, blocks and chains.

use std::collections::BTreeMap;

use crate::error::Wrong;
use crate::words::{instead, quote};

/// What names stand for: an index, or a chain's number.
#[derive(Debug)]
pub(crate) struct Names {
    what: &'static str,
    numbers: BTreeMap<String, u32>,
}

impl Names {
    /// No names yet, of `what` as messages call it.
    pub(crate) fn new(what: &'static str) -> Self {
        Names { what, numbers: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, name: &str, number: u32) {
        self.numbers.insert(name.to_owned(), number);
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
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

//! What is wrong with the configuration: all of it, each with its place.

use std::collections::BTreeMap;
use std::fmt;

use crate::place::{Place, Source};

/// One mistake. Displays as `place: problem; hint`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct ConfigError {
    /// `file:line:column`, a file alone if it cannot be read, or the name of a `TIDEGATE_*` variable.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right, where that is known.
    pub hint: Option<String>,
}

/// All mistakes of a run, at least one, in the order of the files and their lines. Displays one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A mistake whose place is not known yet: what the small grammars return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    problem: String,
    hint: Option<String>,
    /// Something is missing: perhaps only because a syntax error hides it.
    missing: bool,
}

impl Wrong {
    /// A problem.
    pub fn new(problem: impl Into<String>) -> Self {
        Wrong { problem: problem.into(), hint: None, missing: false }
    }

    /// A field or a name that does not exist, though it should.
    pub fn missing(problem: impl Into<String>) -> Self {
        Wrong { missing: true, ..Wrong::new(problem) }
    }

    /// With what would be right.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Wrong { hint: Some(hint.into()), ..self }
    }

    /// Says which field the problem is with.
    pub fn of(self, key: &str) -> Self {
        Wrong { problem: format!("{key}: {}", self.problem), ..self }
    }
}

/// Collects the mistakes of a run.
#[derive(Debug, Default)]
pub struct Problems {
    sources: Vec<Source>,
    found: Vec<(Place, Wrong)>,
    warnings: Vec<(Place, Wrong)>,
    /// First syntax error of each source that has one.
    broken: BTreeMap<usize, Place>,
}

impl Problems {
    /// Adds a source; places in it bear the number returned.
    pub fn source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// A mistake in the meaning of what was read. Where the syntax is broken the parser may have lost its way: what
    /// follows in that source, and what seems to be missing anywhere, is not worth a report until that is mended.
    pub fn push(&mut self, place: Place, wrong: Wrong) {
        let lost = self.broken.get(&place.source).is_some_and(|first| *first <= place);
        let hidden = wrong.missing && !self.broken.is_empty();
        if !lost && !hidden {
            self.found.push((place, wrong));
        }
    }

    /// No mistake, but worth a word.
    pub(crate) fn warn(&mut self, place: Place, wrong: Wrong) {
        self.warnings.push((place, wrong));
    }

    /// A mistake that keeps a source from being read as a whole.
    pub fn push_syntax(&mut self, place: Place, wrong: Wrong) {
        self.broken.entry(place.source).and_modify(|first| *first = place.min(*first)).or_insert(place);
        self.found.push((place, wrong));
    }

    /// The value, or what went wrong if there was no telling that in place.
    pub fn accept<T>(&mut self, place: Place, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.push(place, wrong)).ok()
    }

    /// `place` for a message.
    pub fn show(&self, place: Place) -> String {
        self.sources.get(place.source).map(|source| source.show(place.offset)).unwrap_or_default()
    }

    /// What was worth a word, in order.
    pub(crate) fn take_warnings(&mut self) -> Vec<ConfigError> {
        let warnings = std::mem::take(&mut self.warnings);
        self.in_order(warnings)
    }

    /// `value` if nothing was found.
    ///
    /// # Errors
    /// All that was found, in the order of the sources and their lines.
    pub fn finish<T>(mut self, value: T) -> Result<T, ConfigErrors> {
        if self.found.is_empty() {
            return Ok(value);
        }
        let found = std::mem::take(&mut self.found);
        Err(ConfigErrors(self.in_order(found)))
    }

    fn in_order(&self, mut found: Vec<(Place, Wrong)>) -> Vec<ConfigError> {
        found.sort_by_key(|(place, _)| *place);
        let error = |(place, Wrong { problem, hint, .. })| ConfigError { place: self.show(place), problem, hint };
        found.into_iter().map(error).collect()
    }
}

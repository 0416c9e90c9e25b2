//! A reader that takes a table's fields one by one, records what is wrong with each, and at the end reports the fields
//! that nobody asked for.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::Value as Json;

use crate::error::{Problems, Wrong};
use crate::place::Place;
use crate::words::{nearest, quote};

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    /// Place of the value itself; of a table, its header.
    pub place: Place,
    /// Place of the key before it; of an element of a list, its own.
    pub key: Place,
    /// It.
    pub value: Value,
}

/// What stands there. No field has a float or a date, so which one it is does not matter.
#[derive(Debug)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float,
    /// A date or a time.
    Date,
    /// JSON's `null`.
    Nothing,
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(BTreeMap<String, Node>),
}

impl Node {
    /// A value that has no place of its own: all of it stands where its source does.
    pub fn from_json(json: Json, place: Place) -> Node {
        let value = match json {
            Json::Null => Value::Nothing,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => number.as_i128().map_or(Value::Float, Value::Integer),
            Json::String(text) => Value::Text(text),
            Json::Array(elements) => {
                Value::List(elements.into_iter().map(|element| Node::from_json(element, place)).collect())
            }
            Json::Object(fields) => {
                Value::Table(fields.into_iter().map(|(key, value)| (key, Node::from_json(value, place))).collect())
            }
        };
        Node { place, key: place, value }
    }

    /// The type, for messages.
    fn kind(&self) -> &'static str {
        match self.value {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float => "a float",
            Value::Date => "a date",
            Value::Nothing => "null",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// It is of another type than `what`.
    pub fn expected(&self, what: &str) -> Wrong {
        Wrong::new(format!("expected {what}, found {}", self.kind()))
    }

    /// As a string.
    ///
    /// # Errors
    /// If it is none.
    pub fn text(&self) -> Result<&str, Wrong> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.expected("a string").hint("write it in quotes")),
        }
    }

    /// As a boolean.
    ///
    /// # Errors
    /// If it is none.
    pub fn boolean(&self) -> Result<bool, Wrong> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.expected("a boolean").hint("write true or false")),
        }
    }

    /// As a number in `range`.
    ///
    /// # Errors
    /// If it is none, or out of range.
    pub fn number<T>(&self, range: RangeInclusive<T>) -> Result<T, Wrong>
    where
        T: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        let Value::Integer(value) = self.value else {
            let wrong = self.expected("an integer");
            let digits = matches!(&self.value, Value::Text(text) if text.parse::<i128>().is_ok());
            return Err(if digits { wrong.hint("write it without quotes") } else { wrong });
        };
        T::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(|| {
            Wrong::new(format!("{value} is out of range")).hint(format!(
                "it goes from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }
}

/// The fields of a table that are still to be read.
#[derive(Debug)]
pub struct Table {
    /// Place of its header.
    pub place: Place,
    /// As in the file: `[port.wan]`.
    title: String,
    fields: BTreeMap<String, Node>,
    /// Fields that were asked for.
    known: Vec<&'static str>,
    /// Those of them that should be there, but are not.
    missing: Vec<(&'static str, Wrong)>,
}

impl Table {
    /// The table that messages call `title`.
    pub fn new(title: impl Into<String>, place: Place, fields: BTreeMap<String, Node>) -> Self {
        Table { place, title: title.into(), fields, known: Vec::new(), missing: Vec::new() }
    }

    /// `node` as a table; reports it and goes on with an empty one if it is something else.
    pub fn from_node(title: impl Into<String>, node: Node, problems: &mut Problems) -> Self {
        let wrong = node.expected("a table");
        let Node { place, value, .. } = node;
        let title = title.into();
        let fields = match value {
            Value::Table(fields) => fields,
            _ => {
                problems.push(place, wrong.of(&title));
                BTreeMap::new()
            }
        };
        Table::new(title, place, fields)
    }

    /// The field as it is, if it is there.
    pub fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        self.fields.remove(key)
    }

    /// Whether one of these fields is there.
    pub fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.fields.contains_key(*key))
    }

    /// The field as a table; an empty one if it is not there.
    pub fn table(&mut self, key: &'static str, title: &str, problems: &mut Problems) -> Table {
        match self.take(key) {
            Some(node) => Table::from_node(title, node, problems),
            None => Table::new(title, self.place, BTreeMap::new()),
        }
    }

    /// The field as `parse` understands it. None if it is not there, or wrong: then that is reported.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
        parse: impl FnOnce(&Node) -> Result<T, Wrong>,
    ) -> Option<T> {
        let node = self.take(key)?;
        problems.accept(node.place, parse(&node).map_err(|wrong| wrong.of(key)))
    }

    /// The elements of the field, each as `parse` understands it, with its place. Wrong ones are reported and left out.
    /// None if the field is not there.
    pub fn read_list<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
        mut parse: impl FnMut(&Node) -> Result<T, Wrong>,
    ) -> Option<Vec<(T, Place)>> {
        let node = self.take(key)?;
        let wrong = node.expected("a list").hint("write it in brackets").of(key);
        let Value::List(elements) = node.value else {
            problems.push(node.place, wrong);
            return Some(Vec::new());
        };
        let parsed = elements.iter().filter_map(|element| {
            let value = problems.accept(element.place, parse(element).map_err(|wrong| wrong.of(key)))?;
            Some((value, element.place))
        });
        Some(parsed.collect())
    }

    /// A field without a default is not there.
    pub fn missing(&mut self, key: &'static str, hint: &str) {
        self.missing.push((key, Wrong::missing(format!("{} lacks `{key}`", self.title)).hint(hint)));
    }

    /// The fields that are left, in the order of the files: for tables whose keys are names.
    pub fn into_fields(self) -> Vec<(String, Node)> {
        let mut fields: Vec<_> = self.fields.into_iter().collect();
        fields.sort_by_key(|(_, node)| node.place);
        fields
    }

    /// Reports the fields that nobody asked for, and those that are missing, unless they are only misspelt.
    pub fn finish(mut self, problems: &mut Problems) {
        for (key, node) in &self.fields {
            let meant = nearest(key, self.known.iter().copied());
            let hint = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known fields: {}", self.known.join(", ")),
            };
            self.missing.retain(|(missing, _)| meant != Some(missing));
            let problem = format!("unknown field {} in {}", quote(key), self.title);
            problems.push(node.key, Wrong::new(problem).hint(hint));
        }
        for (_, wrong) in self.missing {
            problems.push(self.place, wrong);
        }
    }
}

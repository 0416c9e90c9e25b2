//! What the files and variables say, layered by figment: the main file, its drop-ins, `TIDEGATE_*` variables. Tables are
//! merged, lists of files are appended, variables win.
//!
//! figment knows which source a value came from, but not where it stands there. So every source is parsed once, with
//! spans; figment gets the values, and after merging each value is given its place again by the source in its tag and
//! its path.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Empty, Map, Tag, Value as Merged};
use figment::{Figment, Metadata, Profile, Provider};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Problems, Wrong};
use crate::place::{Place, Source};
use crate::table::{Node, Table, Value};

/// What settings in variables start with.
const PREFIX: &str = "TIDEGATE_";

/// Variables that the command line reads: they are no settings.
const NOT_SETTINGS: [&str; 3] = ["TIDEGATE_CONFIG", "TIDEGATE_LOG", "TIDEGATE_SOCKET"];

/// Keys of the longest path there is, `port.NAME.host.KEY`, and some more: mistakes are better reported by name.
const DEEPEST: usize = 8;

/// Reads all sources into one table.
pub(crate) fn read(path: &Path, vars: impl Iterator<Item = (String, String)>, problems: &mut Problems) -> Table {
    let mut layers = Layers::default();
    layers.add_file(path, problems);
    for drop_in in drop_ins(path, problems) {
        layers.add_file(&drop_in, problems);
    }
    // The environment has no order of its own.
    let settings = vars.filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()));
    for (name, value) in settings.collect::<BTreeMap<_, _>>() {
        layers.add_variable(name, &value, problems);
    }
    layers.merged()
}

/// Reads `text` as the only source, which messages call `name`. What else there is of it, files beside it or variables, does not
/// count.
pub fn read_text(name: &str, text: String, problems: &mut Problems) -> Table {
    let mut layers = Layers::default();
    layers.add_text(name.to_owned(), text, problems);
    layers.merged()
}

/// The drop-ins of `DIR/NAME.toml`: `DIR/NAME.d/*.toml`.
fn drop_ins(path: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    let folder = path.with_extension("d");
    let mut files = Vec::new();
    let result = fs::read_dir(&folder).and_then(|entries| {
        for entry in entries {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
        Ok(())
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => unreadable(&folder, &error, problems),
        _ => {}
    }
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    files
}

fn unreadable(path: &Path, error: &io::Error, problems: &mut Problems) {
    let source = problems.source(Source::named(path.display().to_string()));
    problems.push_syntax(Place { source, offset: 0 }, Wrong::new(format!("cannot be read: {error}")));
}

/// The sources so far.
#[derive(Default)]
struct Layers {
    figment: Figment,
    /// Where the values of each source stand, by the source's number.
    spots: BTreeMap<usize, Spots>,
}

impl Layers {
    fn add_file(&mut self, path: &Path, problems: &mut Problems) {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return unreadable(path, &error, problems),
        };
        let (text, invalid_at) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(offset))
            }
        };
        if let Some(offset) = invalid_at {
            let source = problems.source(Source::file(path.display().to_string(), text));
            problems.push_syntax(Place { source, offset }, Wrong::new("not UTF-8").hint("save the file as UTF-8"));
            return;
        }
        self.add_text(path.display().to_string(), text, problems);
    }

    fn add_text(&mut self, name: String, text: String, problems: &mut Problems) {
        let source = problems.source(Source::file(name, text.clone()));
        let (table, errors) = DeTable::parse_recoverable(&text);
        report_syntax(source, &text, &errors, problems);
        let (dict, fields) = split_table(table.get_ref());
        drop(table);
        self.spots.insert(source, Spots { key: 0, value: 0, inner: Inner::Table(fields) });
        self.figment = std::mem::take(&mut self.figment).admerge(Layer { source, dict: Cell::new(dict) });
    }

    /// `TIDEGATE_WORKERS__IDLE=busy` is `workers.idle = "busy"`: a value of TOML, or else a string.
    fn add_variable(&mut self, name: String, text: &str, problems: &mut Problems) {
        let value = match DeValue::parse(text.trim()) {
            Ok(value) => split(&value).0,
            Err(_) => Merged::from(text),
        };
        let path = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase();
        let keys: Vec<_> = path.split("__").map(str::to_owned).collect();
        let source = problems.source(Source::named(name));
        if keys.len() > DEEPEST {
            let wrong = Wrong::new("no setting lies that deep").hint("such as TIDEGATE_PORT__WAN__FORWARD_TO");
            return problems.push(Place { source, offset: 0 }, wrong);
        }
        let nested = keys.into_iter().rfold(value, |value, key| Merged::from(BTreeMap::from([(key, value)])));
        if let Merged::Dict(_, dict) = nested {
            self.figment = std::mem::take(&mut self.figment).merge(Layer { source, dict: Cell::new(dict) });
        }
    }

    fn merged(self) -> Table {
        // Layers cannot fail and the empty path is always there: there is no other outcome than a table.
        let root = self.figment.find_value("").ok().and_then(Merged::into_dict).unwrap_or_default();
        let spots: Vec<_> = self.spots.iter().map(|(source, spots)| (*source, spots)).collect();
        let fields = self.place_fields(root, &spots, Place::default());
        Table::new("the file", Place::default(), fields)
    }

    /// Gives the fields of a table their places. `spots` are those of the same table in each file that has it.
    fn place_fields(&self, dict: Dict, spots: &[(usize, &Spots)], above: Place) -> BTreeMap<String, Node> {
        dict.into_iter()
            .map(|(key, value)| {
                let spots: Vec<_> = spots.iter().filter_map(|(n, spots)| Some((*n, spots.field(&key)?))).collect();
                let node = self.place(value, &spots, above);
                (key, node)
            })
            .collect()
    }

    fn place(&self, value: Merged, spots: &[(usize, &Spots)], above: Place) -> Node {
        let source = self.source(value.tag()).unwrap_or(above.source);
        // A table that several sources have stands where the first of them has it; anything else, where it came from.
        let spot = match &value {
            Merged::Dict(..) => spots.iter().find(|(_, spots)| matches!(spots.inner, Inner::Table(_))),
            _ => spots.iter().find(|(n, _)| *n == source),
        };
        let (place, key) = match spot {
            Some((source, spots)) => {
                (Place { source: *source, offset: spots.value }, Place { source: *source, offset: spots.key })
            }
            None => (Place { source, offset: 0 }, Place { source, offset: 0 }),
        };
        let value = match value {
            Merged::Bool(_, value) => Value::Bool(value),
            Merged::Num(_, number) => match (number.to_i128(), number.to_u128()) {
                (Some(value), _) => Value::Integer(value),
                (_, Some(value)) => Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)),
                _ => Value::Float,
            },
            Merged::String(_, text) => Value::Text(text),
            Merged::Char(_, letter) => Value::Text(letter.to_string()),
            Merged::Empty(..) => Value::Date,
            Merged::Dict(_, dict) => Value::Table(self.place_fields(dict, spots, place)),
            Merged::Array(_, elements) => Value::List(self.place_elements(elements, spots, place)),
        };
        Node { place, key, value }
    }

    /// Elements of a merged list come source after source, and within a source in its own order.
    fn place_elements(&self, elements: Vec<Merged>, spots: &[(usize, &Spots)], above: Place) -> Vec<Node> {
        let mut index_in: HashMap<usize, usize> = HashMap::new();
        let placed = elements.into_iter().map(|element| {
            let source = self.source(element.tag()).unwrap_or(above.source);
            let index = index_in.entry(source).or_default();
            let spot =
                spots.iter().find(|(n, _)| *n == source).and_then(|(n, spots)| Some((*n, spots.element(*index)?)));
            *index += 1;
            self.place(element, spot.as_slice(), above)
        });
        placed.collect()
    }

    fn source(&self, tag: Tag) -> Option<usize> {
        self.figment.get_metadata(tag)?.name.parse().ok()
    }
}

/// One source, as figment sees it. Its name is the number of the source.
struct Layer {
    source: usize,
    /// Taken by figment, once.
    dict: Cell<Dict>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.take()))
    }
}

/// Where a value stands in its file, and what is in it.
struct Spots {
    /// Offset of the key; of an element of a list, its own.
    key: usize,
    value: usize,
    inner: Inner,
}

enum Inner {
    /// Sorted by key.
    Table(Vec<(String, Spots)>),
    List(Vec<Spots>),
    Scalar,
}

impl Spots {
    fn field(&self, key: &str) -> Option<&Spots> {
        match &self.inner {
            Inner::Table(fields) => {
                let found = fields.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
                fields.get(found).map(|(_, spots)| spots)
            }
            _ => None,
        }
    }

    fn element(&self, index: usize) -> Option<&Spots> {
        match &self.inner {
            Inner::List(elements) => elements.get(index),
            _ => None,
        }
    }
}

/// Splits what was parsed into values for figment and their places.
fn split(value: &Spanned<DeValue<'_>>) -> (Merged, Spots) {
    let (merged, inner) = match value.get_ref() {
        DeValue::String(text) => (Merged::from(text.as_ref()), Inner::Scalar),
        DeValue::Integer(digits) => {
            // Only a number of more than 38 digits does not fit; it is out of every field's range as well.
            let number = i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX);
            (Merged::from(number), Inner::Scalar)
        }
        DeValue::Float(digits) => (Merged::from(digits.as_str().parse().unwrap_or(f64::NAN)), Inner::Scalar),
        DeValue::Boolean(value) => (Merged::from(*value), Inner::Scalar),
        DeValue::Datetime(_) => (Merged::from(Empty::Unit), Inner::Scalar),
        DeValue::Array(elements) => {
            let (values, spots): (Vec<_>, Vec<_>) = elements.iter().map(split).unzip();
            (Merged::from(values), Inner::List(spots))
        }
        DeValue::Table(table) => {
            let (dict, spots) = split_table(table);
            (Merged::from(dict), Inner::Table(spots))
        }
    };
    (merged, Spots { key: value.span().start, value: value.span().start, inner })
}

fn split_table(table: &DeTable<'_>) -> (Dict, Vec<(String, Spots)>) {
    let fields = table.iter().map(|(key, value)| {
        let (value, spots) = split(value);
        let name = key.get_ref().to_string();
        ((name.clone(), value), (name, Spots { key: key.span().start, ..spots }))
    });
    fields.unzip()
}

/// One report a line: what follows on a line is mostly a consequence.
fn report_syntax(source: usize, text: &str, errors: &[toml::de::Error], problems: &mut Problems) {
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().map_or(0, |span| span.start), error)).collect();
    errors.sort_by_key(|(offset, _)| *offset);
    let mut reported = None;
    for (offset, error) in errors {
        let line_start = text.get(..offset).and_then(|before| before.rfind('\n'));
        if reported == Some(line_start) {
            continue;
        }
        reported = Some(line_start);
        let wrong = match error.message().split_once(", expected ") {
            Some((problem, expected)) => Wrong::new(problem).hint(format!("expected {expected}")),
            None => Wrong::new(error.message()),
        };
        problems.push_syntax(Place { source, offset }, wrong);
    }
}

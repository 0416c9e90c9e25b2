//! Rules and the tests that check them: no rule without a test, and docs/rules.md says which.
//!
//! A test claims a rule by its number, in the comment above it or anywhere in its body; each one by itself, no ranges.
//! `BLESS=1` writes docs/rules.md anew.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What docs/ says.
struct Docs {
    /// Rules of docs/semantics.md that hold now, in its order.
    rules: Vec<String>,
    /// Its rules for later, with the reason.
    not_yet: Vec<(String, String)>,
    /// Its notes.
    notes: Vec<String>,
    /// Races of docs/races.md, and whether they are tried.
    races: Vec<(String, bool)>,
    /// Rows of docs/series.md: patch or note, what it does, its rules.
    series: Vec<(String, String, Vec<String>)>,
}

/// Tests by the number they cite.
type Claims = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_rule_has_a_test() {
    let (docs, claims) = (Docs::read(), claims());
    let races = docs.races.iter().filter(|(_, tried)| *tried).map(|(race, _)| race);
    let empty: Vec<_> = docs.rules.iter().chain(races).filter(|rule| !claims.contains_key(*rule)).collect();
    assert!(empty.is_empty(), "{} without a test: {empty:?}", empty.len());
}

#[test]
fn every_row_of_the_series_has_rules_that_hold() {
    let docs = Docs::read();
    assert_eq!(docs.series.iter().filter(|(row, ..)| row.starts_with('P')).count(), 17);
    for (row, _, rules) in &docs.series {
        assert!(!rules.is_empty(), "{row} has no rule");
        for rule in rules {
            assert!(docs.rules.contains(rule), "{row}: {rule} is no rule that holds");
        }
    }
}

#[test]
fn what_is_not_yet_there_has_a_reason_and_no_test() {
    let (docs, claims) = (Docs::read(), claims());
    for (rule, reason) in &docs.not_yet {
        assert!(reason.len() > 20, "{rule} has no reason");
        assert!(!docs.rules.contains(rule), "{rule} holds, and does not hold yet");
        assert!(!claims.contains_key(rule), "{rule} is not there yet, but {:?} cite it", claims.get(rule));
    }
    for (race, _) in docs.races.iter().filter(|(_, tried)| !tried) {
        assert!(!claims.contains_key(race), "{race} is n/a, but {:?} cite it", claims.get(race));
    }
}

#[test]
fn every_number_is_explained() {
    let docs = Docs::read();
    let mut known = BTreeSet::new();
    for rule in docs.rules.iter().chain(&docs.notes).chain(docs.not_yet.iter().map(|(rule, _)| rule)) {
        assert!(known.insert(rule.clone()), "{rule} is there twice");
    }
    for (race, _) in &docs.races {
        assert!(known.insert(race.clone()), "{race} is there twice");
    }
    for path in sources().into_iter().chain(["semantics", "races", "series"].map(docs_path)) {
        for number in numbers(&fs::read_to_string(&path).unwrap()) {
            assert!(known.contains(&number), "{}: {number} is explained nowhere", path.display());
        }
    }
}

#[test]
fn the_table_is_as_the_tests_are() {
    let table = table(&Docs::read(), &claims());
    if std::env::var_os("BLESS").is_some() {
        fs::write(docs_path("rules"), &table).unwrap();
    }
    let there = fs::read_to_string(docs_path("rules")).unwrap_or_default();
    let differs = there.lines().zip(table.lines()).find(|(a, b)| a != b);
    assert!(there == table, "docs/rules.md is out of date; BLESS=1 writes it. First difference: {differs:#?}");
}

#[test]
fn numbers_are_found_where_they_are_cited() {
    let source = "/// [CH-3]: no claim\nfn helper() {}\n\n/// [CH-1], [TP-1], U3-9\n#[test]\nfn it_works() {\n    \
                  assert!(yes, \"CC-7\"); // [AK-GACT]\n}\n\n    /// [CH-2]\n    #[test]\n    fn inner() {\n    }\n// [ER-1]\n";
    let mut found = Claims::new();
    claim(source, "a", &mut found);
    let of = |name: &str| {
        let claimed = found.iter().filter(|(_, tests)| tests.contains(name));
        claimed.map(|(number, _)| number.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("a::it_works"), ["AK-GACT", "CC-7", "CH-1", "TP-1", "U3-9"]);
    assert_eq!(of("a::inner"), ["CH-2"]);
    assert_eq!(found.len(), 6);
}

impl Docs {
    fn read() -> Docs {
        let semantics = fs::read_to_string(docs_path("semantics")).unwrap();
        let (now, later) = semantics.split_once("\n## Not yet\n").unwrap();
        let defined = |line: &str| {
            let rest = line.strip_prefix("* **").or_else(|| line.strip_prefix("| **"))?;
            rest.split_once("**").map(|(number, _)| number.to_owned())
        };
        let rules = now.lines().filter_map(defined).collect();
        let notes = rows(now).filter_map(|row| row[0].starts_with("IM-").then(|| row[0].clone())).collect();
        let not_yet = rows(later).flat_map(|row| numbers(&row[0]).into_iter().map(move |rule| (rule, row[1].clone())));
        let not_yet = not_yet.collect();
        let races = fs::read_to_string(docs_path("races")).unwrap();
        let races = rows(&races).filter(|row| row[0].starts_with("KR-"));
        let races = races.map(|row| (row[0].clone(), !row[2].starts_with("n/a: "))).collect();
        let series = fs::read_to_string(docs_path("series")).unwrap();
        let series = rows(&series).filter(|row| row[0].starts_with(['P', 'N']));
        let series = series.map(|row| (row[0].clone(), row[1].clone(), numbers(&row[2]))).collect();
        Docs { rules, not_yet, notes, races, series }
    }
}

/// The cells of each row of the tables in `text`, but for headers.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    lines
        .map(cells)
        .filter(|row| row[0].contains(|c: char| c.is_ascii_digit() || c == '-'))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Letters that numbers begin with.
const FAMILIES: [&str; 36] = [
    "AC", "AK", "AV", "BA", "BL", "BP", "CC", "CH", "CL", "DD", "DP", "DV", "ER", "FL", "FO", "FW", "HA", "HC", "HW",
    "IM", "KR", "LK", "MA", "NT", "OBJ", "PR", "RL", "RP", "RQ", "ST", "TM", "TP", "TX", "U3", "UL", "WK",
];

/// The numbers in `text`, in order.
fn numbers(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'));
    words.filter(|word| is_number(word)).map(str::to_owned).collect()
}

fn is_number(word: &str) -> bool {
    let Some((family, number)) = word.split_once('-') else { return false };
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let words = family == "AK" && number.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    FAMILIES.contains(&family) && !number.is_empty() && (digits || words)
}

/// What the tests of the workspace cite.
fn claims() -> Claims {
    let mut claims = Claims::new();
    for path in sources() {
        let place = path.strip_prefix(root()).unwrap().with_extension("");
        claim(&fs::read_to_string(&path).unwrap(), place.to_str().unwrap(), &mut claims);
    }
    claims
}

/// Adds what the tests in `source` cite. A test begins with the comments and attributes above it, and ends with the line that
/// closes its body: sources are formatted.
fn claim(source: &str, place: &str, claims: &mut Claims) {
    let lines: Vec<&str> = source.lines().collect();
    for at in (0..lines.len()).filter(|&at| lines[at].trim() == "#[test]") {
        let above = |line: &&&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
        let first = at - lines[..at].iter().rev().take_while(above).count();
        let Some(name_at) = (at..lines.len()).find(|&at| lines[at].trim_start().starts_with("fn ")) else { continue };
        let name = lines[name_at].trim_start()[3..].split(['(', '<']).next().unwrap_or_default();
        let indent = lines[name_at].len() - lines[name_at].trim_start().len();
        let end = format!("{:indent$}}}", "");
        let closes = |&at: &usize| lines[at] == end || lines[at].ends_with("{}");
        let last = (name_at..lines.len()).find(closes).unwrap_or(lines.len() - 1);
        let text = lines[first..=last].join("\n");
        assert!(!text.contains("] to ["), "{place}::{name}: a test names each rule that it checks");
        for number in numbers(&text) {
            claims.entry(number).or_default().insert(format!("{place}::{name}"));
        }
    }
}

/// docs/rules.md.
fn table(docs: &Docs, claims: &Claims) -> String {
    let mut out = String::from(
        "# Rules and tests\n\nWritten by `BLESS=1 cargo test -p tidegate-classifiers --test rules`; do not edit. A test claims a \
         rule by citing its\nnumber. The rules are in [semantics.md](semantics.md), the races in [races.md](races.md), the series in \
         [series.md](series.md).\n",
    );
    let tests = |rules: &[String]| -> String {
        let all: BTreeSet<&String> = rules.iter().filter_map(|rule| claims.get(rule)).flatten().collect();
        all.into_iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ")
    };
    out.push_str("\n## Rules\n\n| rule | tests |\n|---|---|\n");
    for rule in &docs.rules {
        let _ = writeln!(out, "| {rule} | {} |", tests(std::slice::from_ref(rule)));
    }
    out.push_str("\n## Races\n\n| race | tests |\n|---|---|\n");
    for (race, _) in docs.races.iter().filter(|(_, tried)| *tried) {
        let _ = writeln!(out, "| {race} | {} |", tests(std::slice::from_ref(race)));
    }
    out.push_str("\n## The series\n\n| row | | rules | tests |\n|---|---|---|---|\n");
    for (row, what, rules) in &docs.series {
        let _ = writeln!(out, "| {row} | {what} | {} | {} |", rules.join(", "), tests(rules));
    }
    out
}

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for package in ["classifiers", "client", "config", "tc", "engine", "bench", "xdp-prog"] {
        collect(&root().join(package), &mut files);
    }
    files.sort();
    assert!(files.len() > 50, "the sources are somewhere else");
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.ends_with("target") => {}
            _ if path.is_dir() => collect(&path, files),
            Some(extension) if extension == "rs" && path.file_name().is_none_or(|name| name != "rules.rs") => {
                files.push(path)
            }
            _ => {}
        }
    }
}

fn docs_path(name: &str) -> PathBuf {
    root().join("docs").join(name).with_extension("md")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

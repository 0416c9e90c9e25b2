//! Every mistake, with its exact text: `err/NAME.toml` must be refused with what `err/NAME.txt` says.
//!
//! Paths are relative to the package: cargo runs tests there.

#![expect(clippy::expect_used, reason = "helpers of tests may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tidegate_config::load_with;

fn refused_with_the_expected_text(name: &str) {
    let path = format!("tests/err/{name}.toml");
    let errors = load_with(Path::new(&path), std::iter::empty()).expect_err("the file must be refused");
    let expected = fs::read_to_string(format!("tests/err/{name}.txt")).expect("every case has its text");
    let found = errors.to_string();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected.trim_end());
}

/// One test for each file, and one that no file was forgotten.
macro_rules! cases {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            refused_with_the_expected_text(stringify!($name));
        })*

        #[test]
        fn every_file_is_a_case() {
            let names = fs::read_dir("tests/err").expect("the folder is there").map(|entry| entry.expect("readable").path());
            let files: BTreeSet<_> = names
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .map(|path| path.file_stem().expect("it has an extension").to_string_lossy().into_owned())
                .collect();
            assert_eq!(files, BTreeSet::from([$(stringify!($name).to_owned()),*]));
        }
    };
}

cases! {
    actions
    before_syntax_error
    blocks
    columns
    doubled
    doubled_key
    edits
    empty
    families
    filter_fields
    filter_table
    goto_nowhere
    match_values
    missing_names_behind_syntax_error
    needs_ip_proto
    no_priority_left
    not_tables
    odd_names
    one_proto_a_priority
    ports
    ranges
    syntax
    unknown_fields
    vlan
    workers_and_cores
    wrong_types
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = load_with(Path::new("tests/err/nothing.toml"), std::iter::empty()).expect_err("there is no file");
    assert_eq!(errors.to_string(), "tests/err/nothing.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn bytes_that_are_not_utf8_have_a_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latin1.toml");
    fs::write(&path, b"# fine\n# caf\xe9\n").expect("written");
    let errors = load_with(&path, std::iter::empty()).expect_err("not UTF-8");
    assert_eq!(errors.to_string(), format!("{}:2:6: not UTF-8; save the file as UTF-8", path.display()));
}

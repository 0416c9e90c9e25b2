//! Whatever the bytes: an answer, never a panic.

#![expect(clippy::expect_used, reason = "helpers of tests may panic")]

use std::fs;

use proptest::prelude::*;
use tidegate_config::load_with;

const EXAMPLES: [&str; 5] = [
    include_str!("../examples/demo.toml"),
    include_str!("../examples/edge.toml"),
    include_str!("ok/matches.toml"),
    include_str!("ok/actions.toml"),
    include_str!("ok/settings.toml"),
];

/// Loads `bytes` as a file. What is refused must say so in lines that name a place in it.
fn answered(bytes: &[u8], vars: Vec<(String, String)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    fs::write(&path, bytes).expect("written");
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    if let Err(errors) = load_with(&path, vars.into_iter()) {
        assert!(!errors.0.is_empty());
        for error in errors.0 {
            assert!(!error.problem.is_empty());
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
            if let Some(place) = error.place.strip_prefix(&format!("{}:", path.display())) {
                let line: usize = place.split(':').next().and_then(|line| line.parse().ok()).expect("a line");
                assert!((1..=lines).contains(&line), "{error}");
            } else {
                assert!(error.place.starts_with("TIDEGATE_"), "{error}");
            }
        }
    }
}

/// One of the examples, with some bytes overwritten, cut out or put in.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..12);
    (0..EXAMPLES.len(), edits).prop_map(|(example, edits)| {
        let mut bytes = EXAMPLES[example].as_bytes().to_vec();
        for (index, edit, byte) in edits {
            let index = index.index(bytes.len());
            match edit {
                0 => bytes[index] = byte,
                1 => _ = bytes.remove(index),
                _ => bytes.insert(index, b"[]{}=\",.#\n0-/ "[usize::from(byte) % 14]),
            }
        }
        bytes
    })
}

/// Lines of the examples in any order.
fn shuffled() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = EXAMPLES.iter().flat_map(|example| example.lines()).collect();
    prop::collection::vec(prop::sample::select(lines), 0..60).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        answered(&bytes, Vec::new());
    }

    #[test]
    fn mutated_examples_are_answered(bytes in mutated()) {
        answered(&bytes, Vec::new());
    }

    #[test]
    fn shuffled_lines_are_answered(text in shuffled()) {
        answered(text.as_bytes(), Vec::new());
    }

    #[test]
    fn any_variables_are_answered(vars in prop::collection::vec(("[A-Z_]{0,12}", ".{0,20}"), 0..4)) {
        let vars = vars.into_iter().map(|(name, value)| (format!("TIDEGATE_{name}"), value));
        answered(EXAMPLES[0].as_bytes(), vars.collect());
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    for open in ["[", "{a="] {
        answered(format!("x = {}", open.repeat(100_000)).as_bytes(), Vec::new());
        answered(b"", vec![("TIDEGATE_X".into(), open.repeat(100_000))]);
    }
    answered(b"", vec![(format!("TIDEGATE_X{}", "__X".repeat(10_000)), "1".into())]);
    answered(format!("{}a = 1", "a.".repeat(10_000)).as_bytes(), Vec::new());
}

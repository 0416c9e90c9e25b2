//! Files that are right and will be slow, and files that will not: each with what it is told.

#![expect(clippy::expect_used, reason = "helpers of tests may panic")]

use std::fmt::Write;
use std::fs;

use tidegate_config::load_with;

/// What is said of a file with these filters of a port `a`, each on a line of its own from line 3 on.
fn warnings(filters: impl IntoIterator<Item = String>) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.toml");
    let mut text = "port.a = { forward_to = \"host\" }\nfilter = [\n".to_owned();
    for filter in filters {
        let _ = writeln!(text, "  {{ on = \"a\", action = \"drop\", {filter} }},");
    }
    fs::write(&path, text + "]\n").expect("written");
    let config = load_with(&path, std::iter::empty()).expect("it is right");
    let folder = format!("{}/", folder.path().display());
    config.warnings.iter().map(|warning| warning.to_string().replace(&folder, "")).collect()
}

/// A mask for each number: of the lowest bits of a MAC address.
fn masked(n: u32) -> String {
    format!(
        "protocol = \"all\", match = {{ src_mac = \"02:00:00:00:00:00/02:00:00:00:{:02x}:{:02x}\" }}",
        n / 256,
        n % 256
    )
}

#[test]
fn many_masks_in_a_chain() {
    assert_eq!(warnings((0..1024).map(masked)), Vec::<String>::new());
    assert_eq!(
        warnings((0..1025).map(masked)),
        ["t.toml:1027:3: slow: 1025 different masks in chain 0 of block `a`, here number 1025; \
          a packet may be looked up once for each: let filters look at the same bits"]
    );
    let more = warnings((0..1100).map(masked));
    assert!(more[0].starts_with("t.toml:1027:3: slow: 1100 different masks in chain 0 of block `a`"), "{more:?}");
    assert!(more[0].contains(", more at t.toml:1028:3, t.toml:1029:3, t.toml:1030:3 and so on; "), "{more:?}");
    assert_eq!(warnings((0..1100).map(|n| format!("chain = {}, {}", n % 2, masked(n)))), Vec::<String>::new());
}

#[test]
fn many_filters_of_one_key() {
    let ranges = |count: u32| {
        (0..count).map(|n| {
            format!("protocol = \"ip\", match = {{ ip_proto = \"tcp\", dst_port = \"{}-{}\" }}", 10 * n + 1, 10 * n + 5)
        })
    };
    assert_eq!(warnings(ranges(64)), Vec::<String>::new());
    assert_eq!(
        warnings(ranges(65)),
        [
            "t.toml:3:3: slow: 65 filters in chain 0 of block `a` differ by port ranges or priorities only, the others are at \
          t.toml:4:3, t.toml:5:3, t.toml:6:3 and so on; a packet is compared with one after the other: join ranges that are side by \
          side"
        ]
    );
    let ports = (1..200).map(|port| format!("protocol = \"ip\", match = {{ ip_proto = \"tcp\", dst_port = {port} }}"));
    assert_eq!(warnings(ports), Vec::<String>::new(), "these are found by their keys");
}

#[test]
fn many_priorities_that_are_walked() {
    let marks = |count: u32| (1..=count).map(|n| format!("priority = {n}, kind = \"fw\", match = {{ mark = {n} }}"));
    assert_eq!(warnings(marks(16)), Vec::<String>::new());
    assert_eq!(
        warnings(marks(17)),
        [
            "t.toml:3:3: slow: 17 priorities of kind fw or u32 in chain 0 of block `a`, the others are at t.toml:4:3, t.toml:5:3, \
          t.toml:6:3 and so on; every packet asks one after the other: put marks into one priority, keys into tables"
        ]
    );
    let together = (1..=100).map(|n| format!("priority = 1, kind = \"fw\", match = {{ mark = {n} }}"));
    assert_eq!(warnings(together), Vec::<String>::new());
}

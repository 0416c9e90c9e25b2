//! Whatever the bytes of a file, an answer that names a place; what loads runs, and the file that is made of what runs changes
//! nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request;
use tidegate_config::{Config, ForwardTo, Names, export, load_with, show};
use tidegate_engine::apply::{self, Target};
use tidegate_engine::rules::Rules;

/// The input is a file; or, with a line `%%` between each two, a file, its drop-ins, and variables such as
/// `TIDEGATE_WORKERS__IDLE=busy`.
#[test]
fn fuzz() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("x.d")).unwrap();
    bolero::check!(name = "file").with_iterations(200).for_each(|bytes: &[u8]| {
        let (mut files, mut vars) = (Vec::new(), Vec::new());
        for piece in pieces(bytes) {
            match str::from_utf8(piece).ok().filter(|text| text.starts_with("TIDEGATE_")) {
                Some(variable) => {
                    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                    vars.push((name.to_owned(), value.to_owned()));
                }
                None => files.push((path(folder.path(), files.len()), piece)),
            }
        }
        for (path, bytes) in &files {
            std::fs::write(path, bytes).unwrap();
        }
        match load_with(&path(folder.path(), 0), vars.into_iter()) {
            Ok(config) => survives(&config, folder.path()),
            Err(errors) => {
                assert!(!errors.0.is_empty());
                for error in errors.0 {
                    assert!(!error.problem.is_empty());
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                    let within = files.iter().any(|(path, bytes)| is_within(&error.place, path, bytes));
                    assert!(within || error.place.starts_with("TIDEGATE_"), "{error}");
                }
            }
        }
        for (path, _) in &files {
            std::fs::remove_file(path).unwrap();
        }
    });
}

/// What is between lines `%%`.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(4).position(|window| window == b"\n%%\n") {
        pieces.push(&rest[..at]);
        rest = &rest[at + 4..];
    }
    pieces.push(rest);
    pieces
}

/// The file, or one of its drop-ins.
fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(if number == 0 { "x.toml".into() } else { format!("x.d/{number:03}.toml") })
}

/// Whether `place` is `path:line:column` of a line that `bytes` have.
fn is_within(place: &str, path: &Path, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let numbers = place.strip_prefix(&format!("{}:", path.display())).and_then(|numbers| numbers.split_once(':'));
    let Some((Ok(line), Ok(column))) = numbers.map(|(line, column)| (line.parse::<usize>(), column.parse::<usize>()))
    else {
        return false;
    };
    let text = line.checked_sub(1).and_then(|line| text.split('\n').nth(line));
    column > 0 && text.is_some_and(|text| column <= text.chars().count() + 1)
}

/// Runs `config`, and the file that is made of what runs then.
fn survives(config: &Config, folder: &Path) {
    let rules = Rules::new(config, &Plane::standalone(1)).unwrap();
    let mut names = Names::new("port");
    config.ports.iter().for_each(|port| names.insert(&port.name, port.id.0.into()));
    let listings = rules.blocks().into_iter().map(|(on, block)| export::Listing {
        on,
        chains: apply::chains(&block).iter().map(|chain| chain.index).collect(),
        filters: request::dump(&block).iter().map(|info| show::filter(info, &names, 0)).collect(),
    });
    let text = ports(config) + &export::export(&listings.collect::<Vec<_>>());
    let file = folder.join("exported.toml");
    std::fs::write(&file, &text).unwrap();
    let again = load_with(&file, std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    for ((name, running), wanted) in rules.blocks().iter().zip(&again.blocks) {
        assert_eq!(*name, wanted.name);
        let changes = apply::changes(Target { running, wanted });
        assert!(changes.is_empty(), "{changes:#?}\n{text}");
    }
}

/// The ports and blocks of a file, without their filters.
fn ports(config: &Config) -> String {
    let mut text = String::new();
    for port in &config.ports {
        let to = match port.forward_to {
            ForwardTo::Port(id) => config.ports.iter().find(|port| port.id == id).map_or("", |port| &port.name),
            ForwardTo::Host => "host",
        };
        let _ = writeln!(text, "[port.{:?}]\nforward_to = {to:?}", port.name);
        if let Some(block) = port.block.map(|block| &config.blocks[block]).filter(|block| block.name != port.name) {
            let _ = writeln!(text, "block = {:?}", block.name);
        }
    }
    for block in &config.blocks {
        let _ = writeln!(text, "[block.{:?}]", block.name);
    }
    text
}

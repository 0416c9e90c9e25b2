//! The main file, its drop-ins and the variables: what is merged, what is appended, what wins, and which source an error
//! names.

#![expect(clippy::expect_used, reason = "helpers of tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_config::{Config, ConfigErrors, ForwardTo, Idle, OnExit, load, load_with};

const MAIN: &str = r#"[workers]
count = 2
[port.wan]
forward_to = "lan"
[port.lan]
forward_to = "wan"
[[filter]]
on = "wan"
name = "main"
action = "pass"
"#;

/// The main file with one core named, which is one too few for its two workers.
fn with_cores() -> String {
    MAIN.replace("count = 2\n", "count = 2\ncores = [1]\n")
}

/// A configuration in a folder of its own.
struct Layers {
    folder: tempfile::TempDir,
}

impl Layers {
    fn new(main: &str, drop_ins: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("gate.toml"), main).expect("written");
        for (name, text) in drop_ins {
            fs::create_dir_all(folder.path().join("gate.d")).expect("made");
            fs::write(folder.path().join("gate.d").join(name), text).expect("written");
        }
        Layers { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("gate.toml")
    }

    fn load(&self, vars: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        load_with(&self.path(), vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    /// The errors, without the folder.
    fn errors(&self, vars: &[(&str, &str)]) -> String {
        let text = self.load(vars).expect_err("it must be refused").to_string();
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn filter_names(config: &Config) -> Vec<&str> {
    config.blocks.iter().flat_map(|block| &block.filters).map(|filter| &*filter.name).collect()
}

#[test]
fn drop_ins_append_filters_in_byte_order_of_their_names() {
    let filter = |name: &str| format!("[[filter]]\non = \"wan\"\nname = \"{name}\"\naction = \"pass\"\n");
    let layers = Layers::new(
        MAIN,
        &[
            ("20.toml", &filter("twenty")),
            ("10-b.toml", &filter("b")),
            ("10-a.toml", &filter("a")),
            ("Z.toml", &filter("Z")),
            ("a.toml", &filter("small-a")),
            (".hidden.toml", &filter("hidden")),
            ("10-a.toml~", &filter("backup")),
            ("README", "not TOML at all"),
        ],
    );
    let config = layers.load(&[]).expect("it is fine");
    assert_eq!(filter_names(&config), ["main", "a", "b", "twenty", "Z", "small-a"]);
    let priorities: Vec<_> = config.blocks[0].filters.iter().map(|filter| filter.priority).collect();
    assert_eq!(priorities, [10, 20, 30, 40, 50, 60], "the order of the files is the order of the filters");
}

#[test]
fn drop_ins_merge_tables_and_later_files_win() {
    let layers = Layers::new(
        &with_cores(),
        &[
            ("1.toml", "workers.idle = \"busy\"\nworkers.cores = [2]\n[port.wan]\non_exit = \"drop\"\n"),
            ("2.toml", "[workers]\nidle = \"sleep\"\n[port.dmz]\nforward_to = \"host\"\n"),
        ],
    );
    let config = layers.load(&[]).expect("it is fine");
    assert_eq!(config.workers.idle, Idle::Sleep);
    assert_eq!(config.workers.count, Some(2), "what a drop-in does not name stays");
    assert_eq!(config.workers.cores, [1, 2], "lists are appended");
    assert_eq!(config.ports[0].on_exit, OnExit::Drop);
    let ports: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(ports, ["wan", "lan", "dmz"]);
}

#[test]
fn no_folder_and_an_empty_one_are_no_error() {
    let layers = Layers::new(MAIN, &[]);
    assert!(layers.load(&[]).is_ok());
    fs::create_dir(layers.folder.path().join("gate.d")).expect("made");
    assert!(layers.load(&[]).is_ok());
}

#[test]
fn a_drop_in_folder_that_is_none_is_reported() {
    let layers = Layers::new(MAIN, &[]);
    fs::write(layers.folder.path().join("gate.d"), "").expect("written");
    assert_eq!(layers.errors(&[]), "gate.d: cannot be read: Not a directory (os error 20)");
}

#[test]
fn variables_win() {
    let layers = Layers::new(&with_cores(), &[("1.toml", "workers.idle = \"sleep\"\n")]);
    let config = layers
        .load(&[
            ("TIDEGATE_WORKERS__IDLE", "busy"),
            ("TIDEGATE_WORKERS__COUNT", "3"),
            ("TIDEGATE_WORKERS__CORES", "[4, 5, 6]"),
            ("TIDEGATE_WORKERS__HUGE_PAGES", "true"),
            ("TIDEGATE_CONTROL__GROUP", "\"42\""),
            ("TIDEGATE_PORT__LAN__FORWARD_TO", "host"),
            ("HOME", "/root"),
        ])
        .expect("it is fine");
    assert_eq!(config.workers.idle, Idle::Busy);
    assert_eq!(config.workers.count, Some(3));
    assert_eq!(config.workers.cores, [4, 5, 6], "a list in a variable replaces that of the files");
    assert!(config.workers.huge_pages);
    assert_eq!(config.control.group, "42");
    assert_eq!(config.ports[1].forward_to, ForwardTo::Host);
}

/// The environment belongs to the whole process, so a process of its own looks at it.
#[test]
fn load_reads_the_environment() {
    const INNER: &str = "TIDEGATE_WORKERS__BURST";
    if std::env::var_os(INNER).is_some() {
        let config = load(Path::new("examples/minimal.toml")).expect("it is fine");
        assert_eq!(config.workers.burst, 33);
        return;
    }
    let test = std::env::current_exe().expect("this very program");
    let mut inner = Command::new(test);
    inner.args(["--exact", "load_reads_the_environment"]).env(INNER, "33");
    let output = inner.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the inner test must have run");
}

#[test]
fn variables_of_the_command_line_are_not_settings() {
    let layers = Layers::new(MAIN, &[]);
    let vars = [("TIDEGATE_CONFIG", "x"), ("TIDEGATE_LOG", "debug"), ("TIDEGATE_SOCKET", "/run/x")];
    assert!(layers.load(&vars).is_ok());
}

#[test]
fn errors_name_the_source_of_the_value() {
    let layers = Layers::new(
        "[workers]\nidle = \"bsy\"\nburst = 1000\ncores = [1]\n[port.wan]\nforward_to = \"host\"\n\
         [[filter]]\non = \"wan\"\naction = \"dorp\"\n",
        &[
            (
                "1.toml",
                "[workers]\nburst = 2000\ncores = [1, \"2\"]\ncolour = 1\n\n[[filter]]\non = \"wan\"\naction = \"pas\"\n\
                 [[filter]]\non = \"lan\"\naction = \"pass\"\n",
            ),
            ("2.toml", "[[filter]]\non = \"wan\"\naction = \"pass\"\nname = \"a b\"\n[port.wan]\nmod = \"auto\"\n"),
        ],
    );
    let vars = [
        ("TIDEGATE_WORKERS__RING_SIZE", "big"),
        ("TIDEGATE_WORKERS_IDLE", "busy"),
        ("TIDEGATE_PORT__WAM__MODE", "native"),
        ("TIDEGATE_CONTROL__SOCKET", "7"),
    ];
    let expected = "\
gate.toml:2:8: idle: `bsy` is not known; did you mean `busy`?
gate.toml:9:10: action: `dorp` is not known; did you mean `drop`?
gate.d/1.toml:2:9: burst: 2000 is out of range; it goes from 1 to 256
gate.d/1.toml:3:10: cores: 1 is there twice; one core for each worker
gate.d/1.toml:3:13: cores: expected an integer, found a string; write it without quotes
gate.d/1.toml:4:1: unknown field `colour` in [workers]; known fields: count, cores, idle, burst, ring_size, frames, \
chunk_size, huge_pages, flow_cache
gate.d/1.toml:8:10: action: `pas` is not known; did you mean `pass`?
gate.d/1.toml:10:6: on: no port or block is called `lan`; did you mean `wan`?
gate.d/2.toml:4:8: name: `a b` is not a name; names are made of letters, digits, `-`, `_` and `.`
gate.d/2.toml:6:1: unknown field `mod` in [port.wan]; did you mean `mode`?
TIDEGATE_CONTROL__SOCKET: socket: expected a string, found an integer; write it in quotes
TIDEGATE_PORT__WAM__MODE: [port.wam] lacks `forward_to`; say where packets that pass go: another port, or \"host\"
TIDEGATE_WORKERS_IDLE: unknown field `workers_idle` in the file; known fields: workers, control, port, block, filter
TIDEGATE_WORKERS__RING_SIZE: ring_size: expected an integer, found a string";
    let found = layers.errors(&vars);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
}

#[test]
fn syntax_errors_of_all_files_are_reported_with_the_rest() {
    let layers = Layers::new(
        "[workers]\nidle = \"bsy\"\n[port.wan]\nforward_to = \"lan\"\n",
        &[("1.toml", "[port.lan\n"), ("2.toml", "= 1\n"), ("3.toml", "[workers]\nburst = 0\n")],
    );
    let found = layers.errors(&[]);
    assert_eq!(
        found,
        "gate.toml:2:8: idle: `bsy` is not known; did you mean `busy`?\n\
         gate.d/1.toml:1:10: unclosed table; expected `]`\n\
         gate.d/2.toml:1:1: unquoted keys cannot be empty; expected letters, numbers, `-`, `_`\n\
         gate.d/3.toml:2:9: burst: 0 is out of range; it goes from 1 to 256"
    );
}

#[test]
fn a_drop_in_that_repeats_a_name_is_refused() {
    let layers = Layers::new(MAIN, &[("1.toml", "[[filter]]\non = \"wan\"\nname = \"main\"\naction = \"drop\"\n")]);
    let first = layers.folder.path().join("gate.toml").display().to_string();
    let text = layers.load(&[]).expect_err("it must be refused").to_string();
    assert!(text.ends_with(&format!("name: `main` is there already; the first is at {first}:9:8")), "{text}");
}

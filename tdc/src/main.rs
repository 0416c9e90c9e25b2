//! Runs the tc self tests of the Linux kernel (tools/testing/selftests/tc-testing) against the control plane: the cases are
//! data of the kernel's source, read where that was unpacked. Each case has a gateway of its own without interfaces, and
//! ports by name; `$TC` is `tidegate tc`.

mod case; // Case: one case of the data, and how it is run
mod gateway; // Gateway: filters behind a socket, ports without interfaces
mod shell; // commands with a time limit

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use case::{Case, Names};
use gateway::Gateway;

/// What is run first if nothing else is asked for: 114 cases.
const CORE: [&str; 7] = [
    "filters/flower.json",
    "filters/matchall.json",
    "filters/u32.json",
    "infra/actions.json",
    "qdiscs/ingress.json",
    "actions/gact.json",
    "actions/mirred.json",
];

/// What else is run: the action kinds that there are. The core has those of its own.
const KINDS: [&str; 8] = [
    "actions/police.json",
    "actions/vlan.json",
    "actions/skbedit.json",
    "actions/csum.json",
    "actions/pedit.json",
    "actions/nat.json",
    "actions/sample.json",
    "actions/tunnel_key.json",
];

const MARK_ONLY: &str = "skbedit edits the mark alone: packets here have no priority, queue or type";
const INVERT: &str = "tc inverts one byte of a MAC address, we all six";
const ICMP_CODE: &str = "tc writes the code where the type is";
const GENEVE: &str = "no options of Geneve: nothing here would put them around a packet";
const FLOW_LABEL: &str = "tc leaves out the highest bit of the flow label";

/// Cases that fail, and why.
const KNOWN: [(&str, &str); 20] = [
    ("081d", MARK_ONLY),
    ("3c95", MARK_ONLY),
    ("224f", MARK_ONLY),
    ("d1a3", MARK_ONLY),
    ("464a", MARK_ONLY),
    ("0651", MARK_ONLY),
    ("cc53", MARK_ONLY),
    ("ec16", MARK_ONLY),
    ("db54", MARK_ONLY),
    ("1055", MARK_ONLY),
    ("5172", MARK_ONLY),
    ("1b2b", MARK_ONLY),
    ("630c", MARK_ONLY),
    ("706d", MARK_ONLY),
    ("918d", INVERT),
    ("a8d4", INVERT),
    ("afd8", ICMP_CODE),
    ("6f5e", FLOW_LABEL),
    ("4f20", GENEVE),
    ("e33d", GENEVE),
];

/// Runs the kernel's tc self tests against tidegate.
#[derive(Parser)]
struct Arguments {
    /// The folder tools/testing/selftests/tc-testing of a kernel's source.
    data: PathBuf,
    /// The program to test.
    #[arg(long, default_value = "target/release/tidegate")]
    tidegate: PathBuf,
    /// Seconds that each command may take. The kernel's own runner has 24; a busy machine needs more.
    #[arg(long, default_value_t = 24)]
    limit: u64,
    /// Only cases with these ids.
    #[arg(long)]
    id: Vec<String>,
    /// Files below tc-tests; those of the core and of the action kinds if none is given.
    files: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let tidegate = arguments.tidegate.canonicalize().with_context(|| arguments.tidegate.display().to_string())?;
    let data = arguments.data.canonicalize().with_context(|| arguments.data.display().to_string())?;
    let sets = match arguments.files.is_empty() {
        true => vec![("core", CORE.map(String::from).to_vec()), ("action kinds", KINDS.map(String::from).to_vec())],
        false => vec![("in all", arguments.files)],
    };
    let (mut summary, mut all, mut surprises) = (Vec::new(), 0, 0);
    for (set, files) in sets {
        let (mut passed, mut run) = (0, 0);
        for file in &files {
            let cases = Case::read(&data.join("tc-tests").join(file))?;
            for case in cases.iter().filter(|case| case.is_for_us()) {
                if !arguments.id.is_empty() && !arguments.id.contains(&case.id) {
                    continue;
                }
                let gateway = Gateway::start(&tidegate)?;
                let names = Names::new(&gateway);
                let outcome = case.run(&names, &data, Duration::from_secs(arguments.limit));
                let known = KNOWN.iter().find(|(id, _)| *id == case.id).map(|(_, why)| *why);
                run += 1;
                passed += u32::from(outcome.is_ok());
                surprises += u32::from(outcome.is_ok() == known.is_some());
                match (&outcome, known) {
                    (Ok(took), None) => println!("ok    {} {} ({:.1} s)", case.id, case.name, took.as_secs_f64()),
                    (Ok(_), Some(why)) => println!("ok?   {} {}: was to fail: {why}", case.id, case.name),
                    (Err(_), Some(why)) => println!("fails {} {}: {why}", case.id, case.name),
                    (Err(why), None) => println!("FAIL  {} {}: {why:#}", case.id, case.name),
                }
            }
        }
        all += run;
        summary.push(format!("{set}: {passed} of {run} cases pass"));
    }
    ensure!(all > 0, "no case was run");
    println!("{}; {surprises} surprises", summary.join(", "));
    Ok(if surprises == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

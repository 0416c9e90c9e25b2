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

/// What is run if nothing else is asked for: 114 cases.
const CORE: [&str; 7] = [
    "filters/flower.json",
    "filters/matchall.json",
    "filters/u32.json",
    "infra/actions.json",
    "qdiscs/ingress.json",
    "actions/gact.json",
    "actions/mirred.json",
];

/// Cases that fail, and why.
const KNOWN: [(&str, &str); 7] = [
    ("abdc", "action kind pedit"),
    ("c619", "action kind csum"),
    ("2c81", "action kind nat"),
    ("68be", "action kind sample"),
    ("cf01", "action kind skbedit"),
    ("4abc", "action kind tunnel_key"),
    ("dadd", "action kind vlan"),
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
    /// Files below tc-tests; those of the core if none is given.
    files: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let tidegate = arguments.tidegate.canonicalize().with_context(|| arguments.tidegate.display().to_string())?;
    let data = arguments.data.canonicalize().with_context(|| arguments.data.display().to_string())?;
    let files = if arguments.files.is_empty() { CORE.map(String::from).to_vec() } else { arguments.files };
    let (mut passed, mut run, mut surprises) = (0, 0, 0);
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
    ensure!(run > 0, "no case was run");
    println!("{passed} of {run} cases pass, {} fail as known, {surprises} surprises", run - passed);
    Ok(if surprises == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

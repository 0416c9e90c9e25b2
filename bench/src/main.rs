//! `tidegate-bench`: measures the gateway and wears it out, on veth pairs in namespaces of its own.
#![forbid(unsafe_code)]
#![recursion_limit = "256"] // as in the engine: a worker is used here, and rustc asks whether all of it is Send

mod acl; // librte_acl, to compare with
mod bare; // the limit to compare with: receive, transmit, nothing else
mod callgrind; // `callgrind`: instructions a packet costs
mod classbench; // rule sets as files
mod classify; // `classify`: how fast packets find their filters
mod classify_report; // what `classify` found
mod disturbance; // what others on the machine take from a measurement
mod figure; // a figure, and what it should be
mod forward; // `forward`: bare forwarder and gateway in turn
mod gateway; // the gateway under test, in this process
mod generator; // packets as fast as a core makes them
mod half_load; // `update`: what packets notice of a storm
mod hostile_rules; // rule sets that are meant to be slow
mod ipv6_rules; // rule sets made up
mod lookups; // filters, and packets that look for them
mod nft; // nft -f, to compare with
mod packets; // random packets for `soak`
mod reload; // `reload`: how long a reload takes, and what packets notice
mod reload_report; // what `reload` found
mod report; // what `forward` found
mod rule_set; // rules, headers, and the slow answer
mod run; // `run`: a scenario, packet by packet accounted for
mod scenario; // what is sent, past which filters, and what goes on meanwhile
mod sink; // counts what arrives
mod soak; // `soak`: random packets, then the accounts
mod socket; // `socket`: how fast the control socket is
mod storm; // threads that add and delete filters
mod tc; // the kernel's own classifier, to compare with
mod tester; // packets by a schedule, and exact accounts of them
mod topology; // namespaces and veth pairs
mod turns; // how often and how long something is measured
mod update; // `update`: how fast filters come and go
mod update_report; // what `update` found
mod usage; // wrong usage
mod worker; // `worker`: what a packet costs, by stage

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use mimalloc::MiMalloc;
use tidegate_engine::lab::Lab;
use tracing_subscriber::filter::LevelFilter;
use usage::Usage;

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures the Tidegate gateway, and wears it out.
///
/// Everything happens on veth pairs in network namespaces of its own, removed at the end and on Ctrl-C; the machine's
/// interfaces are not touched. It needs root and two cores.
///
/// On a veth pair a bare AF_XDP forwarder is limited by the kernel's transmit path, so packets per second say little of
/// the gateway. What counts is the ratio to the bare forwarder in the same run on the same machine.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 all is well, 1 the gateway failed, 2 wrong usage.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The same traffic through a bare AF_XDP forwarder, and through the gateway with 1, 100 and 1,000 filters, in turn.
    ///
    /// The bare forwarder uses the gateway's own XDP program, rings, burst and idle strategy; it only moves frames from
    /// port to port. What is missing to a ratio of 1 is the cost of parsing, filtering and counting.
    ///
    /// Fails if the gateway loses a packet inside, or its account of packets does not balance.
    Forward(forward::Options),
    /// Minutes of random packets, whole, cut short, damaged and noise, through a gateway with every kind of rule, while
    /// links go down and up.
    ///
    /// Then traffic stands still, and the accounts are checked: every packet received is forwarded, passed, consumed, or
    /// dropped by reason; every packet that the XDP program redirected was received or counted by the kernel; no frame
    /// was lost, every filter matched, nothing panicked, memory did not grow.
    ///
    /// Checks inside the engine run in debug builds only: run both.
    Soak(soak::Options),
    /// How fast filters are added and deleted where 100,000 are present, by one thread and by two, beside the kernel's own
    /// classifier; what a filter takes of memory; and what packets at half load notice of a storm of updates.
    ///
    /// Every figure is printed with its target.
    Update(update::Options),
    /// How long a reload takes: 1,000,000 filters of which 1 % changes, 10,000 that all change; what the worker's bursts and
    /// packets at half load notice; and, in turns with it, what `nft -f` takes for as many rules or elements of a set.
    ///
    /// Every figure is printed with its target.
    Reload(reload::Options),
    /// How fast packets find their filter, of 1,000 to 500,000 with a priority each, beside librte_acl in turns on the same core;
    /// what filters take to load, and of memory.
    ///
    /// The rule sets are those of ClassBench, in the file's order and with priorities shuffled, or IPv6 ones made up here. Every
    /// answer is checked before anything is measured: a wrong one ends the run.
    ///
    /// Needs no root, and no network. `./dev bench classify` builds the program that librte_acl runs in.
    Classify(classify::Options),
    /// What a packet costs in a worker whose ports are in memory, by stage: receive, parse, classify, act and send; with a filter
    /// that drops, one that lets pass, and 10,000 of these.
    ///
    /// Needs no root, and no network.
    Worker(worker::Options),
    /// How many instructions a packet costs in the worker, compared with the figures that are recorded in the source: they may
    /// not differ by more than 3 %.
    ///
    /// Needs valgrind. Figures are those of a release build; `./dev callgrind` makes one.
    Callgrind(callgrind::Options),
    /// A scenario through the gateway at a fixed rate, or at the highest one without loss: throughput, latency, and every
    /// packet accounted for.
    ///
    /// One thread sends packets by a schedule and receives them again. Latency counts from when a packet was due, so nothing
    /// that waits is left out. Loss, reordering, duplicates, wrong verdicts and wrong contents are counted for each flow, and
    /// the packets are named.
    Run(run::Options),
    /// The scenarios that are compiled in; with a name, the text of one.
    Scenarios(run::ListOptions),
    /// What changed between two reports of `run --json`, beyond the noise: the rounds of the one lie apart from those of the other.
    ///
    /// Exit codes: 0 nothing changed for the worse, 1 something did, 2 the reports cannot be compared.
    Compare(run::compare::Options),
    /// Several reports of `run --json` in one table.
    Summary(run::summary::Options),
    /// How fast filters are added, listed and deleted by the control socket, by one client and by several at once.
    Socket(socket::Options),
}

/// `--idle`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Idle {
    /// Spins for ever.
    #[default]
    Busy,
    /// Spins a little, then sleeps until a packet comes.
    Adaptive,
    /// Sleeps at once.
    Sleep,
}

impl Idle {
    /// As the gateway's file calls it.
    fn name(self) -> &'static str {
        match self {
            Idle::Busy => "busy",
            Idle::Adaptive => "adaptive",
            Idle::Sleep => "sleep",
        }
    }
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // What the gateway complains of; that it starts and stops is no news here.
    tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_writer(std::io::stderr).init();
    match Lab::remove_on_signals().map_err(anyhow::Error::from).and_then(|()| run(&command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Usage>() => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("tidegate-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<bool> {
    match command {
        Command::Forward(options) => forward::run(options),
        Command::Soak(options) => soak::run(options),
        Command::Update(options) => update::run(options),
        Command::Reload(options) => reload::run(options),
        Command::Classify(options) => classify::run(options),
        Command::Worker(options) => worker::run(options),
        Command::Callgrind(options) => callgrind::run(options),
        Command::Run(options) => run::run(options),
        Command::Scenarios(options) => run::list(options),
        Command::Compare(options) => run::compare::run(options),
        Command::Summary(options) => run::summary::run(options),
        Command::Socket(options) => socket::run(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(line: &str) -> bool {
        let command = Arguments::try_parse_from(line.split(' ')).unwrap().command;
        !Lab::allowed() || run(&command).unwrap()
    }

    #[test]
    fn forward_loses_nothing() {
        assert!(passes("tidegate-bench forward --seconds 0.3 --rounds 1 --filters 1,100 --idle adaptive --rate 20000"));
    }

    #[test]
    fn soak_holds_for_some_seconds() {
        assert!(passes("tidegate-bench soak --minutes 0.1 --seed 1 --rate 50000"));
    }

    #[test]
    fn update_measures_everything() {
        assert!(passes("tidegate-bench update --rounds 1 --seconds 0.1 --present 1000"));
    }

    #[test]
    fn classify_measures_what_it_has_checked() {
        let line =
            "tidegate-bench classify --families ipv6 --sizes 1k --headers 1000 --rounds 1 --seconds 0.02 --core 0";
        let Command::Classify(options) = Arguments::try_parse_from(line.split(' ')).unwrap().command else {
            unreachable!()
        };
        assert!(classify::run(&options).unwrap());
    }

    #[test]
    fn worker_measures_what_it_has_checked() {
        let line = "tidegate-bench worker --scenarios drop-1,forward-1 --rounds 1 --seconds 0.02 --core 0";
        let Command::Worker(options) = Arguments::try_parse_from(line.split(' ')).unwrap().command else {
            unreachable!()
        };
        assert!(worker::run(&options).unwrap());
    }

    #[test]
    fn socket_adds_lists_and_deletes() {
        assert!(passes("tidegate-bench socket --filters 300 --clients 1,3"));
    }
}

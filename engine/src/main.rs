//! `tidegate`: arguments, configuration, run, exit codes.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use signal_hook::iterator::Signals;
use tidegate_client::wire::{Notice, Record};
use tidegate_client::{Client, ClientError, Events};
use tidegate_config::{Config, ConfigErrors, PortNumbers, export, hex};
use tidegate_engine::engine::Engine;
use tidegate_engine::preview::Preview;
use tidegate_engine::{demo, log, pcap, table, xdp};
use tidegate_tc::Streams;
use tracing::{error, info, warn};

/// Filters are made by one thread and set free by another: the system's allocator has them wait for each other.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const DEFAULT_CONFIG: &str = "/etc/tidegate/tidegate.toml";
const DEFAULT_SOCKET: &str = "/run/tidegate/tidegate.sock";

/// How often the engine looks after links, workers and signals.
const TICK: Duration = Duration::from_millis(50);

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// An AF_XDP packet gateway whose filters follow the Linux tc model.
///
/// Start with `tidegate demo`: it builds a small network of namespaces, runs a gateway between them and shows what it
/// does. Then write a file (see /etc/tidegate/tidegate.toml), `tidegate check` it, and `tidegate run` it.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed or refused, 2 wrong usage or configuration, 3 no gateway reached."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway until SIGINT or SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, short, default_value = DEFAULT_CONFIG, env = "TIDEGATE_CONFIG")]
        config: PathBuf,
        /// The control socket; overrides the file.
        #[arg(long, env = "TIDEGATE_SOCKET")]
        socket: Option<PathBuf>,
        /// Form of the log. Levels come from TIDEGATE_LOG, such as `debug`.
        #[arg(long, value_enum, default_value_t)]
        log_format: log::Format,
    },
    /// Reads a file, its drop-ins and TIDEGATE_* variables, and reports every mistake as file:line:column; also filters that
    /// are right and will be slow.
    Check {
        /// The configuration file.
        #[arg(default_value = DEFAULT_CONFIG, env = "TIDEGATE_CONFIG")]
        file: PathBuf,
    },
    /// Has the gateway read its file, and makes its filters those that run, all at one instant; ports come and go with them. SIGHUP
    /// does the same.
    Reload {
        /// Take it back after so long, such as 30s or 5m, unless `tidegate confirm` comes before.
        #[arg(long, value_name = "TIME", value_parser = time)]
        confirm: Option<Duration>,
        /// What it did, as JSON.
        #[arg(long, short)]
        json: bool,
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// Keeps what `tidegate reload --confirm` made.
    Confirm {
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// Shows what a file would change on the running gateway, and changes nothing.
    ///
    /// `+` comes, `-` goes, `~` is changed, `!` needs a restart. Exit codes: 0 nothing, 1 something, 2 the file has mistakes or
    /// the gateway was not reached.
    Diff {
        /// The file.
        file: PathBuf,
        /// As JSON, for programs.
        #[arg(long, short)]
        json: bool,
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// Shows ports, queues, rates, drops by reason, filters with their hits, what packets cost by chain, flow caches.
    Status {
        /// As JSON, for programs.
        #[arg(long, short)]
        json: bool,
        /// Again and again, every so many seconds.
        #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
        watch: Option<u64>,
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// The packets that actions `sample` show, as they come, in the form of pcap: `tidegate samples | tcpdump -nr -`.
    Samples {
        /// Those of this group only.
        #[arg(long, value_name = "N")]
        group: Option<u32>,
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// Stops one worker and starts it afresh; its port's counters go on.
    RestartWorker {
        /// Number of the worker.
        worker: u16,
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// The command line in the grammar of tc, for the gateway's filters; the same as this program by the name `tc`.
    ///
    /// The gateway's control socket is what TIDEGATE_SOCKET says.
    #[command(disable_help_flag = true)]
    Tc {
        /// As tc understands them: `tidegate tc filter show dev wan ingress`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Turns what `tc -j filter show` printed into `[[filter]]` tables of a file.
    Import {
        /// The port or block that the filters are for.
        #[arg(long)]
        on: String,
        /// The listing; `-` reads standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Prints the running filters as `[[filter]]` tables, for a file or drop-in beside the ports.
    Export {
        /// The gateway's control socket.
        #[arg(long, default_value = DEFAULT_SOCKET, env = "TIDEGATE_SOCKET")]
        socket: PathBuf,
    },
    /// Takes the XDP program that a dead gateway left behind (on_exit = "drop") off an interface.
    Detach {
        /// The network interface.
        interface: String,
    },
    /// A client, a gateway and a server in namespaces of this machine: real programs through real filters.
    Demo {
        /// Use this file instead of the built-in example.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Leave the namespaces and the gateway there until Enter is pressed.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == "tc")) {
        return tc(arguments.collect());
    }
    match Arguments::parse().command {
        Command::Run { config, socket, log_format } => run(&config, socket, log_format),
        Command::Check { file } => check(&file),
        Command::Reload { confirm, json, socket } => reload(&socket, confirm, json),
        Command::Confirm { socket } => match Client::connect(socket).and_then(|mut client| client.confirm()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => refused(&e),
        },
        Command::Diff { file, json, socket } => diff(&file, &socket, json),
        Command::Status { json, watch, socket } => status(&socket, json, watch),
        Command::Samples { group, socket } => samples(&socket, group),
        Command::RestartWorker { worker, socket } => {
            match Client::connect(socket).and_then(|mut client| client.restart_worker(worker)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => refused(&e),
            }
        }
        Command::Tc { arguments } => tc(arguments),
        Command::Import { on, file } => printed(import(&on, &file)),
        Command::Export { socket } => printed(export(&socket)),
        Command::Detach { interface } => match xdp::detach(&interface) {
            Ok(what) => {
                println!("{interface}: {what}");
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("tidegate: {interface}: {e}");
                ExitCode::from(FAILED)
            }
        },
        Command::Demo { config, keep } => {
            match demo::run(&demo::Options { example: config, keep, color: color_to_stdout() }) {
                Ok(code) => code,
                Err(e) => {
                    eprintln!("tidegate: demo: {e:#}");
                    ExitCode::from(FAILED)
                }
            }
        }
    }
}

fn run(file: &Path, socket: Option<PathBuf>, log_format: log::Format) -> ExitCode {
    let file = file.to_owned();
    let path = file.clone();
    let load = move |running: &PortNumbers| {
        let mut config = tidegate_config::load_beside(&path, tidegate_config::environment(), running)?;
        config.control.socket = socket.clone().unwrap_or(config.control.socket);
        Ok(config)
    };
    let config = match load(&PortNumbers::default()) {
        Ok(config) => config,
        Err(errors) => return mistaken(&errors),
    };
    log::start(log_format);
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the process at once: whoever presses Ctrl-C twice means it.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, i32::from(FAILED), Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        if let Err(e) = registered {
            error!(error = %e, "cannot listen for signals");
            return ExitCode::from(FAILED);
        }
    }
    // From here on a SIGHUP does not end the gateway.
    let mut hangups = match Signals::new([signal_hook::consts::SIGHUP]) {
        Ok(hangups) => hangups,
        Err(e) => {
            error!(error = %e, "cannot listen for SIGHUP");
            return ExitCode::from(FAILED);
        }
    };
    let mut engine = match Engine::start(config) {
        Ok(engine) => engine,
        Err(e) => {
            error!("{e}");
            return ExitCode::from(FAILED);
        }
    };
    let desk = match engine.take_orders(Box::new(load)) {
        Ok(desk) => desk,
        Err(e) => {
            error!("{e}");
            return ExitCode::from(FAILED);
        }
    };
    let (hangup, listening) = (hangups.handle(), thread::spawn(move || hangups.forever().for_each(|_| desk.order())));
    // Not under systemd: nothing to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!(file = %file.display(), "running");
    while !stop.load(Ordering::Acquire) {
        thread::sleep(TICK);
        engine.tick();
    }
    hangup.close();
    let _ = listening.join();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if engine.stop() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn tc(arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let socket = std::env::var_os("TIDEGATE_SOCKET").map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from);
    let out = &mut BufWriter::new(std::io::stdout());
    let streams = Streams { input: &mut std::io::stdin().lock(), out, err: &mut std::io::stderr() };
    ExitCode::from(tidegate_tc::run(&arguments, &socket, streams))
}

fn printed(text: anyhow::Result<String>) -> ExitCode {
    match text {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("tidegate: {e:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn import(on: &str, file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") { io::read_to_string(io::stdin())? } else { std::fs::read_to_string(file)? };
    let listing = serde_json::from_str(&text)?;
    let filters = tidegate_tc::import(&listing, on).map_err(|wrong| anyhow::anyhow!(wrong.join("\n")))?;
    Ok(export::export(&[export::Listing { on: on.to_owned(), chains: Vec::new(), filters }]))
}

fn export(socket: &Path) -> anyhow::Result<String> {
    let mut client = Client::connect(socket)?;
    let mut listings = Vec::new();
    for block in client.blocks()? {
        let chains = client.chains(block.on.clone()).collect::<Result<Vec<_>, _>>()?;
        let chains = chains.iter().filter_map(|chain| u32::try_from(chain["chain"].as_u64()?).ok()).collect();
        let records =
            client.filters(serde_json::json!({ "on": block.on.to_value() })).collect::<Result<Vec<_>, _>>()?;
        let filters = records.into_iter().filter_map(|record| match record {
            Record::Filter(filter) => Some(filter),
            Record::Proto(_) => None,
        });
        listings.push(export::Listing { on: block.on.to_string(), chains, filters: filters.collect() });
    }
    Ok(export::export(&listings))
}

fn check(file: &Path) -> ExitCode {
    match load(file) {
        Ok(config) => {
            config.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            let filters: usize = config.blocks.iter().map(|block| block.filters.len()).sum();
            let ports: Vec<&str> = config.ports.iter().map(|port| port.name.as_str()).collect();
            println!("{}: ok: {} ports ({}), {} filters", file.display(), ports.len(), ports.join(", "), filters);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn load(file: &Path) -> Result<Config, ExitCode> {
    tidegate_config::load(file).map_err(|errors| mistaken(&errors))
}

fn mistaken(errors: &ConfigErrors) -> ExitCode {
    eprintln!("{errors}");
    ExitCode::from(USAGE)
}

fn reload(socket: &Path, trial: Option<Duration>, json: bool) -> ExitCode {
    let report = match Client::connect(socket).and_then(|mut client| client.reload(trial)) {
        Ok(report) => report,
        Err(e) => return refused(&e),
    };
    if json {
        println!("{}", serde_json::json!(report));
        return ExitCode::SUCCESS;
    }
    println!("{}", table::reload(&report));
    if let Some(seconds) = report.confirm_s {
        println!("on trial: `tidegate confirm` within {seconds} s keeps it");
    }
    ExitCode::SUCCESS
}

fn diff(file: &Path, socket: &Path, json: bool) -> ExitCode {
    let mut config = match load(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if socket != Path::new(DEFAULT_SOCKET) {
        config.control.socket = socket.to_owned(); // overrides the file, as for `tidegate run`
    }
    let preview = match Client::connect(socket).and_then(|mut client| Preview::new(&config, &mut client)) {
        Ok(preview) => preview,
        Err(e) => {
            eprintln!("tidegate: {e}");
            return ExitCode::from(USAGE);
        }
    };
    if json {
        println!("{}", preview.json());
    } else {
        print!("{preview}");
    }
    ExitCode::from(u8::from(!preview.is_empty()))
}

/// `30s`, `5m`, `1h`, or seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("{unit:?} is no unit of time: s, m or h")),
    };
    let number: u64 = digits.parse().map_err(|_| "write it as 30s, 5m or 1h".to_owned())?;
    match number.checked_mul(unit) {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("at least a second".into()),
    }
}

fn status(socket: &Path, json: bool, watch: Option<u64>) -> ExitCode {
    loop {
        let status = match Client::connect(socket).and_then(|mut client| client.status()) {
            Ok(status) => status,
            Err(e) => return refused(&e),
        };
        if json {
            match serde_json::to_string(&status) {
                Ok(text) => println!("{text}"),
                Err(e) => {
                    eprintln!("tidegate: status: {e}");
                    return ExitCode::from(FAILED);
                }
            }
        } else {
            // Home and clear, so that the picture stands still.
            let clear = if watch.is_some() && std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            print!("{clear}{}", table::render(&status, color_to_stdout()));
        }
        match watch {
            None => return ExitCode::SUCCESS,
            Some(seconds) => thread::sleep(Duration::from_secs(seconds.max(1))),
        }
    }
}

fn samples(socket: &Path, group: Option<u32>) -> ExitCode {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        eprintln!("tidegate: packets are no text; try: tidegate samples | tcpdump -nr -");
        return ExitCode::from(USAGE);
    }
    let events = match Client::connect(socket).and_then(|client| client.subscribe_samples(group)) {
        Ok(events) => events,
        Err(e) => return refused(&e),
    };
    match write_samples(events, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // Who read has seen enough.
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("tidegate: {e:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Until the gateway ends.
fn write_samples(events: Events, out: &mut impl Write) -> anyhow::Result<()> {
    pcap::write_header(out)?;
    out.flush()?;
    for notice in events {
        match notice? {
            Notice::Sample { time_us, length, bytes, .. } => {
                let packet = hex::parse(&bytes).ok_or_else(|| anyhow::anyhow!("{bytes:?} are no bytes"))?;
                pcap::write_packet(out, time_us, length, &packet)?;
                out.flush()?;
            }
            Notice::Lost { count } => eprintln!("tidegate: {count} samples were lost"),
            _ => {}
        }
    }
    Ok(())
}

fn refused(e: &ClientError) -> ExitCode {
    eprintln!("tidegate: {e}");
    ExitCode::from(match e {
        ClientError::Unreachable { .. } => UNREACHABLE,
        _ => FAILED,
    })
}

fn color_to_stdout() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

//! `tidegate`: arguments, configuration, run, exit codes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use tidegate_config::{Config, ConfigErrors};
use tidegate_engine::control::{self, ClientError, Reply, Request};
use tidegate_engine::engine::Engine;
use tidegate_engine::{demo, log, table, xdp};
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
    /// Reads a file, its drop-ins and TIDEGATE_* variables, and reports every mistake as file:line:column.
    Check {
        /// The configuration file.
        #[arg(default_value = DEFAULT_CONFIG, env = "TIDEGATE_CONFIG")]
        file: PathBuf,
    },
    /// Shows ports, queues, rates, drops by reason, filters with their hits.
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
    /// Stops one worker and starts it afresh; its port's counters go on.
    RestartWorker {
        /// Number of the worker.
        worker: u16,
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
    match Arguments::parse().command {
        Command::Run { config, socket, log_format } => run(&config, socket, log_format),
        Command::Check { file } => check(&file),
        Command::Status { json, watch, socket } => status(&socket, json, watch),
        Command::RestartWorker { worker, socket } => match control::call(&socket, &Request::RestartWorker { worker }) {
            Ok(_) => ExitCode::SUCCESS,
            Err(e) => refused(&e),
        },
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
    let mut config = match load(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Some(socket) = socket {
        config.control.socket = socket;
    }
    log::start(log_format);
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
    // There is no reload yet: a SIGHUP must not end the gateway.
    let hangup = Arc::new(AtomicBool::new(false));
    if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&hangup)) {
        error!(error = %e, "cannot listen for SIGHUP");
        return ExitCode::from(FAILED);
    }
    let mut engine = match Engine::start(config) {
        Ok(engine) => engine,
        Err(e) => {
            error!("{e}");
            return ExitCode::from(FAILED);
        }
    };
    // Not under systemd: nothing to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!(file = %file.display(), "running");
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(TICK);
        engine.tick();
        if hangup.swap(false, Ordering::AcqRel) {
            warn!("reload is not available yet: the running rules stay; restart the gateway to apply a new file");
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if engine.stop() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn check(file: &Path) -> ExitCode {
    match load(file) {
        Ok(config) => {
            let filters: usize = config.blocks.iter().map(|block| block.filters.len()).sum();
            println!("{}: ok: {} ports, {} filters", file.display(), config.ports.len(), filters);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn load(file: &Path) -> Result<Config, ExitCode> {
    tidegate_config::load(file).map_err(|errors: ConfigErrors| {
        eprintln!("{errors}");
        ExitCode::from(USAGE)
    })
}

fn status(socket: &Path, json: bool, watch: Option<u64>) -> ExitCode {
    loop {
        let status = match control::call(socket, &Request::Status) {
            Ok(Reply::Status(status)) => status,
            Ok(Reply::Done) => return refused(&ClientError::Refused("the gateway sent no status".into())),
            Err(e) => return refused(&e),
        };
        if json {
            match serde_json::to_string(&status) {
                Ok(text) => println!("{text}"),
                Err(e) => return refused(&ClientError::Refused(e.to_string())),
            }
        } else {
            // Home and clear, so that the picture stands still.
            let clear = if watch.is_some() && std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            print!("{clear}{}", table::render(&status, color_to_stdout()));
        }
        match watch {
            None => return ExitCode::SUCCESS,
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds.max(1))),
        }
    }
}

fn refused(e: &ClientError) -> ExitCode {
    eprintln!("tidegate: {e}");
    ExitCode::from(match e {
        ClientError::Unreachable { .. } => UNREACHABLE,
        ClientError::Refused(_) => FAILED,
    })
}

fn color_to_stdout() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

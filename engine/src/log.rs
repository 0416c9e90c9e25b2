//! Logs: to the journal under systemd, else to stderr, as text or JSON. Never from the packet path.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Where logs go, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The journal if systemd reads our stderr, else text.
    #[default]
    Auto,
    /// Text on stderr.
    Text,
    /// One JSON object a line on stderr.
    Json,
    /// The journal, with fields.
    Journal,
}

/// Starts logging; call once. `TIDEGATE_LOG` sets the levels, such as `debug` or `info,tidegate_engine=trace`.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = match format {
        Format::Auto => stderr_is_journal(),
        Format::Journal => true,
        Format::Text | Format::Json => false,
    };
    let journal = if journal { tracing_journald::layer().ok() } else { None };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match journal {
        Some(journal) => journal.boxed(),
        None if format == Format::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
        None => {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            tracing_subscriber::fmt::layer().with_ansi(color).with_target(false).with_writer(std::io::stderr).boxed()
        }
    };
    Registry::default().with(layer.with_filter(filter)).init();
}

/// Whether systemd reads our stderr: `JOURNAL_STREAM` names its device and inode. That the variable is set is not
/// enough, a shell that systemd started passes it on.
fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

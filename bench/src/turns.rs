//! Turns: how often and how long something is measured on a core of its own.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_engine::cpu;

/// What the command line says.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Turns {
    /// How often everything takes its turn. Ratios are formed within a round.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long a turn is.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    pub(crate) seconds: f64,
    /// The core on which all take their turns, one while the others wait.
    #[arg(long, default_value_t = 1, value_name = "CORE")]
    pub(crate) core: u16,
}

impl Turns {
    /// # Errors
    /// If a turn has no length, or is more than a minute long.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.seconds > 0.0 && self.seconds <= 60.0, "--seconds: more than 0 and at most 60");
        Ok(())
    }

    /// How long a turn is.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Runs `measure` on the core, in a thread called `name`.
    ///
    /// # Errors
    /// As `measure`, and if there is no such core.
    pub(crate) fn on_core<T: Send>(&self, name: &str, measure: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let measure = || {
                cpu::pin(self.core).with_context(|| format!("--core {}", self.core))?;
                measure()
            };
            let thread = thread::Builder::new().name(name.into()).spawn_scoped(scope, measure)?;
            thread.join().unwrap_or_else(|_| bail!("the measurement panicked"))
        })
    }
}

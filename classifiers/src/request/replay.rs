//! Replay: once more, after an attempt met somebody in the middle of something.

use std::time::Duration;
#[cfg(not(feature = "shuttle"))]
use std::time::Instant;

use crate::block::Core;
use crate::error::{RequestError, Why};
use crate::sync;

/// Attempts that only let others run before the next one.
const YIELDS: u32 = 8;

/// Longest wait for a proto to be destroyed, before looking again.
const PARK: Duration = Duration::from_millis(1);

/// When a request that makes no progress is reported, and when it is given up [RP-4].
#[cfg(not(feature = "shuttle"))]
const LOG_AFTER: Duration = Duration::from_secs(1);
#[cfg(not(feature = "shuttle"))]
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The attempts at one request.
#[derive(Debug, Default)]
pub(super) struct Replay {
    attempts: u32,
    #[cfg(not(feature = "shuttle"))]
    since: Option<Instant>,
    #[cfg(not(feature = "shuttle"))]
    logged: bool,
}

impl Replay {
    /// Whether an attempt was made already: the next one holds the global lock [RP-1].
    pub(super) fn is_replay(&self) -> bool {
        self.attempts > 0
    }

    /// Before the next attempt, without locks: lets whoever is in the way finish.
    ///
    /// # Errors
    /// `Busy` when that took too long [RP-4].
    pub(super) fn back_off(&mut self, core: &Core, why: Why) -> Result<(), RequestError> {
        self.attempts += 1;
        self.check_time(why)?;
        if self.attempts <= YIELDS {
            sync::thread::yield_now();
        } else if why == Why::Dying {
            core.wait_for_deaths(PARK);
        } else {
            sync::pause();
        }
        Ok(())
    }

    #[cfg(not(feature = "shuttle"))]
    fn check_time(&mut self, why: Why) -> Result<(), RequestError> {
        if self.attempts < YIELDS {
            return Ok(()); // most replays are over before a clock is worth reading
        }
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited >= GIVE_UP_AFTER {
            tracing::error!(?why, attempts = self.attempts, "a request made no progress for 10 s and is given up");
            return Err(RequestError::Busy("another request on the same priority does not end"));
        }
        if waited >= LOG_AFTER && !std::mem::replace(&mut self.logged, true) {
            tracing::warn!(?why, attempts = self.attempts, "a request makes no progress for 1 s");
        }
        Ok(())
    }

    /// In a model no time passes.
    #[cfg(feature = "shuttle")]
    fn check_time(&mut self, _: Why) -> Result<(), RequestError> {
        Ok(())
    }
}

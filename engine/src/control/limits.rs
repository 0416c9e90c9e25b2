//! What clients may take, so that none of them stands in another's way.

use std::time::{Duration, Instant};

/// What clients may take. The default is for a gateway of any size.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are refused with `EAGAIN`.
    pub connections: usize,
    /// Connections at a time of one user, so that no user shuts the others out.
    pub connections_per_user: usize,
    /// Largest request, in bytes.
    pub request: u32,
    /// Requests and replies of one connection, in bytes a second. Who asks for more waits.
    pub rate: u32,
    /// Events that one subscriber may be behind. What comes on top is lost to it, and it is told how many.
    pub events: usize,
    /// How long a client may pause within a request, or within taking a reply.
    pub patience: Duration,
    /// How long a subscriber may take nothing.
    pub subscriber_patience: Duration,
    /// How long a client may keep a transaction open without a request.
    pub transaction_patience: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            connections_per_user: 64,
            request: 64 << 10,
            rate: 64 << 20,
            events: 16 << 10,
            patience: Duration::from_secs(5),
            subscriber_patience: Duration::from_secs(60),
            transaction_patience: Duration::from_secs(30),
        }
    }
}

/// How far one may be ahead of the pace.
const AHEAD: Duration = Duration::from_secs(1);

/// Keeps a client to a rate over time.
#[derive(Debug)]
pub(super) struct Pace {
    ns_per_byte: f64,
    /// When all that was taken so far would be due at the rate; in the past for who takes little.
    due: Instant,
}

impl Pace {
    /// For `rate` bytes a second from `now` on.
    pub(super) fn new(rate: u32, now: Instant) -> Pace {
        Pace { ns_per_byte: 1e9 / f64::from(rate.max(1)), due: now }
    }

    /// Takes `bytes`, and returns for how long to wait then.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "messages are far smaller than 2^52 bytes")]
        let time = Duration::from_secs_f64(bytes as f64 * self.ns_per_byte * 1e-9);
        self.due = self.due.max(now) + time;
        self.due.saturating_duration_since(now).saturating_sub(AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_to_the_rate_never_waits_and_who_does_not_waits_for_the_rest() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        for second in 0..10 {
            assert_eq!(pace.take(1000, start + Duration::from_secs(second)), Duration::ZERO);
        }
        let now = start + Duration::from_secs(100);
        assert_eq!(pace.take(1000, now), Duration::ZERO, "a second ahead");
        let pause = pace.take(500, now);
        assert!((pause.as_secs_f64() - 0.5).abs() < 1e-6, "{pause:?}");
    }
}

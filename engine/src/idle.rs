//! What a worker does when no packet waits.

use tidegate_config::Idle;

/// How long an adaptive worker polls in vain before it sleeps: longer than a pause between packets of a busy link,
/// shorter than anybody notices on the bill.
const SPIN_NS: u64 = 50_000;

/// Decides after each burst how to go on.
#[derive(Debug)]
pub struct IdleStrategy {
    idle: Idle,
    /// When the current run of empty bursts began.
    empty_since_ns: Option<u64>,
}

/// How a worker goes on after a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next burst, at once.
    Poll,
    /// With the next burst, after a hint to the processor that this is a spin loop.
    Spin,
    /// With sleep until a packet comes.
    Wait,
}

impl IdleStrategy {
    /// The strategy that the file names.
    pub fn new(idle: Idle) -> Self {
        IdleStrategy { idle, empty_since_ns: None }
    }

    /// What to do after a burst that began at `now_ns` and received so many packets.
    #[inline]
    pub fn after_burst(&mut self, received: usize, now_ns: u64) -> Next {
        if received > 0 {
            self.empty_since_ns = None;
            return Next::Poll;
        }
        let since = *self.empty_since_ns.get_or_insert(now_ns);
        match self.idle {
            Idle::Busy => Next::Spin,
            Idle::Adaptive if now_ns.saturating_sub(since) < SPIN_NS => Next::Spin,
            Idle::Adaptive | Idle::Sleep => Next::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: u64 = 3_600_000_000_000;

    #[test]
    fn busy_never_waits() {
        let mut idle = IdleStrategy::new(Idle::Busy);
        assert_eq!(idle.after_burst(0, 0), Next::Spin);
        assert_eq!(idle.after_burst(0, HOUR_NS), Next::Spin);
    }

    #[test]
    fn sleep_waits_at_once() {
        assert_eq!(IdleStrategy::new(Idle::Sleep).after_burst(0, 0), Next::Wait);
    }

    #[test]
    fn adaptive_spins_then_waits_until_a_packet_comes() {
        let mut idle = IdleStrategy::new(Idle::Adaptive);
        assert_eq!(idle.after_burst(0, HOUR_NS), Next::Spin);
        assert_eq!(idle.after_burst(0, HOUR_NS + SPIN_NS - 1), Next::Spin);
        assert_eq!(idle.after_burst(0, HOUR_NS + SPIN_NS), Next::Wait);
        assert_eq!(idle.after_burst(0, HOUR_NS + 2 * SPIN_NS), Next::Wait);
        assert_eq!(idle.after_burst(1, HOUR_NS + 3 * SPIN_NS), Next::Poll);
        assert_eq!(idle.after_burst(0, HOUR_NS + 4 * SPIN_NS), Next::Spin, "a new run of empty bursts");
    }

    #[test]
    fn packets_never_make_a_worker_idle() {
        for idle in [Idle::Busy, Idle::Adaptive, Idle::Sleep] {
            let mut idle = IdleStrategy::new(idle);
            assert!((0..10).all(|i| idle.after_burst(1, i * HOUR_NS) == Next::Poll));
        }
    }
}

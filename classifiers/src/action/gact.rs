//! gact: a verdict, possibly by chance [AK-GACT].

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::classify::Walk;
use crate::counters::Counters;
use crate::port::Egress;
use crate::verdict::Control;

/// Generic verdict [AK-GACT].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GactSpec {
    /// What it says, or says unless the dice fall otherwise.
    pub control: Control,
    /// The other verdict, and when it is taken. Its verdict cannot be `Goto` [AC-10].
    pub random: Option<Random>,
}

/// When a generic verdict takes its second verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    /// How it is decided.
    pub mode: RandomMode,
    /// The second verdict.
    pub control: Control,
    /// One in this many; 0 counts as 1.
    pub one_in: u16,
}

/// How a generic verdict decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomMode {
    /// `netrand`: with probability 1 / one_in.
    Netrand,
    /// `determ`: every one_in-th packet.
    Determ,
}

/// Says its verdict; a drop is counted in `stats`. `seen` counts packets for `random determ`.
#[inline]
pub(super) fn run<E: Egress>(spec: &GactSpec, seen: &AtomicU32, stats: &Counters, cx: &mut Walk<'_, '_, E>) -> Control {
    let control = match spec.random {
        Some(random) if is_second(random, seen, cx.rng) => random.control,
        _ => spec.control,
    };
    if control == Control::Shot {
        stats.drop_one(cx.worker);
    }
    control
}

#[inline]
fn is_second(random: Random, seen: &AtomicU32, rng: &mut fastrand::Rng) -> bool {
    let one_in = random.one_in.max(1);
    match random.mode {
        RandomMode::Netrand => rng.u16(..one_in) == 0,
        RandomMode::Determ => {
            let packet = seen.fetch_add(1, Relaxed).wrapping_add(1);
            packet.is_multiple_of(u32::from(one_in))
        }
    }
}

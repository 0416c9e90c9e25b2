//! gact: a verdict, possibly by chance [AK-GACT].

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::classify::Context;
use crate::counters::Counters;
use crate::port::Egress;
use crate::request::{GactSpec, Random, RandomMode};
use crate::verdict::Control;

/// A generic verdict.
#[derive(Debug)]
pub(crate) struct Gact {
    spec: GactSpec,
    /// Packets seen by `random determ`: one count for all workers.
    seen: AtomicU32,
}

impl Gact {
    pub(crate) fn new(spec: GactSpec) -> Gact {
        Gact { spec, seen: AtomicU32::new(0) }
    }

    pub(crate) fn spec(&self) -> GactSpec {
        self.spec
    }

    /// Says its verdict; a drop is counted in `stats`.
    #[inline]
    pub(crate) fn run<E: Egress>(&self, stats: &Counters, cx: &mut Context<'_, E>) -> Control {
        let control = match self.spec.random {
            Some(random) if self.is_second(random, cx.rng) => random.control,
            _ => self.spec.control,
        };
        if control == Control::Shot {
            stats.drop_one(cx.worker);
        }
        control
    }

    #[inline]
    fn is_second(&self, random: Random, rng: &mut fastrand::Rng) -> bool {
        let one_in = random.one_in.max(1);
        match random.mode {
            RandomMode::Netrand => rng.u16(..one_in) == 0,
            RandomMode::Determ => {
                let packet = self.seen.fetch_add(1, Relaxed).wrapping_add(1);
                packet.is_multiple_of(u32::from(one_in))
            }
        }
    }
}

//! sample: some packets, picked by chance, are shown to whoever listens [AK-SAMPLE].

use crate::classify::Walk;
use crate::counters::Counters;
use crate::error::RequestError;
use crate::port::Egress;
use crate::verdict::Control;

/// Which packets are shown, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleSpec {
    /// One in this many, by chance; not 0.
    pub rate: u32,
    /// Who listens to this number is shown them.
    pub group: u32,
    /// Bytes that are shown of a packet, from its Ethernet header on; all, if it is not given.
    pub trunc: Option<u32>,
    /// Verdict after it.
    pub control: Control,
}

impl SampleSpec {
    /// Whether packets can be picked so.
    pub(super) fn validate(&self) -> Result<(), RequestError> {
        match self.rate {
            0 => Err(RequestError::Invalid("sample: the rate is 0")),
            _ => Ok(()),
        }
    }
}

/// Shows the packet by chance; what a listener has no room for is counted in `stats` as overlimit.
#[inline]
pub(super) fn run<E: Egress>(spec: &SampleSpec, stats: &Counters, cx: &mut Walk<'_, '_, E>) -> Control {
    let now_ns = cx.now_ns;
    if cx.rng.u32(..spec.rate) == 0 && !cx.egress.sample(spec, now_ns) {
        stats.overlimit_one(cx.worker);
    }
    spec.control
}

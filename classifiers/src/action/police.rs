//! police: what goes beyond a rate meets another verdict [AK-POLICE].

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::classify::Walk;
use crate::counters::Counters;
use crate::error::RequestError;
use crate::packet::Packet;
use crate::port::Egress;
use crate::verdict::Control;
use crate::wire::ethernet;

/// What a policer is given. Lengths count from the L3 header, as those of statistics do [ST-4].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoliceSpec {
    /// How much conforms.
    pub limit: Limit,
    /// Longest packet that conforms, in bytes, with the Ethernet header. Without: [`PoliceSpec::mtu`].
    pub mtu: Option<u32>,
    /// Bytes that each packet counts more than it has.
    pub overhead: u16,
    /// Bytes that a packet counts at least, with the overhead.
    pub mpu: u32,
    /// Packets count what they take in ATM cells.
    pub atm: bool,
    /// Verdict for what does not conform.
    pub exceed: Control,
    /// Verdict for what does; no `Goto` [AC-10].
    pub conform: Control,
}

/// How much conforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Any number of packets, if they are not too long.
    Length,
    /// A rate in bytes.
    Bytes {
        /// Bytes a second.
        rate: u64,
        /// Bytes that may come at once.
        burst: u32,
        /// Bytes a second that [`PoliceSpec::mtu`] bytes may not come faster than.
        peak: Option<u64>,
    },
    /// A rate in packets.
    Packets {
        /// Packets a second.
        rate: u64,
        /// Packets that may come at once.
        burst: u32,
    },
}

impl PoliceSpec {
    /// Bytes of a packet without a limit of its own where there is a rate: what Linux derives from the size of its tables.
    pub const DEFAULT_MTU: u32 = 2040;

    /// Longest packet that conforms, in bytes, with the Ethernet header.
    pub fn mtu(&self) -> u32 {
        self.mtu.unwrap_or(match self.limit {
            Limit::Bytes { .. } => PoliceSpec::DEFAULT_MTU,
            Limit::Length | Limit::Packets { .. } => u32::MAX,
        })
    }

    /// What a packet counts that is `len` bytes long.
    fn bytes(&self, len: u32) -> u64 {
        let len = (u64::from(len) + u64::from(self.overhead)).max(self.mpu.into());
        if self.atm { len.div_ceil(48) * 53 } else { len }
    }
}

/// A policer: what it was given, and how full its buckets are. It is shared by all filters and workers that have the action.
/// A clone has full buckets.
#[derive(Debug)]
pub struct Police {
    spec: PoliceSpec,
    rate: Option<Bucket>,
    peak: Option<Bucket>,
}

impl Police {
    /// With full buckets.
    pub fn new(spec: PoliceSpec) -> Police {
        let (rate, peak) = match spec.limit {
            Limit::Length => (None, None),
            Limit::Bytes { rate, burst, peak } => {
                // The peak's bucket holds the longest packet, as it is counted.
                let longest = spec.bytes(spec.mtu());
                (Some(Bucket::new(rate, burst.into())), peak.map(|peak| Bucket::new(peak, longest)))
            }
            Limit::Packets { rate, burst } => (Some(Bucket::new(rate, burst.into())), None),
        };
        Police { spec, rate, peak }
    }

    /// Whether there can be such a policer.
    pub(super) fn validate(&self) -> Result<(), RequestError> {
        match self.limit {
            Limit::Bytes { rate: 0, .. } | Limit::Packets { rate: 0, .. } => {
                Err(RequestError::Invalid("police: the rate is 0"))
            }
            Limit::Bytes { burst: 0, .. } | Limit::Packets { burst: 0, .. } => {
                Err(RequestError::Invalid("police: a rate needs a burst"))
            }
            Limit::Bytes { peak: Some(0), .. } => Err(RequestError::Invalid("police: the peak rate is 0")),
            Limit::Bytes { peak: Some(_), .. } if self.mtu.is_none() => {
                Err(RequestError::Invalid("police: a peak rate needs an mtu"))
            }
            Limit::Length if self.mtu.is_none() => Err(RequestError::Invalid("police: neither a rate nor an mtu")),
            _ => Ok(()),
        }
    }

    /// Takes what a packet of `len` bytes costs, if all of it is there.
    #[inline]
    fn take(&self, len: u32, now_ns: u64) -> bool {
        let cost = match self.limit {
            Limit::Packets { .. } => 1,
            Limit::Length | Limit::Bytes { .. } => self.bytes(len),
        };
        let Some(rate) = &self.rate else { return true };
        if !rate.take(cost, now_ns) {
            return false;
        }
        let taken = self.peak.as_ref().is_none_or(|peak| peak.take(cost, now_ns));
        if !taken {
            rate.give_back(cost);
        }
        taken
    }
}

impl Deref for Police {
    type Target = PoliceSpec;

    fn deref(&self) -> &PoliceSpec {
        &self.spec
    }
}

impl Clone for Police {
    fn clone(&self) -> Police {
        Police::new(self.spec)
    }
}

impl PartialEq for Police {
    fn eq(&self, other: &Police) -> bool {
        self.spec == other.spec
    }
}

/// A token bucket. Tokens are time, so it fills by itself; one number says when it will be full again.
#[derive(Debug)]
struct Bucket {
    /// What a unit costs, in 2^-20 ticks.
    price: u64,
    /// Ticks until an empty bucket is full.
    depth: u64,
    /// The tick at which it will be full, if nothing is taken.
    full_at: AtomicU64,
}

/// Ticks of a nanosecond: a byte at 100 Gbit/s takes more than one.
const TICKS_PER_NS: u64 = 16;

impl Bucket {
    /// A full one for `size` units, of which `rate` come in a second.
    fn new(rate: u64, size: u64) -> Bucket {
        let price = ((TICKS_PER_NS * 1_000_000_000) << 20) / rate.max(1);
        Bucket { price, depth: ticks(size, price), full_at: AtomicU64::new(0) }
    }

    /// Takes `units`, if that many are there. No two packets get the same token.
    #[inline]
    fn take(&self, units: u64, now_ns: u64) -> bool {
        let now = now_ns.saturating_mul(TICKS_PER_NS);
        let cost = ticks(units, self.price);
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let later = full_at.max(now).saturating_add(cost);
            (later - now <= self.depth).then_some(later)
        });
        taken.is_ok()
    }

    /// Puts back what [`Bucket::take`] has taken. Packets that came between have not seen it.
    fn give_back(&self, units: u64) {
        self.full_at.fetch_sub(ticks(units, self.price), Relaxed);
    }
}

/// What `units` cost.
#[inline]
fn ticks(units: u64, price: u64) -> u64 {
    u64::try_from((u128::from(units) * u128::from(price)) >> 20).unwrap_or(u64::MAX)
}

/// Says one verdict or the other; what exceeds is counted in `stats` as overlimit, and what is dropped.
#[inline]
pub(super) fn run<E: Egress>(police: &Police, stats: &Counters, packet: &Packet, cx: &mut Walk<'_, '_, E>) -> Control {
    let len = packet.l3_len();
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    let fits = len.saturating_add(ethernet::LEN as u32) <= police.mtu();
    let control = if fits && police.take(len, cx.now_ns) {
        police.conform
    } else {
        stats.overlimit_one(cx.worker);
        police.exceed
    };
    if control == Control::Shot {
        stats.drop_one(cx.worker);
    }
    control
}

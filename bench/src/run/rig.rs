//! A gateway, or what it is compared with, between the two ends of the tester, and one trial after the other.
//!
//! ```text
//!  outside: tester ── far-in ═══ in  gateway  out ═══ far-out ── tester
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tidegate_classifiers::verdict::DropReason;
use tidegate_client::status::{PortStatus, Status};
use tidegate_engine::cpu;

use super::forwarder::{Forwarder, Kind};
use super::report::{Inside, Latency, TrialReport};
use super::trouble::{Done, Trouble};
use crate::Idle;
use crate::disturbance::{waited, waited_by};
use crate::gateway::Gateway;
use crate::scenario::Scenario;
use crate::scenario::filters::{BLOCK, Filters};
use crate::tester::pace::Pace;
use crate::tester::wire::XskWire;
use crate::tester::{self, Load, Trial};
use crate::topology::{Placement, Topology, far_end};

/// The first one that ports share.
const BLOCK_INDEX: u32 = 1;
/// Traffic before anything counts: rate and time, and how often until nothing is lost. The ports' links went down and up when the
/// tester came.
const WARM_UP: (u32, Duration) = (10_000, Duration::from_millis(200));
const WARM_UPS: usize = 10;
/// Packets that wait for a worker without a core, at most: those in the veth pair's ring and on the receiving side of the socket.
const HELD_MAX: u64 = 256 + 2 * 2048;
const THIS_THREAD: &str = "/proc/thread-self";

/// Everything that a trial takes.
pub(crate) struct Rig {
    placement: Placement,
    filters: Filters,
    wire: XskWire,
    trouble: Option<Trouble>,
    forwarder: Forwarder,
    trials: u16,
    /// Packets sent in all trials so far and not received by the gateway: those that are not lost come in the next one.
    under_way: u64,
    /// Dropped last: the others live in it.
    _topology: Topology,
}

/// How a gateway is set up, besides the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) placement: Placement,
    /// What the worker does when no packet waits.
    pub(crate) idle: Idle,
    /// Folder of ClassBench's sets.
    pub(crate) data: &'a Path,
    pub(crate) seed: u64,
}

/// What a gateway counted.
#[derive(Clone, Debug, Default)]
struct Counted {
    received: u64,
    sent: u64,
    by_filter: u64,
    /// By reason, of all ports.
    dropped: BTreeMap<String, u64>,
    imbalance: i64,
}

impl Rig {
    /// Starts everything, with the filters of `scenario` in place, and sends until nothing is lost.
    ///
    /// # Errors
    /// If something is missing or does not start.
    pub(crate) fn start(scenario: &Scenario, setup: &Setup<'_>, kind: Kind) -> Result<Rig> {
        let Setup { placement, idle, data, seed } = *setup;
        let filters = Filters::new(scenario, data, seed)?;
        let topology = Topology::new("run", &["in", "out"])?;
        let folder = topology.folder()?;
        let settings = format!(
            "[workers]\ncount = 1\ncores = [{}]\nidle = \"{}\"\n\n[control]\nsocket = \"{}\"\n\n\
             [port.in]\nforward_to = \"out\"\nblock = \"{BLOCK}\"\n\n[port.out]\nforward_to = \"in\"\nblock = \"{BLOCK}\"\n\n[block.{BLOCK}]\n",
            placement.worker,
            idle.name(),
            folder.join("control.sock").display(),
        );
        let forwarder = kind.start(&topology.gateway, &placement, &folder, &settings, &filters)?;
        let trouble = match forwarder.gateway() {
            None => None,
            Some(gateway) => {
                let block = gateway.plane().block(BLOCK_INDEX)?;
                filters.request(&block)?;
                let text = filters.with(&settings);
                scenario.disturbance.map(|disturbance| Trouble::new(disturbance, &block, &folder, &text))
            }
        };
        let wire = XskWire::open(&topology.outside, &far_end("in"), &far_end("out"))?;
        let trouble = trouble.transpose()?;
        let mut rig =
            Rig { placement, filters, wire, trouble, forwarder, trials: 0, under_way: 0, _topology: topology };
        for _ in 0..WARM_UPS {
            if rig.trial(WARM_UP.0, WARM_UP.1, false)?.0.counts.lost == 0 {
                break;
            }
        }
        Ok(rig)
    }

    /// Sends `rate` packets a second for `span`, with the scenario's disturbance beside it if `disturbed`. Also the latency of
    /// each packet, in ns.
    ///
    /// # Errors
    /// If a part of it fails.
    pub(crate) fn trial(
        &mut self,
        rate: u32,
        span: Duration,
        disturbed: bool,
    ) -> Result<(TrialReport, Histogram<u64>)> {
        self.trials = self.trials.wrapping_add(1);
        let load = Load { run: self.trials, pace: Pace { rate }, span_ns: u64::try_from(span.as_nanos())? };
        let Rig { placement, filters, wire, trouble, forwarder, under_way, .. } = self;
        let core = placement.generator;
        let counted = || forwarder.gateway().map(Counted::of).transpose();
        let worker_waited = || forwarder.thread().map_or(Ok(Duration::ZERO), waited);
        let (before, missed, waited_before) = (counted()?, wire.missed(), worker_waited()?);
        let (stop, begin) = (AtomicBool::new(false), Instant::now());
        let (trial, tester_core_lost, done) = thread::scope(|scope| {
            let test = || -> Result<(Trial, f64)> {
                cpu::pin(core).with_context(|| format!("core {core}"))?;
                let (waited, clock) = (waited_by(THIS_THREAD.as_ref())?, Instant::now());
                let trial = tester::run(wire, &filters.flows, load);
                stop.store(true, Ordering::Relaxed);
                let waited = waited_by(THIS_THREAD.as_ref())? - waited;
                Ok((trial?, waited.div_duration_f64(clock.elapsed())))
            };
            let tester = thread::Builder::new().name("tester".into()).spawn_scoped(scope, test)?;
            let trouble = trouble.as_mut().filter(|_| disturbed).zip(forwarder.gateway()).map(|(trouble, gateway)| {
                scope.spawn(|| -> Result<Done> {
                    cpu::pin(core)?;
                    trouble.make(gateway, &stop, begin)
                })
            });
            let tested = tester.join().unwrap_or_else(|_| bail!("it panicked")).context("tester");
            stop.store(true, Ordering::Relaxed);
            let done =
                trouble.map(|thread| thread.join().unwrap_or_else(|_| bail!("it panicked")).context("disturbance"));
            let (trial, core_lost) = tested?;
            anyhow::Ok((trial, core_lost, done.transpose()?))
        })?;
        let worker_core_lost = worker_waited()?.saturating_sub(waited_before).div_duration_f64(begin.elapsed());
        let inside = counted()?.zip(before).map(|(after, before)| after.since(&before));
        let missed = wire.missed() - missed;
        let offered = trial.offered();
        let Trial { balance, unsent, lag, sending_ns } = trial;
        let counts = balance.counts;
        let report = TrialReport {
            rate,
            #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
            seconds: sending_ns as f64 / 1e9,
            offered,
            counts,
            faults: balance.faults,
            slowest: balance.slowest,
            wrongly_dropped: match &inside {
                Some(inside) => {
                    let due = counts.sent - counts.must_arrive + (*under_way).min(HELD_MAX);
                    *under_way = (*under_way + counts.sent).saturating_sub(inside.received);
                    inside.by_filter.saturating_sub(due)
                }
                None => 0,
            },
            unsent,
            missed,
            inside: inside.map(|Counted { received, sent, by_filter, dropped, imbalance }| Inside {
                lost_before: counts.sent.saturating_sub(received),
                received,
                by_filter,
                lost: dropped,
                sent,
                imbalance,
            }),
            latency: Latency::of(&balance.latency),
            lag: Latency::of(&lag),
            worker_core_lost,
            tester_core_lost,
            done,
            timeline: balance.timeline,
        };
        Ok((report, balance.latency))
    }

    /// How the gateway's queues are bound, in the words of `tidegate status`; nothing if there is none.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) fn mode(&self) -> Result<String> {
        let status = self.forwarder.gateway().map(Gateway::brief_status).transpose()?;
        Ok(status.and_then(|status| status.ports.into_iter().next()).map(|port| port.mode).unwrap_or_default())
    }

    /// Flows that are sent.
    pub(crate) fn flows(&self) -> usize {
        self.filters.flows.len()
    }

    /// Stops everything.
    ///
    /// # Errors
    /// If the gateway lost a frame or left something behind.
    pub(crate) fn stop(self) -> Result<()> {
        let Rig { forwarder, wire, trouble, .. } = self;
        drop((wire, trouble));
        forwarder.stop()
    }
}

impl Counted {
    fn of(gateway: &Gateway) -> Result<Counted> {
        Ok(Counted::from(&gateway.brief_status()?))
    }

    /// What was added after `before`.
    fn since(mut self, before: &Counted) -> Counted {
        for (reason, packets) in &mut self.dropped {
            *packets -= before.dropped.get(reason).copied().unwrap_or(0);
        }
        self.dropped.retain(|_, packets| *packets > 0);
        Counted {
            received: self.received - before.received,
            sent: self.sent - before.sent,
            by_filter: self.by_filter - before.by_filter,
            dropped: self.dropped,
            imbalance: self.imbalance - before.imbalance,
        }
    }
}

impl From<&Status> for Counted {
    fn from(status: &Status) -> Counted {
        let sum = |count: fn(&PortStatus) -> u64| status.ports.iter().map(count).sum();
        let mut dropped = BTreeMap::new();
        for reason in DropReason::ALL.into_iter().filter(|&reason| reason != DropReason::Filter) {
            let packets = status.ports.iter().map(|port| port.totals.dropped[reason.index()]).sum();
            dropped.insert(reason.name().to_owned(), packets);
        }
        Counted {
            received: sum(|port| port.totals.rx_packets),
            sent: sum(|port| port.totals.tx_packets),
            by_filter: sum(|port| port.totals.dropped[DropReason::Filter.index()]),
            dropped,
            imbalance: status.ports.iter().map(|port| port.totals.balance()).sum(),
        }
    }
}

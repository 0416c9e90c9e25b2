//! The engine's account of itself, and its answers to the control socket.

use std::collections::BTreeMap;
use std::iter::repeat;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_cache;
use tidegate_classifiers::plane::{Direction, Hook};
use tidegate_classifiers::port::WorkerId;
use tidegate_classifiers::request::{self, ChainCost};
use tidegate_client::status::{ChainStatus, FlowCacheStatus, PortStatus, QueueStatus, Rates, Status, WorkerStatus};
use tidegate_client::wire::Refusal;
use tidegate_config::{ForwardTo, OnExit};
use tidegate_xdp_prog::{AttachMode, GateCounters};

use crate::control::Gateway;
use crate::counters::Totals;
use crate::engine::{Inner, lock};
use crate::reload::Desk;
use crate::samples::Listener;
use crate::site::Stage;

/// Chains of a report.
const CHAINS_MAX: usize = 100;

/// Span over which rates are averaged.
const SPAN: Duration = Duration::from_secs(1);

/// The rates of a port, and what they are made of.
#[derive(Debug)]
pub(crate) struct RateMeter {
    since: Instant,
    last: Totals,
    current: Rates,
}

impl RateMeter {
    pub(crate) fn new() -> Self {
        RateMeter { since: Instant::now(), last: Totals::default(), current: Rates::default() }
    }
}

impl Inner {
    /// Measures the rates anew, once a second.
    pub(crate) fn update_rates(&self) {
        for port in self.site.ports().iter_mut() {
            let seconds = port.meter.since.elapsed();
            if seconds >= SPAN {
                let now = self.shared.counters.port(port.id());
                let current = rate(&now, &port.meter.last, seconds.as_secs_f64());
                port.meter = RateMeter { since: Instant::now(), last: now, current };
            }
        }
    }

    fn report(&self) -> Status {
        let ports = self.site.ports();
        let workers = lock(&self.workers);
        let name_of = |id| ports.iter().find(|port| port.id() == id).map_or("", |port| &port.config.name);
        let there = ports.iter().filter(|port| port.stage != Stage::Coming);
        let reported = there.map(|open| {
            let (id, port) = (open.id(), &open.config);
            let queues: Vec<QueueStatus> = workers
                .iter()
                .zip(0..)
                .flat_map(|(info, worker)| {
                    info.crew.iter().flat_map(move |crew| crew.sockets.queues()).zip(repeat(worker))
                })
                .filter(|((owner, ..), _)| *owner == id)
                .map(|((_, queue, zero_copy), worker)| QueueStatus {
                    queue,
                    worker,
                    zero_copy,
                    totals: self.shared.counters.queue(WorkerId(worker), id),
                })
                .collect();
            let mode = match &open.hook {
                None => "detached",
                Some(hook) if hook.mode() == AttachMode::Generic => "generic",
                Some(_) if !queues.is_empty() && queues.iter().all(|queue| queue.zero_copy) => "zero-copy",
                Some(_) => "native",
            };
            PortStatus {
                name: port.name.clone(),
                interface: port.interface.clone(),
                link: open.state.link().name().into(),
                mode: mode.into(),
                forward_to: match port.forward_to {
                    ForwardTo::Port(target) => name_of(target).into(),
                    ForwardTo::Host => "host".into(),
                },
                on_exit: match port.on_exit {
                    OnExit::Pass => "pass".into(),
                    OnExit::Drop => "drop".into(),
                },
                gate: open
                    .hook
                    .as_ref()
                    .and_then(|hook| hook.counters().ok())
                    .map_or_else(BTreeMap::new, |counters| gate_status(counters, port.on_exit)),
                queues,
                totals: self.shared.counters.port(id),
                rates: open.meter.current,
            }
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            ports: reported.collect(),
            workers: workers
                .iter()
                .zip(0..)
                .map(|(info, number)| WorkerStatus {
                    worker: number,
                    core: self.config.workers.cores.get(usize::from(number)).copied(),
                    state: if info.running { "running" } else { "restarting" }.into(),
                    bursts: self.shared.bursts.count(WorkerId(number)),
                    restarts: info.restarts,
                    frames: info.frames,
                    flow_cache: self.flow_cache(WorkerId(number)),
                })
                .collect(),
            chains: self.chains(),
            filters: Vec::new(),
            reload: self.desk.status(),
        }
    }

    /// The chains where packets cost most.
    fn chains(&self) -> Vec<ChainStatus> {
        let blocks = self.rules.directory().named_blocks();
        let costs =
            blocks.iter().flat_map(|(name, block)| request::survey(block).into_iter().map(move |cost| (name, cost)));
        let mut chains: Vec<ChainStatus> = costs
            .map(|(name, ChainCost { chain, filters, masks, probes, walked })| ChainStatus {
                block: name.to_string(),
                chain,
                filters: filters as u64,
                masks: masks as u64,
                probes: (10.0 * probes).round() / 10.0,
                walked: walked as u64,
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "of a few thousand")]
        let cost = |chain: &ChainStatus| chain.probes + chain.walked as f64;
        chains.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        chains.truncate(CHAINS_MAX);
        chains
    }

    fn flow_cache(&self, worker: WorkerId) -> Option<FlowCacheStatus> {
        let wanted = self.config.workers.flow_cache;
        let counts = self.shared.counters.flow_cache(worker);
        (wanted > 0).then(|| FlowCacheStatus {
            entries: flow_cache::entries(wanted) as u64,
            hits: counts.hits,
            misses: counts.misses,
            passed_by: counts.passed_by,
            hit_rate: counts.hit_rate(),
        })
    }
}

impl Gateway for Inner {
    fn status(&self) -> Status {
        self.report()
    }

    fn restart_worker(&self, worker: u16) -> Result<(), Refusal> {
        let mut workers = lock(&self.workers);
        let count = workers.len();
        let info = workers.get_mut(usize::from(worker)).ok_or_else(|| {
            Refusal::new("ENOENT", format!("there is no worker {worker}; they are numbered 0 to {}", count - 1))
        })?;
        info.restart_wanted = true;
        Ok(())
    }

    fn attach(&self, hook: Hook, block: Option<Arc<Block>>) -> Result<(), Refusal> {
        if hook.direction == Direction::Egress {
            return Err(Refusal::new("EOPNOTSUPP", "packets meet filters at ingress only"));
        }
        let Some(port) = self.shared.ports().get(hook.port).cloned() else {
            return Err(Refusal::new("ENODEV", "there is no such port"));
        };
        let before = port.set_block(block);
        if before.is_some() {
            self.grace();
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    fn listen(&self, group: Option<u32>) -> Result<Listener, Refusal> {
        self.shared.samples.listen(group).ok_or_else(|| Refusal::new("EAGAIN", "there are too many who listen"))
    }

    fn desk(&self) -> Result<&Desk, Refusal> {
        Ok(&self.desk)
    }
}

fn rate(now: &Totals, last: &Totals, seconds: f64) -> Rates {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
    Rates {
        received_pps: per_second(now.rx_packets, last.rx_packets),
        received_bps: 8.0 * per_second(now.rx_bytes, last.rx_bytes),
        sent_pps: per_second(now.tx_packets, last.tx_packets),
        sent_bps: 8.0 * per_second(now.tx_bytes, last.tx_bytes),
        dropped_pps: per_second(now.dropped_packets(), last.dropped_packets()),
    }
}

fn gate_status(counters: GateCounters, on_exit: OnExit) -> BTreeMap<String, u64> {
    let unread = match on_exit {
        OnExit::Pass => "unread_passed",
        OnExit::Drop => "unread_dropped",
    };
    [
        ("redirected", counters.redirected),
        ("host_arp", counters.host_arp),
        ("host_nd", counters.host_nd),
        ("host_listed", counters.host_listed),
        ("host_returned", counters.host_returned),
        (unread, counters.unread),
    ]
    .into_iter()
    .map(|(outcome, packets)| (outcome.to_owned(), packets))
    .collect()
}

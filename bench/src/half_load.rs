//! Traffic at half of what the gateway can forward, while filters come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tidegate_engine::cpu;

use crate::Idle;
use crate::disturbance::waited;
use crate::forward::{packet, still};
use crate::gateway::{self, Gateway};
use crate::generator::{Generator, Traffic};
use crate::reload::PAUSE;
use crate::report::Summary;
use crate::sink::Sink;
use crate::storm::{Storm, blow};
use crate::topology::{Placement, Topology, far_end};

/// Tries to find out how much can be forwarded: the best one counts.
const TRIES: usize = 3;
/// In bytes.
const PACKET_SIZE: u16 = 64;
/// The block of both ports: the first in the file.
const BLOCK: u32 = 1;
/// A priority before the one that the traffic's filter has, so that every packet is looked up in the storm's proto.
const BEFORE_TRAFFIC: u32 = 1;
const OTHER_CHAIN: u32 = 7;

/// What runs on the generator's core beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Beside {
    /// Nothing.
    Nothing,
    /// A loop that touches nothing: takes as much of the core as a storm does.
    Loop,
    /// A storm on a chain that no packet sees.
    OtherChain,
    /// A storm on the chain of the traffic, in a proto that every packet is looked up in.
    SameChain,
}

/// One round beside one thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadRound {
    /// Packets that the generator sent.
    pub(crate) sent: u64,
    /// Those that the gateway did not receive: the veth pair's ring or the socket's was full.
    pub(crate) lost_before: u64,
    /// Received and not sent on.
    pub(crate) lost_inside: u64,
    /// Sent on and not arrived.
    pub(crate) lost_after: u64,
    /// Packets a second.
    pub(crate) pps: f64,
    /// Adds and deletes a second.
    pub(crate) operations: f64,
    /// Share of the time for which others had the worker's core.
    pub(crate) core_lost: f64,
}

/// All rounds beside one thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadVariant {
    /// What.
    pub(crate) beside: Beside,
    /// Share of the packets that were lost, wherever.
    pub(crate) lost: Summary,
    /// One after the other.
    pub(crate) rounds: Vec<LoadRound>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HalfLoad {
    /// Packets a second that the gateway forwarded when there was no limit.
    pub(crate) whole_pps: f64,
    /// Which core does what.
    pub(crate) placement: String,
    /// One for each thing beside.
    pub(crate) variants: Vec<LoadVariant>,
}

impl Beside {
    pub(crate) const ALL: [Beside; 4] = [Beside::Nothing, Beside::Loop, Beside::OtherChain, Beside::SameChain];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "nothing beside it",
            Beside::Loop => "an empty loop beside it",
            Beside::OtherChain => "storm on another chain",
            Beside::SameChain => "storm on the same chain",
        }
    }
}

impl LoadRound {
    /// Share of the packets that were lost, wherever.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub(crate) fn lost(&self) -> f64 {
        (self.lost_before + self.lost_inside + self.lost_after) as f64 / self.sent.max(1) as f64
    }
}

/// `rounds` rounds of `span` beside each thing in turn, with `present` filters in the storms' protos.
///
/// # Errors
/// If something does not start or stop, or a request is refused.
pub(crate) fn measure(placement: &Placement, present: usize, rounds: u32, span: Duration) -> Result<HalfLoad> {
    let topology = Topology::new("update", &["in", "out"])?;
    let sink = Sink::attach(&topology.outside, &far_end("out"))?;
    let folder = topology.folder()?;
    let text = format!(
        "[workers]\ncount = 1\ncores = [{}]\nidle = \"{}\"\n\n[control]\nsocket = \"{}\"\n\n\
         [port.in]\nforward_to = \"out\"\nblock = \"edge\"\n\n[port.out]\nforward_to = \"in\"\nblock = \"edge\"\n\n\
         [block.edge.chains]\nstorm = {OTHER_CHAIN}\n\n[[filter]]\non = \"edge\"\nname = \"traffic\"\npriority = 10\nmatch = {{ ip_proto = \"udp\" }}\naction = \"pass\"\n",
        placement.worker,
        Idle::Busy.name(),
        folder.join("control.sock").display(),
    );
    let gateway = Gateway::start(&topology.gateway, gateway::config(&folder, &text)?, placement.generator)?;
    let block = gateway.plane().block(BLOCK)?;
    let [mut here, mut elsewhere] =
        [(0, BEFORE_TRAFFIC), (OTHER_CHAIN, 1)].map(|(chain, priority)| Storm::new(&block, chain, priority, 0));
    here.fill(present)?;
    elsewhere.fill(present)?;

    let lane = Lane { placement, topology: &topology, sink: &sink, gateway: &gateway };
    let (whole_pps, half) = lane.whole_and_half(span)?;
    let mut variants = Beside::ALL.map(|beside| (beside, Vec::new()));
    for _ in 0..rounds {
        for (beside, rounds) in &mut variants {
            let core = placement.generator;
            rounds.push(lane.run(Some(half), span, &mut |span| match beside {
                Beside::Nothing => beside_nothing(span),
                Beside::Loop => beside_loop(core, span),
                Beside::OtherChain => beside_storm(&mut elsewhere, core, span),
                Beside::SameChain => beside_storm(&mut here, core, span),
            })?);
        }
    }
    drop((here, elsewhere, block));
    ensure!(gateway.stop()?, "the gateway lost a frame, or does not account for a packet");
    let variants = variants.map(|(beside, rounds)| LoadVariant {
        beside,
        lost: Summary::of(rounds.iter().map(LoadRound::lost)),
        rounds,
    });
    Ok(HalfLoad {
        whole_pps,
        placement: format!("{placement}; the storm is on core {}, with the generator", placement.generator),
        variants: variants.into(),
    })
}

/// What was lost beside reloads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReloadLoss {
    /// Packets a second, half of what could be forwarded.
    pub(crate) pps: f64,
    /// Turns without reloads.
    pub(crate) without: Vec<LoadRound>,
    /// Turns with reloads; their operations are reloads a second.
    pub(crate) during: Vec<LoadRound>,
}

/// `rounds` rounds of `span` without reloads and with, of the filters that `filters` writes: those of the first file or of the
/// second one. None of them matches the traffic.
///
/// # Errors
/// If something does not start or stop, or a reload is refused.
pub(crate) fn beside_reloads(
    placement: &Placement,
    rounds: u32,
    span: Duration,
    filters: impl Fn(bool) -> String,
) -> Result<ReloadLoss> {
    let topology = Topology::new("reload", &["in", "out"])?;
    let sink = Sink::attach(&topology.outside, &far_end("out"))?;
    let folder = topology.folder()?;
    let text = |second: bool| {
        format!(
            "[workers]\ncount = 1\ncores = [{}]\nidle = \"{}\"\n[control]\nsocket = \"{}\"\n\
             [port.in]\nforward_to = \"out\"\n[port.out]\nforward_to = \"in\"\n{}",
            placement.worker,
            Idle::Busy.name(),
            folder.join("control.sock").display(),
            filters(second)
        )
    };
    let texts = [text(true), text(false)];
    let gateway = Gateway::start(&topology.gateway, gateway::config(&folder, &texts[1])?, placement.generator)?;
    let lane = Lane { placement, topology: &topology, sink: &sink, gateway: &gateway };
    let (_, half) = lane.whole_and_half(span)?;
    let mut reloads: usize = 0;
    let mut reload = |span: Duration| -> Result<f64> {
        let (started, before) = (Instant::now(), reloads);
        while started.elapsed() < span {
            gateway::config(&folder, &texts[reloads % 2])?;
            gateway.reload()?;
            reloads += 1;
            sleep(PAUSE);
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let made = (reloads - before) as f64;
        Ok(made / started.elapsed().as_secs_f64())
    };
    let (mut without, mut during) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(lane.run(Some(half), span, &mut |span| beside_loop(placement.generator, span))?);
        during.push(lane.run(Some(half), span, &mut reload)?);
    }
    ensure!(gateway.stop()?, "the gateway lost a frame, or does not account for a packet");
    Ok(ReloadLoss { pps: half.into(), without, during })
}

struct Lane<'a> {
    placement: &'a Placement,
    topology: &'a Topology,
    sink: &'a Sink,
    gateway: &'a Gateway,
}

impl Lane<'_> {
    /// How much can be forwarded beside nothing, the best of some tries, and half of it to send, in packets a second.
    fn whole_and_half(&self, span: Duration) -> Result<(f64, u32)> {
        let mut whole: f64 = 0.0;
        for _ in 0..TRIES {
            whole = whole.max(self.run(None, span, &mut beside_nothing)?.pps);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some million at most")]
        let half = (whole / 2.0) as u32;
        ensure!(half > 0, "no packet came");
        Ok((whole, half))
    }

    /// Has the generator send for `span`, at `rate` if there is one, while `beside` runs; returns when traffic stands
    /// still again. `beside` returns its operations a second.
    fn run(
        &self,
        rate: Option<u32>,
        span: Duration,
        beside: &mut dyn FnMut(Duration) -> Result<f64>,
    ) -> Result<LoadRound> {
        let traffic = Traffic { interfaces: vec![far_end("in")], packets: 1, rate, core: self.placement.generator };
        let packet = packet(PACKET_SIZE)?;
        let (arrived_before, received_before, sent_before) = self.seen()?;
        let generator = Generator::start(&self.topology.outside, traffic, move |bytes| {
            bytes.extend(&packet);
            0
        })?;
        let (waited_before, clock) = (waited(Gateway::WORKER)?, Instant::now());
        let operations = beside(span)?;
        let (waited_after, span) = (waited(Gateway::WORKER)?, clock.elapsed());
        let sent = generator.stop()?;
        still(self.sink)?;
        let (arrived, received, sent_on) = self.seen()?;
        let [arrived, received, sent_on] =
            [arrived - arrived_before, received - received_before, sent_on - sent_before];
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let pps = arrived as f64 / span.as_secs_f64();
        Ok(LoadRound {
            sent,
            lost_before: sent.saturating_sub(received),
            lost_inside: received.saturating_sub(sent_on),
            lost_after: sent_on.saturating_sub(arrived),
            pps,
            operations,
            core_lost: (waited_after - waited_before).div_duration_f64(span),
        })
    }

    /// Packets at the sink, received by the gateway, and sent by it.
    fn seen(&self) -> Result<(u64, u64, u64)> {
        let status = self.gateway.status()?;
        let sum = |count: fn(&tidegate_engine::counters::Totals) -> u64| {
            status.ports.iter().map(|port| count(&port.totals)).sum()
        };
        Ok((self.sink.arrived()?, sum(|totals| totals.rx_packets), sum(|totals| totals.tx_packets)))
    }
}

fn beside_nothing(span: Duration) -> Result<f64> {
    sleep(span);
    Ok(0.0)
}

fn beside_loop(core: u16, span: Duration) -> Result<f64> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let looping = scope.spawn(|| -> Result<f64> {
            cpu::pin(core)?;
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            Ok(0.0)
        });
        sleep(span);
        stop.store(true, Ordering::Relaxed);
        looping.join().unwrap_or_else(|_| bail!("an empty loop panicked"))
    })
}

fn beside_storm(storm: &mut Storm, core: u16, span: Duration) -> Result<f64> {
    let blows = blow(vec![(storm, core)], span)?;
    let blow = blows.first().context("one storm")?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let operations = blow.operations as f64;
    Ok(operations / blow.span.as_secs_f64())
}

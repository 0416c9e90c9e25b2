//! The accounts of a trial: every packet that was sent, and what became of it.

use std::fmt::{self, Display, Formatter};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::End;
use super::flows::{self, Flows};
use super::ledger::{Coming, Ledger};
use super::pace::Pace;
use super::tag::{Fate, NoTag, Tag};
use super::timeline::Timeline;

/// Faults of each kind that are named.
const NAMED: usize = 8;
/// Digits of a latency that count,
const DIGITS: u8 = 3;
/// and the longest that is told from a longer one, in ns.
const LONGEST_NS: u64 = 60_000_000_000;

/// Open while packets flow.
#[derive(Debug)]
pub(crate) struct Accounts<'a> {
    flows: &'a Flows,
    run: u16,
    ledgers: Vec<Ledger>,
    counts: Counts,
    named: Vec<Fault>,
    latency: Histogram<u64>,
    slowest: Option<Slowest>,
    timeline: Timeline,
}

/// Packets of a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// All that were sent.
    pub(crate) sent: u64,
    /// Those of them that must arrive.
    pub(crate) must_arrive: u64,
    /// Those of them that did, each counted once.
    pub(crate) arrived: u64,
    /// Had to arrive and did not.
    pub(crate) lost: u64,
    /// Arrived after a packet of their flow that was sent later.
    pub(crate) reordered: u64,
    /// Arrived once more.
    pub(crate) duplicated: u64,
    /// Had to be dropped and arrived.
    pub(crate) wrong_verdict: u64,
    /// Arrived where they must not.
    pub(crate) wrong_port: u64,
    /// Arrived and were not what was sent.
    pub(crate) wrong_content: u64,
    /// Frames that are none of the tester's.
    pub(crate) foreign: u64,
    /// Packets of an earlier trial. No fault of this one.
    pub(crate) stale: u64,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// What.
    pub(crate) kind: FaultKind,
    /// Which packet, if that is known.
    pub(crate) packet: Option<Identity>,
    /// More of it, if there is more to say.
    pub(crate) detail: String,
}

/// What may be wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FaultKind {
    /// See [`Counts`], as for the others.
    Lost,
    Reordered,
    Duplicated,
    WrongVerdict,
    WrongPort,
    WrongContent,
    Foreign,
}

/// Which packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Number of its flow.
    pub(crate) flow: u32,
    /// Its number there.
    pub(crate) sequence: u32,
    /// When it was due, in ns since the trial began.
    pub(crate) due_ns: u64,
}

/// The packet that took longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slowest {
    /// It.
    pub(crate) packet: Identity,
    /// From when it was due, in ns.
    pub(crate) latency_ns: u64,
}

/// What the accounts say in the end.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    pub(crate) counts: Counts,
    /// Some of each kind.
    pub(crate) faults: Vec<Fault>,
    /// From when a packet was due until it was seen, in ns.
    pub(crate) latency: Histogram<u64>,
    pub(crate) slowest: Option<Slowest>,
    pub(crate) timeline: Timeline,
}

/// A histogram of nanoseconds.
///
/// # Errors
/// Never: its bounds are in range.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)?)
}

impl<'a> Accounts<'a> {
    /// Of the trial `run`, in which packets of `flows` are due within `span_ns`.
    ///
    /// # Errors
    /// As [`histogram`].
    pub(crate) fn new(flows: &'a Flows, run: u16, span_ns: u64) -> Result<Accounts<'a>> {
        Ok(Accounts {
            flows,
            run,
            ledgers: vec![Ledger::default(); flows.len()],
            counts: Counts::default(),
            named: Vec::new(),
            latency: histogram()?,
            slowest: None,
            timeline: Timeline::new(span_ns),
        })
    }

    /// The next packet of `flow` was sent.
    pub(crate) fn sent(&mut self, flow: u32, due_ns: u64) {
        self.counts.sent += 1;
        self.ledgers[flow as usize].send();
        if self.flows.get(flow).is_some_and(|flow| flow.fate() == Fate::Pass) {
            self.counts.must_arrive += 1;
            self.timeline.sent(due_ns);
        }
    }

    /// A frame came at `end`, at `now_ns` since the trial began. Whether it is one of this trial.
    pub(crate) fn came(&mut self, end: End, frame: &[u8], now_ns: u64) -> bool {
        let tag = match flows::payload(frame).map_or(Err(NoTag::Foreign), Tag::read) {
            Ok(tag) => tag,
            Err(NoTag::Foreign) => {
                self.fault(FaultKind::Foreign, None, || format!("{} bytes at {}", frame.len(), end.name()));
                return false;
            }
            Err(NoTag::Damaged) => {
                self.fault(FaultKind::WrongContent, None, || "a damaged tag".into());
                return true;
            }
        };
        if tag.run != self.run {
            self.counts.stale += 1;
            return false;
        }
        let packet = Identity { flow: tag.flow, sequence: tag.sequence, due_ns: tag.due_ns };
        let (Some(flow), Some(ledger)) = (self.flows.get(tag.flow), self.ledgers.get_mut(tag.flow as usize)) else {
            self.fault(FaultKind::WrongContent, Some(packet), || "no such flow".into());
            return true;
        };
        let coming = ledger.come(tag.sequence);
        if coming == Coming::Unsent {
            self.fault(FaultKind::WrongContent, Some(packet), || "never sent".into());
            return true;
        }
        if flow.fate() == Fate::Drop {
            self.fault(FaultKind::WrongVerdict, Some(packet), || {
                format!("it had to be dropped and came at {}", end.name())
            });
            return true;
        }
        if let Some(difference) = flow.difference(frame) {
            self.fault(FaultKind::WrongContent, Some(packet), || difference);
        }
        if end == End::Near {
            self.fault(FaultKind::WrongPort, Some(packet), || "it came back where it was sent".into());
        }
        match coming {
            Coming::Again => {
                self.fault(FaultKind::Duplicated, Some(packet), String::new);
                return true;
            }
            Coming::Late => self.fault(FaultKind::Reordered, Some(packet), String::new),
            Coming::InOrder | Coming::Unsent => {}
        }
        self.counts.arrived += 1;
        let latency_ns = now_ns.saturating_sub(tag.due_ns);
        self.latency.saturating_record(latency_ns);
        self.timeline.arrived(tag.due_ns, latency_ns);
        if self.slowest.is_none_or(|slowest| latency_ns > slowest.latency_ns) {
            self.slowest = Some(Slowest { packet, latency_ns });
        }
        true
    }

    /// Closes the accounts: what has not come is lost. `pace` is that of the trial.
    pub(crate) fn close(mut self, pace: Pace) -> Balance {
        for number in 0..u32::try_from(self.ledgers.len()).unwrap_or(u32::MAX) {
            if self.flows.get(number).is_none_or(|flow| flow.fate() == Fate::Drop) {
                continue;
            }
            let ledger = std::mem::take(&mut self.ledgers[number as usize]);
            for sequence in ledger.missing() {
                let identity = |flows: &Flows| Identity {
                    flow: number,
                    sequence,
                    due_ns: pace.due_ns(flows.packet(number, sequence)),
                };
                let packet = (self.counts.lost < NAMED as u64).then(|| identity(self.flows));
                self.fault(FaultKind::Lost, packet, String::new);
            }
        }
        let Accounts { counts, named: faults, latency, slowest, timeline, .. } = self;
        Balance { counts, faults, latency, slowest, timeline }
    }

    /// Counts a fault, and names it if it is one of the first of its kind.
    fn fault(&mut self, kind: FaultKind, packet: Option<Identity>, detail: impl FnOnce() -> String) {
        let count = self.counts.of(kind);
        *count += 1;
        if *count <= NAMED as u64 {
            self.named.push(Fault { kind, packet, detail: detail() });
        }
    }
}

impl FaultKind {
    pub(crate) const ALL: [FaultKind; 7] = [
        FaultKind::Lost,
        FaultKind::Reordered,
        FaultKind::Duplicated,
        FaultKind::WrongVerdict,
        FaultKind::WrongPort,
        FaultKind::WrongContent,
        FaultKind::Foreign,
    ];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FaultKind::Lost => "lost",
            FaultKind::Reordered => "reordered",
            FaultKind::Duplicated => "duplicated",
            FaultKind::WrongVerdict => "wrong verdict",
            FaultKind::WrongPort => "wrong port",
            FaultKind::WrongContent => "wrong content",
            FaultKind::Foreign => "foreign frame",
        }
    }
}

impl Counts {
    fn of(&mut self, kind: FaultKind) -> &mut u64 {
        match kind {
            FaultKind::Lost => &mut self.lost,
            FaultKind::Reordered => &mut self.reordered,
            FaultKind::Duplicated => &mut self.duplicated,
            FaultKind::WrongVerdict => &mut self.wrong_verdict,
            FaultKind::WrongPort => &mut self.wrong_port,
            FaultKind::WrongContent => &mut self.wrong_content,
            FaultKind::Foreign => &mut self.foreign,
        }
    }

    /// Faults of each kind, where there are any.
    pub(crate) fn faults(mut self) -> Vec<(FaultKind, u64)> {
        let each = FaultKind::ALL.map(|kind| (kind, *self.of(kind)));
        each.into_iter().filter(|&(_, count)| count > 0).collect()
    }

    /// Packets that the forwarder treated as it must not, whatever the load.
    pub(crate) fn wrong(&self) -> u64 {
        self.reordered + self.duplicated + self.wrong_verdict + self.wrong_port + self.wrong_content
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name())?;
        if let Some(packet) = &self.packet {
            write!(f, ": {packet}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl Display for Identity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Identity { flow, sequence, due_ns } = self;
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        let due = *due_ns as f64 / 1e9;
        write!(f, "packet {sequence} of flow {flow}, due at {due:.6} s")
    }
}

//! The tester: sends packets by a schedule, whatever becomes of them, and takes account of those that come back, in one
//! thread on one core.
//!
//! A packet's latency counts from when it was *due*. If the tester, or what it waits for, is held up, the packets due
//! meanwhile have waited, and that shows (no coordinated omission); how late the tester itself was is kept as well.

pub(crate) mod accounts; // every packet, and what became of it
pub(crate) mod flows; // the packet mix, as frames
mod ledger; // which packets of a flow have come
pub(crate) mod pace; // when each packet is due
pub(crate) mod tag; // what a packet says of itself
pub(crate) mod timeline; // what happened when
pub(crate) mod wire; // AF_XDP at the far ends

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use accounts::{Accounts, Balance, histogram};
use flows::Flows;
use pace::{Pace, SECOND_NS};
use tag::Tag;

/// Packets sent at once, at most: as many as the kernel takes in one call.
const BATCH: usize = 32;
/// What is due and could not be sent when the time is up is given up after so long,
const GRACE_NS: u64 = 50_000_000;
/// and the trial is over when nothing has come for so long,
const QUIET_NS: u64 = 50_000_000;
/// but no later than this.
const DRAIN_NS: u64 = 3 * SECOND_NS;

/// What the tester sends on and receives from.
pub(crate) trait Wire {
    /// The time, in ns since any moment.
    fn now_ns(&mut self) -> u64;

    /// Sends frames at the near end, in order, until one does not fit. How many were sent.
    fn send(&mut self, frames: &[Vec<u8>]) -> usize;

    /// Shows `each` the frames that are there.
    fn receive(&mut self, each: impl FnMut(End, &[u8]));
}

/// Where a frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Where frames are sent from.
    Near,
    /// Where they must arrive.
    Far,
}

/// How much is sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Number of the trial, in the tags.
    pub(crate) run: u16,
    /// When packets are due.
    pub(crate) pace: Pace,
    /// For how long, in ns.
    pub(crate) span_ns: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The accounts.
    pub(crate) balance: Balance,
    /// Packets that were due and not sent: the tester could not keep up.
    pub(crate) unsent: u64,
    /// How late packets were sent, in ns.
    pub(crate) lag: Histogram<u64>,
    /// From the first packet's time to the last one's, in ns.
    pub(crate) sending_ns: u64,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Near => "the near end",
            End::Far => "the far end",
        }
    }
}

impl Trial {
    /// Packets a second that were really sent.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn offered(&self) -> f64 {
        self.balance.counts.sent as f64 / (self.sending_ns.max(1) as f64 / 1e9)
    }
}

/// Sends packets of `flows` in turn, and waits until all that comes has come.
///
/// # Errors
/// If there are no flows, or traffic does not stand still.
pub(crate) fn run(wire: &mut impl Wire, flows: &Flows, load: Load) -> Result<Trial> {
    ensure!(flows.len() > 0, "no flow to send");
    let mut accounts = Accounts::new(flows, load.run, load.span_ns)?;
    let mut sender = Sender::new(flows, load)?;
    let begin = wire.now_ns();
    loop {
        let now = wire.now_ns() - begin;
        if sender.is_done() || now > load.span_ns + GRACE_NS {
            break;
        }
        sender.send(wire, now, &mut accounts);
        receive(wire, begin, &mut accounts);
    }
    let sending_ns = (wire.now_ns() - begin).max(load.span_ns);
    let mut last = sending_ns;
    loop {
        let now = wire.now_ns() - begin;
        if receive(wire, begin, &mut accounts) {
            last = now;
        }
        if now > last + QUIET_NS {
            break;
        }
        ensure!(now < sending_ns + DRAIN_NS, "packets still come long after the last one was sent");
    }
    let Sender { total, sent, lag, .. } = sender;
    Ok(Trial { balance: accounts.close(load.pace), unsent: total - sent, lag, sending_ns })
}

/// Takes account of what is there; whether something of this trial was.
fn receive(wire: &mut impl Wire, begin: u64, accounts: &mut Accounts<'_>) -> bool {
    let now = wire.now_ns() - begin;
    let mut some = false;
    wire.receive(|end, frame| some |= accounts.came(end, frame, now));
    some
}

/// The sending half.
struct Sender<'a> {
    flows: &'a Flows,
    load: Load,
    /// Packets of the whole trial.
    total: u64,
    /// Packets sent so far.
    sent: u64,
    /// Frames that are ready, the first `sent` of which were sent.
    batch: Vec<Vec<u8>>,
    ready: usize,
    gone: usize,
    lag: Histogram<u64>,
}

impl<'a> Sender<'a> {
    fn new(flows: &'a Flows, load: Load) -> Result<Sender<'a>> {
        Ok(Sender {
            flows,
            load,
            total: load.pace.due_before(load.span_ns),
            sent: 0,
            batch: vec![Vec::new(); BATCH],
            ready: 0,
            gone: 0,
            lag: histogram()?,
        })
    }

    fn is_done(&self) -> bool {
        self.sent == self.total
    }

    /// Sends what is due, a batch at most.
    fn send(&mut self, wire: &mut impl Wire, now_ns: u64, accounts: &mut Accounts<'_>) {
        let Load { run, pace, .. } = self.load;
        if self.gone == self.ready {
            (self.gone, self.ready) = (0, 0);
            let due = pace.due_before(now_ns + 1).min(self.total) - self.sent;
            for (buffer, packet) in self.batch.iter_mut().zip(self.sent..self.sent + due) {
                let (number, sequence) = self.flows.turn(packet);
                let Some(flow) = self.flows.get(number) else { return };
                let tag = Tag { run, flow: number, sequence, due_ns: pace.due_ns(packet), fate: flow.fate() };
                flow.write(&tag, buffer);
                self.ready += 1;
            }
        }
        if self.gone == self.ready {
            return;
        }
        let sent = wire.send(&self.batch[self.gone..self.ready]);
        self.gone += sent;
        for packet in self.sent..self.sent + sent as u64 {
            let due_ns = pace.due_ns(packet);
            accounts.sent(self.flows.turn(packet).0, due_ns);
            self.lag.saturating_record(now_ns.saturating_sub(due_ns));
        }
        self.sent += sent as u64;
    }
}

#[cfg(test)]
mod tests;

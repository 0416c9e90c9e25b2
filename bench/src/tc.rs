//! The same storm on the kernel's own classifier, to compare with: `tc -batch` with u32 filters, which every kernel with
//! traffic control has.
//!
//! Every process has an interface of its own, so they meet nowhere but in the kernel's locks. Filters are spread over hash
//! tables, about as many as are in a bucket, which is what makes a request cheapest.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tidegate_engine::lab::{Lab, Namespace};

use crate::disturbance::waited_by;
use crate::storm::Blow;

/// Ends of one veth pair.
const INTERFACES: [&str; 2] = ["left", "right"];
/// Filling ends after so long, however many filters there are by then.
const FILL_SPAN: Duration = Duration::from_secs(15);
/// Filters in one batch while filling.
const FILL_STEP: u64 = 10_000;
/// Buckets of a table.
const DIVISOR: u64 = 256;

/// Two interfaces with as many filters each.
#[derive(Debug)]
pub(crate) struct Tc {
    ends: Vec<End>,
    namespace: Namespace,
    folder: PathBuf,
    _lab: Lab,
}

#[derive(Debug)]
struct End {
    interface: &'static str,
    tables: u64,
    /// Places for filters, all taken once it is filled.
    places: u64,
    /// The next filter's number: its key, and its place, modulo the number of places.
    next: u64,
    /// Operations a second when that was last measured.
    rate: f64,
}

impl Tc {
    /// With `present` filters on each interface, or as many as go in within 15 s.
    ///
    /// # Errors
    /// Without privileges, `tc`, or one of the kernel's parts: in its words.
    pub(crate) fn new(present: usize) -> Result<Tc> {
        let lab = Lab::new("update");
        let namespace = lab.namespace("tc")?;
        let [left, right] = INTERFACES;
        lab.veth((&namespace, left), (&namespace, right), 1)?;
        let mut tc = Tc { ends: Vec::new(), namespace, folder: lab.folder()?, _lab: lab };
        for interface in INTERFACES {
            let end = tc.filled(interface, present as u64)?;
            tc.ends.push(end);
        }
        Ok(tc)
    }

    /// The end `interface` with its filters.
    fn filled(&self, interface: &'static str, present: u64) -> Result<End> {
        let tables = (present / DIVISOR).isqrt() + 1;
        let mut end = End { interface, tables, places: present, next: 0, rate: 1.0 };
        let mut batch = format!("qdisc add dev {interface} ingress\n");
        for table in 1..=tables {
            batch += &format!("filter add {} handle {table:x}: u32 divisor {DIVISOR}\n", end.parent());
        }
        self.run(interface, &batch)?;
        let start = Instant::now();
        while end.next < present && start.elapsed() < FILL_SPAN {
            let step = FILL_STEP.min(present - end.next);
            let batch: String = (0..step).map(|_| end.add()).collect();
            end.rate = self.run(interface, &batch)?.of(step).rate();
        }
        end.places = end.next;
        Ok(end)
    }

    /// Filters on each interface, at least.
    pub(crate) fn present(&self) -> u64 {
        self.ends.iter().map(|end| end.places).min().unwrap_or(0)
    }

    /// Has so many processes, at most 2, delete the oldest filter and add another, over and over, for about `span`.
    ///
    /// # Errors
    /// If a request is refused.
    pub(crate) fn blow(&mut self, processes: usize, span: Duration) -> Result<Vec<Blow>> {
        let batches = self.ends.iter_mut().take(processes).map(|end| (end.interface, end.churn(span)));
        let batches: Vec<(&str, (u64, String))> = batches.collect();
        let blows: Vec<Blow> = thread::scope(|scope| {
            let one = |(interface, (operations, batch)): (&'static str, (u64, String))| {
                let this = &*self;
                scope.spawn(move || Ok(this.run(interface, &batch)?.of(operations)))
            };
            let threads: Vec<_> = batches.into_iter().map(one).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
                .collect::<Result<_>>()
        })?;
        for (end, blow) in self.ends.iter_mut().zip(&blows) {
            end.rate = blow.rate();
        }
        Ok(blows)
    }

    /// Runs `tc` on `batch`.
    fn run(&self, interface: &str, batch: &str) -> Result<Run> {
        let file = self.folder.join(interface);
        fs::write(&file, batch)?;
        let clock = Instant::now();
        let mut command = self.namespace.exec("tc");
        let mut child = command.arg("-batch").arg(&file).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut complaint = String::new();
        // Ends when the process does, whose account stays until it is waited for.
        child.stderr.take().context("it is piped")?.read_to_string(&mut complaint)?;
        let span = clock.elapsed();
        let waited = waited_by(&PathBuf::from(format!("/proc/{}", child.id())))?;
        let status = child.wait()?;
        ensure!(status.success(), "tc: {}", complaint.trim().replace('\n', "; "));
        Ok(Run { span, waited })
    }
}

impl End {
    fn parent(&self) -> String {
        format!("dev {} ingress protocol ip prio 1", self.interface)
    }

    /// Adds a filter with a 5-tuple that no other has, in the place of the oldest if all places are taken.
    fn add(&mut self) -> String {
        let [.., high, a, b, c, d] = self.next.to_be_bytes();
        let (table, bucket, node) = self.place();
        self.next += 1;
        format!(
            "filter add {} handle {table:x}:{bucket:x}:{node:x} u32 ht {table:x}:{bucket:x}: match ip protocol 17 0xff \
             match ip src 10.{b}.{c}.{d}/32 match ip dst 10.0.{high}.{a}/32 match ip sport 1024 0xffff \
             match ip dport 9 0xffff flowid 1:1\n",
            self.parent()
        )
    }

    /// As many deletes and adds as take about `span`, and how many that are.
    fn churn(&mut self, span: Duration) -> (u64, String) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds' work")]
        let pairs = (self.rate * span.as_secs_f64() / 2.0) as u64 + 1;
        let mut batch = String::new();
        for _ in 0..pairs {
            let (table, bucket, node) = self.place();
            batch += &format!("filter del {} handle {table:x}:{bucket:x}:{node:x} u32\n", self.parent());
            batch += &self.add();
        }
        (2 * pairs, batch)
    }

    /// Table, bucket and node of the next filter.
    fn place(&self) -> (u64, u64, u64) {
        let place = self.next % self.places;
        let (bucket, rest) = (place % DIVISOR, place / DIVISOR);
        (rest % self.tables + 1, bucket, rest / self.tables + 1)
    }
}

/// How a run of `tc` went.
struct Run {
    span: Duration,
    /// For a core.
    waited: Duration,
}

impl Run {
    /// So many operations.
    fn of(&self, operations: u64) -> Blow {
        Blow { operations, span: self.span, core_lost: self.waited.div_duration_f64(self.span) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_filter_has_a_place_that_u32_has() {
        for places in [100, 255, 256, 257, 100_000, 1_000_000] {
            let tables = (places / DIVISOR).isqrt() + 1;
            let mut end = End { interface: "left", tables, places, next: 0, rate: 1.0 };
            let mut taken = HashSet::new();
            for _ in 0..places {
                let (table, bucket, node) = end.place();
                assert!(table < 0x800 && bucket < DIVISOR && (1..0x1000).contains(&node), "{table}:{bucket}:{node}");
                taken.insert((table, bucket, node));
                end.next += 1;
            }
            assert_eq!(taken.len() as u64, places);
            assert!(taken.contains(&end.place()), "the oldest one's");
        }
    }
}

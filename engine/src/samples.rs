//! Samples: packets that an action `sample` shows to whoever listens to their group [AK-SAMPLE].
//!
//! Workers fill what a listener has set out, and never wait for one: they take no lock, allocate nothing and wake nobody. So a
//! listener looks again and again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::SampleSpec;

use crate::engine::lock;

/// Samples that a listener may be behind.
const ROOM: usize = 256;

/// Bytes that are kept of a packet: as many as the largest frame has.
const BYTES_MAX: usize = 4096;

/// Listeners at once: a sample is copied for each.
const LISTENERS_MAX: usize = 16;

/// How often a listener looks.
const LOOK: Duration = Duration::from_millis(2);

/// A packet that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The number that it was shown under.
    pub group: u32,
    /// One in so many is shown.
    pub rate: u32,
    /// The port that received it.
    pub port: PortId,
    /// When, in ns on the engine's clock.
    pub at_ns: u64,
    /// Bytes of the whole packet.
    pub length: u32,
    /// Its first bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A packet was shown.
    Sample(Sample),
    /// So many were lost, because the listener was slow.
    Lost(u64),
}

/// Everybody who listens.
#[derive(Debug)]
pub struct Samples {
    inboxes: ArcSwap<Vec<Arc<Inbox>>>,
    /// Who comes or goes holds it.
    changes: Mutex<()>,
    plane: Arc<Plane>,
}

#[derive(Debug)]
struct Inbox {
    group: Option<u32>,
    /// Room for a packet each.
    empty: ArrayQueue<Vec<u8>>,
    full: ArrayQueue<Sample>,
    lost: AtomicU64,
}

/// One listener's end. Dropping it ends the listening.
#[derive(Debug)]
pub struct Listener {
    inbox: Arc<Inbox>,
    samples: Arc<Samples>,
}

impl Samples {
    /// For the workers of `plane`. Nobody listens yet.
    pub fn new(plane: Arc<Plane>) -> Arc<Samples> {
        Arc::new(Samples { inboxes: ArcSwap::default(), changes: Mutex::default(), plane })
    }

    /// From now on, what is shown under `group` is heard; everything without one. Nothing if too many listen already.
    pub fn listen(self: &Arc<Self>, group: Option<u32>) -> Option<Listener> {
        let inbox = Arc::new(Inbox::new(group));
        let changes = lock(&self.changes);
        let mut inboxes = Vec::clone(&self.inboxes.load());
        if inboxes.len() >= LISTENERS_MAX {
            return None;
        }
        inboxes.push(Arc::clone(&inbox));
        self.set(inboxes);
        drop(changes);
        Some(Listener { inbox, samples: Arc::clone(self) })
    }

    /// Shows `packet`, received by `port`, to all who listen. `false` if one of them has no room.
    pub fn show(&self, sample: &SampleSpec, port: PortId, at_ns: u64, packet: &[u8]) -> bool {
        let inboxes = self.inboxes.load();
        let listening = inboxes.iter().filter(|inbox| inbox.group.is_none_or(|group| group == sample.group));
        listening.filter(|inbox| !inbox.put(sample, port, at_ns, packet)).count() == 0
    }

    fn set(&self, inboxes: Vec<Arc<Inbox>>) {
        self.plane.reaper().defer(self.inboxes.swap(Arc::new(inboxes))); // workers may still hold it
    }
}

impl Inbox {
    fn new(group: Option<u32>) -> Inbox {
        let inbox = Inbox { group, empty: ArrayQueue::new(ROOM), full: ArrayQueue::new(ROOM), lost: AtomicU64::new(0) };
        for _ in 0..ROOM {
            inbox.set_out(Vec::with_capacity(BYTES_MAX));
        }
        inbox
    }

    /// Whether there was room.
    fn put(&self, spec: &SampleSpec, port: PortId, at_ns: u64, packet: &[u8]) -> bool {
        let Some(mut bytes) = self.empty.pop() else {
            self.lost.fetch_add(1, Relaxed);
            return false;
        };
        let kept = spec.trunc.map_or(BYTES_MAX, |trunc| trunc as usize).min(BYTES_MAX).min(packet.len());
        bytes.clear();
        bytes.extend_from_slice(&packet[..kept]);
        #[expect(clippy::cast_possible_truncation, reason = "a packet is far below 4 GiB")]
        let length = packet.len() as u32;
        let put = self.full.push(Sample { group: spec.group, rate: spec.rate, port, at_ns, length, bytes });
        debug_assert!(put.is_ok(), "as many fit as were set out");
        true
    }

    fn next(&self) -> Option<Heard> {
        match self.lost.swap(0, Relaxed) {
            0 => {
                let sample = self.full.pop()?;
                let bytes = sample.bytes.clone();
                self.set_out(sample.bytes);
                Some(Heard::Sample(Sample { bytes, ..sample }))
            }
            lost => Some(Heard::Lost(lost)),
        }
    }

    fn set_out(&self, room: Vec<u8>) {
        let set = self.empty.push(room);
        debug_assert!(set.is_ok(), "there are no more than fit");
    }
}

impl Listener {
    /// What comes next, if it comes within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Heard> {
        let until = Instant::now() + timeout;
        loop {
            let heard = self.inbox.next();
            let left = until.saturating_duration_since(Instant::now());
            if heard.is_some() || left.is_zero() {
                return heard;
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _changes = lock(&self.samples.changes);
        let mut inboxes = Vec::clone(&self.samples.inboxes.load());
        inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        self.samples.set(inboxes);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_classifiers::verdict::Control;

    use super::*;

    fn spec(group: u32, trunc: Option<u32>) -> SampleSpec {
        SampleSpec { rate: 3, group, trunc, control: Control::Pipe }
    }

    fn heard(listener: &Listener) -> Vec<Heard> {
        std::iter::from_fn(|| listener.next(Duration::ZERO)).collect()
    }

    #[test]
    fn each_listener_hears_its_group() {
        let samples = Samples::new(Plane::standalone(1));
        assert!(samples.show(&spec(7, None), PortId(1), 1, &[1; 60]), "nobody is no reason to lose something");
        let (all, seven) = (samples.listen(None).unwrap(), samples.listen(Some(7)).unwrap());
        assert!(samples.show(&spec(7, Some(10)), PortId(1), 2, &[2; 60]));
        assert!(samples.show(&spec(8, Some(100)), PortId(2), 3, &[3; 60]));
        let sample = |group, port, at_ns, bytes: &[u8]| {
            Heard::Sample(Sample { group, rate: 3, port: PortId(port), at_ns, length: 60, bytes: bytes.to_vec() })
        };
        let (first, second) = (sample(7, 1, 2, &[2; 10]), sample(8, 2, 3, &[3; 60]));
        assert_eq!(heard(&all), [first.clone(), second]);
        assert_eq!(heard(&seven), [first]);
        drop(seven);
        assert!(samples.show(&spec(7, Some(0)), PortId(1), 4, &[4; 60]));
        assert_eq!(heard(&all), [sample(7, 1, 4, &[])]);
    }

    #[test]
    fn who_is_slow_loses_some_and_is_told_how_many() {
        let samples = Samples::new(Plane::standalone(1));
        let (slow, other) = (samples.listen(None).unwrap(), samples.listen(Some(2)).unwrap());
        let packet = vec![5; 2 * BYTES_MAX];
        for round in 0..2 {
            for n in 0..ROOM + 10 {
                assert_eq!(samples.show(&spec(1, None), PortId(0), 1, &packet), n < ROOM, "{n} of round {round}");
            }
            let heard = heard(&slow);
            assert_eq!(heard[0], Heard::Lost(10));
            assert_eq!(heard.len(), ROOM + 1);
            let whole = |heard: &Heard| matches!(heard, Heard::Sample(sample) if sample.bytes.len() == BYTES_MAX);
            assert!(heard[1..].iter().all(whole));
        }
        assert_eq!(other.next(Duration::ZERO), None);
    }

    #[test]
    fn threads_lose_nothing_that_is_not_counted() {
        const EACH: u32 = 20_000;
        let samples = Samples::new(Plane::standalone(1));
        let listener = samples.listen(None).unwrap();
        let (seen, lost) = thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|worker| {
                    let samples = &samples;
                    scope.spawn(move || {
                        for n in 0..EACH {
                            samples.show(&spec(n, None), PortId(worker), 1, &n.to_be_bytes());
                        }
                    })
                })
                .collect();
            let (mut seen, mut lost, mut last) = (0, 0, [None; 2]);
            loop {
                let done = workers.iter().all(thread::ScopedJoinHandle::is_finished);
                match listener.next(Duration::ZERO) {
                    Some(Heard::Lost(count)) => lost += count,
                    Some(Heard::Sample(sample)) => {
                        assert_eq!(sample.bytes, sample.group.to_be_bytes(), "nothing of another one");
                        let before = last[usize::from(sample.port.0)].replace(sample.group);
                        assert!(before < Some(sample.group), "in order");
                        seen += 1;
                    }
                    None if done => return (seen, lost),
                    None => thread::yield_now(),
                }
            }
        });
        assert_eq!(seen + lost, u64::from(2 * EACH));
    }

    #[test]
    fn no_more_listen_than_workers_can_bear() {
        let samples = Samples::new(Plane::standalone(1));
        let mut all: Vec<_> = (0..LISTENERS_MAX).map(|_| samples.listen(None).unwrap()).collect();
        assert!(samples.listen(None).is_none());
        all.pop();
        assert!(samples.listen(None).is_some());
    }
}

//! A series of files, and traffic that tells by which of them it was judged.
//!
//! Each file lets packets to port 20 pass and drops those to port 21, but every other one in chains of its own: whoever follows
//! the `goto` of one file and meets the other file's chain gets the wrong verdict. Port 22 passes, copied to the other
//! station, by a filter that no reload touches. A packet to port 9 arrives in as many copies as the number of the file says:
//! modulo 8 by a filter of chain 0, modulo 7 by one of the chain after it. So it tells the number modulo 56, and a mixture of
//! two neighbours tells one that is far from both.

use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::ops::RangeInclusive;
use std::time::Instant;

use tidegate_classifiers::verdict::DropReason;
use tidegate_engine::xsk::Endpoint;

use crate::frames::udp;
use crate::kit::{Gateway, PATIENCE, Site, filter, port};

/// The ports of a site, in this order: one with filters, one that it forwards to, and the same again.
pub(crate) const PORTS: [&str; 4] = ["a", "b", "c", "d"];

/// Each port with filters, the one that it forwards to, and the one that it copies to.
const WAYS: [[&str; 3]; 2] = [["a", "b", "d"], ["c", "d", "b"]];

/// Frames to each destination in a burst.
const EACH: u32 = 8;

/// The file of this number.
pub(crate) fn file(number: u64) -> String {
    let mut file = String::from("[workers]\nidle = \"adaptive\"\n");
    for [on, to, _] in WAYS {
        file += &format!("[port.{on}]\nforward_to = \"{to}\"\n[port.{to}]\nforward_to = \"{on}\"\n");
    }
    let odd = number % 2 == 1;
    let (pass, drop) = if odd { ("drop", "pass") } else { ("pass", "drop") };
    for [on, to, other] in WAYS {
        let copies = |count: u64, to: &str, last: &str| {
            let words = repeat_n(format!("mirror {to}"), usize::try_from(count).unwrap()).chain([last.to_owned()]);
            words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
        };
        let mut add = |name: &str, port: u16, actions: &str| {
            file += &format!(
                "[[filter]]\non = \"{on}\"\nname = \"{on}-{name}\"\nprotocol = \"ip\"\n\
                 match = {{ ip_proto = \"udp\", dst_port = {port} }}\nactions = [{actions}]\n"
            );
        };
        if odd {
            add("extra", 7, "\"drop\""); // all automatic priorities after it are others
        }
        add("kept", 22, &copies(1, other, "pass"));
        add("round", 9, &copies(number % 8, to, "goto 5"));
        add("whole", 20, if odd { "\"goto 2\"" } else { "\"goto 1\"" });
        add("never", 21, if odd { "\"goto 4\"" } else { "\"goto 3\"" });
        for (chain, action) in [(1, pass), (2, drop), (3, drop), (4, pass)] {
            file += &format!("[[filter]]\non = \"{on}\"\nchain = {chain}\naction = \"{action}\"\n");
        }
        file += &format!("[[filter]]\non = \"{on}\"\nchain = 5\nactions = [{}]\n", copies(number % 7, other, "pass"));
    }
    file
}

/// How often the gateway let a packet out at its own port, and at the other one.
type Copies = [u64; 2];

/// The stations, and what went to and fro.
pub(crate) struct Traffic {
    stations: Vec<Endpoint>,
    /// By queue, which is by worker: the number of the file that judged its last packet.
    judged: Vec<u64>,
    /// Number of the last packet of each destination.
    sent: u32,
    /// Bursts to each port.
    bursts: u64,
    /// How often a worker was seen to go on to a later file.
    pub(crate) advances: u64,
}

impl Traffic {
    pub(crate) fn new(site: &Site, queues: u16) -> Traffic {
        let stations = PORTS.map(|name| site.station(name)).into();
        Traffic { stations, judged: vec![0; queues.into()], sent: 0, bursts: 0, advances: 0 }
    }

    /// Packets that were sent.
    pub(crate) fn packets(&self) -> u64 {
        self.bursts * 2 * 4 * u64::from(EACH)
    }

    /// One burst by each queue of each port. Each packet has the fate that one file gives it: a file that is not older than
    /// the one of the packet before on this worker, and is not newer than `newest`.
    pub(crate) fn round(&mut self, newest: impl Fn() -> u64) {
        self.bursts += self.judged.len() as u64;
        for way in 0..WAYS.len() {
            let bursts: Vec<_> = (0..self.judged.len()).map(|queue| self.send(way, queue)).collect();
            let mut arrived = self.receive(way, bursts.iter().map(|numbers| *numbers.end()));
            for (queue, number) in (0..).zip(bursts).flat_map(|(queue, numbers)| numbers.map(move |n| (queue, n))) {
                let mut copies = |to: u16| arrived.remove(&(to, number)).unwrap_or_default();
                assert_eq!([copies(20), copies(21), copies(22)], [[1, 0], [0, 0], [1, 1]], "packet {number}");
                self.judge(queue, copies(9), newest());
            }
            assert!(arrived.is_empty(), "nobody sent that: {arrived:?}");
        }
    }

    /// Sends a burst; its numbers.
    fn send(&mut self, way: usize, queue: usize) -> RangeInclusive<u32> {
        let numbers = self.sent + 1..=self.sent + EACH;
        self.sent += EACH;
        let frames = numbers.clone().flat_map(|number| [20, 9, 21, 22].map(|to| frame(to, number)));
        let frames: Vec<_> = frames.collect();
        let queue = u16::try_from(queue).unwrap();
        let sent = self.stations[2 * way].send_burst(queue, frames.iter().map(Vec::as_slice));
        assert_eq!(sent, frames.len());
        numbers
    }

    /// What arrives until the last packet of each burst is at both stations: a worker sends in the order in which it receives.
    fn receive(&mut self, way: usize, lasts: impl Iterator<Item = u32> + Clone) -> BTreeMap<(u16, u32), Copies> {
        let mut arrived: BTreeMap<(u16, u32), Copies> = BTreeMap::new();
        let end = Instant::now() + PATIENCE;
        while lasts.clone().any(|last| arrived.get(&(22, last)) != Some(&[1, 1])) {
            assert!(Instant::now() < end, "a packet to port 22 is lost; there are {arrived:?}");
            for (at, station) in [2 * way + 1, 3 - 2 * way].into_iter().enumerate() {
                self.stations[station].wait(1);
                self.stations[station].recv_burst(|frame| {
                    let number = u32::from_be_bytes(frame[42..46].try_into().unwrap());
                    let to = u16::from_be_bytes(frame[36..38].try_into().unwrap());
                    arrived.entry((to, number)).or_default()[at] += 1;
                });
            }
        }
        arrived
    }

    /// Notes which file let a packet to port 9 out so often.
    fn judge(&mut self, worker: usize, [own, other]: Copies, newest: u64) {
        let last = self.judged[worker];
        let fits = |number: &u64| (number % 8 + 1, number % 7) == (own, other);
        let file = (last..last + 56).find(fits).filter(|file| *file <= newest);
        let file = file.unwrap_or_else(|| {
            panic!("{own} and {other} copies: no file from {last}, the last on worker {worker}, to {newest} says so")
        });
        self.advances += u64::from(file > last);
        self.judged[worker] = file;
    }

    /// Whether every worker was seen to judge by this file.
    pub(crate) fn is_judged_by(&self, number: u64) -> bool {
        self.judged.iter().all(|judged| *judged == number)
    }

    /// Every packet's fate is counted: nothing was lost, and the filter that no reload touches counted on.
    pub(crate) fn check(&self, gateway: &Gateway) {
        let status = gateway.settled(self.packets());
        for [on, ..] in WAYS {
            assert_eq!(filter(&status, &format!("{on}-kept")).packets, self.packets() / 8, "counters survive reloads");
            let dropped = &port(&status, on).totals.dropped;
            let others = dropped.iter().sum::<u64>() - dropped[DropReason::Filter.index()];
            assert_eq!(others, 0, "dropped by filters only: {dropped:?}");
        }
    }
}

/// UDP to `to`, with a number.
fn frame(to: u16, number: u32) -> Vec<u8> {
    let mut frame = udp(to, 1000, 64);
    frame[42..46].copy_from_slice(&number.to_be_bytes());
    frame
}

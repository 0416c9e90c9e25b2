//! The generator: a BPF program that the kernel runs in a loop on live frames, on a core of our choice. Nothing else
//! saturates an AF_XDP receiver on a veth pair.

use std::fs::File;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libbpf_rs::libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES;
use libbpf_rs::{ErrorKind, Map, MapCore, MapFlags, Object, ObjectBuilder, ProgramInput};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::Signal;
use signal_hook::SigId;
use tidegate_engine::cpu;
use tidegate_engine::lab::Namespace;

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generator.bpf.o"));

/// Longest packet, in bytes; `PACKET_MAX` in the program.
pub(crate) const PACKET_MAX: usize = 1536;
/// Shortest one: the kernel redirects nothing less than an Ethernet header.
pub(crate) const PACKET_MIN: usize = 14;

/// Ends the kernel's loop, which nothing but a signal does. No thread but the generator's ever gets it.
const STOP: Signal = Signal::SIGUSR1;

/// What to send: a table of packets, over and over.
pub(crate) struct Traffic {
    /// Interfaces that packets leave by.
    pub(crate) interfaces: Vec<String>,
    /// Packets in the table.
    pub(crate) packets: u32,
    /// Packets a second; `None`: as many as the core makes.
    pub(crate) rate: Option<u32>,
    /// The core that does the work, and with it the receiving side of the ports.
    pub(crate) core: u16,
}

/// Sends until it is stopped.
#[derive(Debug)]
pub(crate) struct Generator {
    handler: SigId,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Generator {
    /// Starts sending from `namespace`. `make` writes a packet of [`PACKET_MIN`] to [`PACKET_MAX`] bytes to the vector,
    /// and names the interface by its place. Returns when the table is full and the first packet about to leave.
    ///
    /// # Errors
    /// If an interface is missing, a packet has a wrong size, or the kernel refuses.
    pub(crate) fn start(
        namespace: &Namespace,
        traffic: Traffic,
        make: impl FnMut(&mut Vec<u8>) -> usize + Send + 'static,
    ) -> Result<Generator> {
        // The handler does nothing: that the signal came is what ends the system call.
        let handler = signal_hook::flag::register(STOP as i32, Arc::default())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (path, flag) = (namespace.path(), Arc::clone(&stop));
        let (ready, started) = mpsc::channel();
        let run = move || send(&path, &traffic, make, ready, &flag);
        let thread = thread::Builder::new().name("generator".into()).spawn(run)?;
        let generator = Generator { handler, stop, thread };
        match started.recv() {
            Ok(()) => Ok(generator),
            Err(_) => generator.stop().and_then(|_| bail!("the generator did not start")),
        }
    }

    /// Stops. Returns the number of packets sent, whatever became of them.
    ///
    /// # Errors
    /// What went wrong while it ran.
    pub(crate) fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        // Again and again: a signal that comes just before the system call ends nothing.
        while !self.thread.is_finished() {
            pthread_kill(self.thread.as_pthread_t(), STOP)?;
            thread::sleep(Duration::from_millis(1));
        }
        signal_hook::low_level::unregister(self.handler);
        self.thread.join().unwrap_or_else(|_| bail!("it panicked")).context("generator")
    }
}

/// The generator's thread, from its first packet to its last.
fn send(
    namespace: &Path,
    traffic: &Traffic,
    make: impl FnMut(&mut Vec<u8>) -> usize,
    ready: Sender<()>,
    stop: &AtomicBool,
) -> Result<u64> {
    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    cpu::pin(traffic.core)?;
    let object = prepare(traffic, make)?;
    let program = object.progs_mut().next().context("no program")?;
    ready.send(())?;
    while !stop.load(Ordering::Acquire) {
        let input = ProgramInput {
            data_in: Some(&[0; PACKET_MIN]),
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            repeat: u32::MAX >> 1,
            ..ProgramInput::default()
        };
        match program.test_run(input) {
            Err(error) if error.kind() != ErrorKind::Interrupted => bail!("the kernel does not run it: {error}"),
            _ => {}
        }
    }
    State::read(&object)
}

/// Loads the program, and fills its table.
fn prepare(traffic: &Traffic, mut make: impl FnMut(&mut Vec<u8>) -> usize) -> Result<Object> {
    let interfaces: Vec<u32> =
        traffic.interfaces.iter().map(|name| if_nametoindex(name.as_str())).collect::<nix::Result<_>>()?;
    let mut open = ObjectBuilder::default().open_memory(OBJECT)?;
    open.maps_mut().find(|map| map.name() == "packets").context("no map")?.set_max_entries(traffic.packets)?;
    let object = open.load()?;
    let table = map(&object, "packets")?;
    let mut bytes = Vec::with_capacity(PACKET_MAX);
    for index in 0..traffic.packets {
        bytes.clear();
        let interface = *interfaces.get(make(&mut bytes)).context("a packet without an interface")?;
        if !(PACKET_MIN..=PACKET_MAX).contains(&bytes.len()) {
            bail!("a packet of {} bytes; {PACKET_MIN} to {PACKET_MAX} can be sent", bytes.len());
        }
        let mut value = [0; 8 + PACKET_MAX]; // struct packet
        value[..4].copy_from_slice(&u32::try_from(bytes.len())?.to_ne_bytes());
        value[4..8].copy_from_slice(&interface.to_ne_bytes());
        value[8..8 + bytes.len()].copy_from_slice(&bytes);
        table.update(&index.to_ne_bytes(), &value, MapFlags::ANY)?;
    }
    State {
        interval_ns: traffic.rate.map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1))),
        count: traffic.packets,
    }
    .write(&object)?;
    Ok(object)
}

/// `struct state`, as far as this side sets it.
struct State {
    interval_ns: u64,
    count: u32,
}

impl State {
    fn write(&self, object: &Object) -> Result<()> {
        let mut value = [0; 32];
        value[..8].copy_from_slice(&self.interval_ns.to_ne_bytes());
        value[24..28].copy_from_slice(&self.count.to_ne_bytes());
        Ok(map(object, "states")?.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)?)
    }

    /// Packets sent.
    fn read(object: &Object) -> Result<u64> {
        let value = map(object, "states")?.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?.context("no state")?;
        Ok(u64::from_ne_bytes(value.get(16..24).context("a short state")?.try_into()?))
    }
}

fn map<'a>(object: &'a Object, name: &str) -> Result<Map<'a>> {
    object.maps().find(|map| map.name() == name).with_context(|| format!("no map {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink;
    use crate::topology::{Topology, far_end};
    use std::time::Instant;
    use tidegate_engine::lab::Lab;

    fn traffic(interface: &str, rate: u32) -> Traffic {
        Traffic { interfaces: vec![interface.to_owned()], packets: 3, rate: Some(rate), core: 0 }
    }

    #[test]
    fn what_is_sent_arrives_at_no_more_than_the_rate() {
        if !Lab::allowed() {
            return;
        }
        let topology = Topology::new("generator", &["in"]).unwrap();
        let sink = Sink::attach(&topology.gateway, "in").unwrap();
        let mut lengths = [PACKET_MIN, 64, 1514].into_iter();
        let start = Instant::now();
        let generator = Generator::start(&topology.outside, traffic(&far_end("in"), 10_000), move |packet| {
            packet.resize(lengths.next().unwrap(), 2);
            0
        });
        let generator = generator.unwrap();
        thread::sleep(Duration::from_millis(500));
        let sent = generator.stop().unwrap();
        let most = start.elapsed().as_millis() * 10 + 10; // a millisecond of lag is made good
        assert!((300..=most).contains(&u128::from(sent)), "{sent} of {most}");
        assert_eq!(sink.arrived().unwrap(), sent);
    }

    #[test]
    fn a_packet_of_a_wrong_size_and_a_wrong_interface_are_errors() {
        if !Lab::allowed() {
            return;
        }
        let topology = Topology::new("generator", &["in"]).unwrap();
        let start = |interface: &str, length: usize| {
            let started = Generator::start(&topology.outside, traffic(interface, 1), move |packet| {
                packet.resize(length, 2);
                0
            });
            format!("{:#}", started.unwrap_err())
        };
        assert_eq!(start("far-in", 13), "generator: a packet of 13 bytes; 14 to 1536 can be sent");
        assert_eq!(start("far-in", 1537), "generator: a packet of 1537 bytes; 14 to 1536 can be sent");
        assert!(start("nowhere", 64).contains("ENODEV"), "{}", start("nowhere", 64));
    }
}

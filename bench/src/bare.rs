//! The limit to compare with: an AF_XDP forwarder on the gateway's ports, gates and rings that receives and transmits,
//! and does nothing else.

use std::fs::File;
use std::hint::spin_loop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tidegate_classifiers::port::PortId;
use tidegate_config::{Config, ForwardTo};
use tidegate_engine::cpu;
use tidegate_engine::idle::{IdleStrategy, Next};
use tidegate_engine::lab::Namespace;
use tidegate_engine::rings::{Burst, Rings};
use tidegate_engine::xdp::Hook;
use tidegate_engine::xsk::netdev::Netdev;
use tidegate_engine::xsk::{Queue, QueueOptions, RingsOptions, XskRings};
use tidegate_xdp_prog::AttachMode;

/// Longest sleep, in ms.
const WAIT_MS: u16 = 100;

/// A running bare forwarder.
#[derive(Debug)]
pub(crate) struct Bare {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Account>>,
}

/// What became of the packets of all ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// How the queues were bound, in the words of `tidegate status`.
    pub(crate) mode: &'static str,
    /// Sent to the sockets by the gates.
    pub(crate) redirected: u64,
    /// Taken from RX rings.
    pub(crate) received: u64,
    /// Released, because the TX ring was full.
    pub(crate) tx_ring_full: u64,
}

impl Bare {
    /// Name of its thread.
    pub(crate) const THREAD: &str = "bare";

    /// Starts it in `namespace`, over the ports of `config`, with its rings, burst, idle strategy and first core.
    ///
    /// # Errors
    /// If there are no sockets to be had.
    pub(crate) fn start(namespace: &Namespace, config: Config) -> Result<Bare> {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, flag) = (namespace.path(), Arc::clone(&stop));
        let (ready, started) = mpsc::channel();
        let run = move || run(&path, &config, ready, &flag);
        let thread = thread::Builder::new().name(Self::THREAD.into()).spawn(run)?;
        let bare = Bare { stop, thread };
        match started.recv() {
            Ok(()) => Ok(bare),
            Err(_) => bare.stop().and_then(|_| bail!("the bare forwarder did not start")),
        }
    }

    /// Stops it.
    ///
    /// # Errors
    /// If it panicked.
    pub(crate) fn stop(self) -> Result<Account> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|_| bail!("it panicked")).context("bare forwarder")
    }
}

fn run(namespace: &Path, config: &Config, ready: Sender<()>, stop: &AtomicBool) -> Result<Account> {
    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    let ports = || config.ports.iter().map(|port| (port.id, port));
    let workers = &config.workers;
    let mut hooks = Vec::new();
    let mut queues = Vec::new();
    let mut routes = Vec::new();
    for (id, port) in ports() {
        let hook = Hook::attach(port, &Netdev::query(&port.interface)?, workers.chunk_size, false)?;
        queues.push(QueueOptions { port: id, interface: &port.interface, queue: 0, zero_copy: hook.zero_copy() });
        hooks.push(hook);
        if let ForwardTo::Port(to) = port.forward_to {
            routes.push((id, to));
        }
    }
    let options = RingsOptions {
        chunk_size: workers.chunk_size,
        frames: workers.frames.unwrap_or(XskRings::frames(u32::try_from(queues.len())?, workers.ring_size)),
        huge_pages: workers.huge_pages,
        ring_size: workers.ring_size,
    };
    let (mut rings, _sockets) = XskRings::new(&options, &queues)?;
    for (hook, (id, _)) in hooks.iter().zip(ports()) {
        hook.set_socket(0, rings.queue(id).context("no queue")?.fd())?;
    }
    if let Some(&core) = workers.cores.first() {
        cpu::pin(core)?;
    }
    ready.send(())?;
    let mut account = forward(&mut rings, &routes, config, stop);
    let zero_copy = ports().all(|(id, _)| rings.queue(id).is_some_and(Queue::zero_copy));
    account.mode = match hooks.iter().all(|hook| hook.mode() == AttachMode::Native) {
        true if zero_copy => "zero-copy",
        true => "native",
        false => "generic",
    };
    for hook in hooks {
        account.redirected += hook.counters()?.redirected;
    }
    Ok(account)
}

/// The loop to beat.
fn forward(rings: &mut XskRings, routes: &[(PortId, PortId)], config: &Config, stop: &AtomicBool) -> Account {
    let mut account = Account { mode: "", redirected: 0, received: 0, tx_ring_full: 0 };
    let mut idle = IdleStrategy::new(config.workers.idle);
    let mut burst = Burst::new();
    let epoch = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now_ns = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut received = 0;
        for &(from, to) in routes {
            rings.receive(from, config.workers.burst.into(), &mut burst);
            received += burst.len();
            for frame in burst.drain(..) {
                if let Err(frame) = rings.send(to, frame) {
                    rings.release(frame);
                    account.tx_ring_full += 1;
                }
            }
        }
        rings.flush();
        account.received += received as u64;
        match idle.after_burst(received, now_ns) {
            Next::Poll => {}
            Next::Spin => spin_loop(),
            Next::Wait => rings.wait(WAIT_MS),
        }
    }
    account
}

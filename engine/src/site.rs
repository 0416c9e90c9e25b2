//! Site: the ports of the running gateway. They are opened beside each other and closed again while workers go on.
//!
//! A port is open when its gate is attached, every worker has its queue, and the sockets are in the gate's map. The same way
//! serves a reload that adds or removes a port, and an interface that vanished and is there again. Whoever changes ports
//! holds the lock of the list meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::reap::Quiescence;
use tidegate_config::{self as config, Config, Mode};
use tidegate_xdp_prog::AttachMode;
use tracing::{error, info, warn};

use crate::apply::Refused;
use crate::engine::{Inner, lock};
use crate::error::EngineError;
use crate::handover::{Handover, Order};
use crate::port::{self, LinkState, PortState};
use crate::report::RateMeter;
use crate::rules::Cabling;
use crate::worker::DRAIN;
use crate::xdp::Hook;
use crate::xsk::netdev::Netdev;
use crate::xsk::{Queue, QueueOptions, Sockets, Waker};

/// How often to look whether workers have moved on.
const GRACE: Duration = Duration::from_millis(1);

/// The ports of the running gateway.
#[derive(Debug)]
pub(crate) struct Site {
    ports: Mutex<Vec<OpenPort>>,
    /// A port that was closed had packets that are not accounted for.
    missing: AtomicBool,
}

/// One port.
#[derive(Debug)]
pub(crate) struct OpenPort {
    pub(crate) config: config::Port,
    pub(crate) state: Arc<PortState>,
    /// None while the interface is gone.
    pub(crate) hook: Option<Hook>,
    pub(crate) stage: Stage,
    pub(crate) meter: RateMeter,
}

/// How far a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A reload opens it: no packet comes by it yet.
    Coming,
    /// Packets come by it.
    Serving,
    /// A reload takes its interface for another port.
    Yielding,
}

/// What the control side has of a running worker.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) sockets: Sockets,
    pub(crate) handover: Handover<Queue>,
    pub(crate) waker: Waker,
}

impl Site {
    pub(crate) fn new(ports: Vec<OpenPort>) -> Site {
        Site { ports: Mutex::new(ports), missing: AtomicBool::new(false) }
    }

    /// The ports in the order of the file.
    pub(crate) fn ports(&self) -> MutexGuard<'_, Vec<OpenPort>> {
        lock(&self.ports)
    }

    /// Whether every packet of the ports that were closed is accounted for.
    pub(crate) fn accounts(&self) -> bool {
        !self.missing.load(Ordering::Relaxed)
    }
}

impl OpenPort {
    pub(crate) fn new(config: config::Port, block: Option<Arc<Block>>, stage: Stage) -> OpenPort {
        let forward_to = match config.forward_to {
            config::ForwardTo::Port(port) => port::ForwardTo::Port(port),
            config::ForwardTo::Host => port::ForwardTo::Host,
        };
        let state = Arc::new(PortState::new(&config.name, forward_to, block));
        OpenPort { config, state, hook: None, stage, meter: RateMeter::new() }
    }

    pub(crate) fn id(&self) -> PortId {
        self.config.id
    }

    /// The queue that a worker is to have, once there is a hook.
    pub(crate) fn queue(&self, worker: u16) -> Option<QueueOptions<'_>> {
        let zero_copy = self.hook.as_ref()?.zero_copy();
        Some(QueueOptions { port: self.id(), interface: &self.config.interface, queue: worker.into(), zero_copy })
    }

    /// The way to the host for one worker, if this port has one.
    pub(crate) fn set_tap(&self, queue: &mut Queue) -> Result<(), EngineError> {
        let tap = self.hook.as_ref().map_or(Ok(None), Hook::tap_queue);
        let tap = tap.map_err(|source| EngineError::Hook { port: self.config.name.clone(), source: source.into() })?;
        tap.into_iter().for_each(|tap| queue.set_tap(tap));
        Ok(())
    }

    /// From now on, packets of its queue go to the worker's socket.
    pub(crate) fn start(&self, worker: u16, sockets: &Sockets) -> Result<(), EngineError> {
        let (Some(hook), Some(socket)) = (&self.hook, sockets.socket(self.id())) else { return Ok(()) };
        hook.set_socket(worker.into(), socket).map_err(|source| EngineError::Map { worker, source })
    }

    /// Tells workers what is known of the link. `true` if there is an interface that is yet to be hooked.
    pub(crate) fn watch(&mut self) -> bool {
        let netdev = Netdev::query(&self.config.interface).ok();
        let (link, found) = match (&netdev, &self.hook) {
            (Some(netdev), Some(hook)) if netdev.ifindex == hook.ifindex() => {
                self.state.set_mtu(netdev.mtu);
                match (netdev.up, netdev.carrier) {
                    (false, _) => (LinkState::Down, false),
                    (true, false) => (LinkState::NoCarrier, false),
                    (true, true) => (LinkState::Up, false),
                }
            }
            (found, _) => (LinkState::Gone, found.is_some()),
        };
        let before = self.state.link();
        if link != before {
            info!(port = self.config.name, from = before.name(), to = link.name(), "link");
            self.state.set_link(link);
        }
        found
    }
}

impl Inner {
    /// Attaches the gate of a port whose interface is there.
    pub(crate) fn hook(&self, port: &mut OpenPort) -> Result<(), EngineError> {
        let OpenPort { config, hook, .. } = port;
        let netdev = query(config)?;
        check_queues(config, &netdev, lock(&self.workers).len())?;
        let attached = Hook::attach(config, &netdev, self.config.workers.chunk_size, self.rules.to_host(config.id))
            .map_err(|source| EngineError::Hook { port: config.name.clone(), source })?;
        if config.mode == Mode::Auto && attached.mode() == AttachMode::Generic {
            warn!(port = config.name, driver = netdev.driver, "the driver has no native XDP: generic mode, slow");
        }
        info!(port = config.name, interface = config.interface, mode = ?attached.mode(), "gate attached");
        *hook = Some(attached);
        Ok(())
    }

    /// Hooks a port, and gives its queues to the workers that run. Packets come if it is serving.
    ///
    /// # Errors
    /// Why not; nothing stays behind.
    pub(crate) fn open_port(&self, port: &mut OpenPort) -> Result<(), EngineError> {
        self.hook(port)?;
        let mut opened = self.give_queues(port);
        if opened.is_ok() && port.stage == Stage::Serving {
            opened = self.start_port(port);
        }
        if let Err(e) = opened {
            self.withdraw(port);
            return Err(e);
        }
        port.watch();
        Ok(())
    }

    fn give_queues(&self, port: &OpenPort) -> Result<(), EngineError> {
        for (info, number) in lock(&self.workers).iter_mut().zip(0..) {
            // One that does not run takes the port along when it starts.
            let (Some(crew), Some(options)) = (&mut info.crew, port.queue(number)) else { continue };
            let mut queue = crew.sockets.open(&options).map_err(|source| EngineError::Port {
                port: port.config.name.clone(),
                worker: number,
                source,
            })?;
            if let Err(e) = port.set_tap(&mut queue) {
                crew.sockets.close(port.id(), queue);
                return Err(e);
            }
            info!(worker = number, port = port.config.name, zero_copy = queue.zero_copy(), "socket bound");
            let _ = crew.order(Order::Insert(port.id(), queue)); // ended: it takes the port along when it starts
        }
        Ok(())
    }

    fn start_port(&self, port: &OpenPort) -> Result<(), EngineError> {
        let workers = lock(&self.workers);
        let mut running = workers.iter().zip(0..).filter_map(|(info, number)| Some((info.crew.as_ref()?, number)));
        running.try_for_each(|(crew, number)| port.start(number, &crew.sockets))
    }

    /// Takes a port from its workers, which have `patience` for what is in its rings, and closes its sockets. Its gate goes
    /// before them, as its `on_exit` says.
    pub(crate) fn close_port(&self, port: &mut OpenPort, patience: Duration) {
        port.state.set_link(LinkState::Gone); // nothing more is sent
        port.hook.iter().for_each(Hook::clear_sockets);
        let mut workers = lock(&self.workers);
        let mut queues = Vec::new();
        for crew in workers.iter_mut().filter_map(|info| info.crew.as_mut()) {
            if let Some(queue) = crew.order(Order::Remove(port.id(), patience)) {
                queues.push((crew, queue));
            }
        }
        port.hook.take().into_iter().for_each(Hook::detach);
        for (crew, queue) in queues {
            crew.sockets.close(port.id(), queue);
            crew.order(Order::Reclaim(port.id()));
        }
    }

    /// Closes a port that no packet came by, and leaves nothing at its interface.
    fn withdraw(&self, port: &mut OpenPort) {
        let hook = port.hook.take();
        self.close_port(port, Duration::ZERO);
        hook.into_iter().for_each(Hook::remove);
    }

    /// Opens again what is gone and has an interface again. `true` if something is left to be tried later.
    pub(crate) fn open_again(&self) -> bool {
        let mut left = false;
        for port in self.site.ports().iter_mut().filter(|port| port.hook.is_none() && port.stage == Stage::Serving) {
            if Netdev::query(&port.config.interface).is_err() {
                continue;
            }
            match self.open_port(port) {
                Ok(()) => {}
                Err(EngineError::Port { source, .. }) if source.is_of_memory() => {
                    // New packet memory is for all ports that are there then.
                    if let Err(e) = self.hook(port) {
                        error!("{e}; trying again");
                        left = true;
                        continue;
                    }
                    lock(&self.workers).iter_mut().for_each(|info| info.restart_wanted = true);
                }
                Err(e) => {
                    error!("{e}; trying again");
                    left = true;
                }
            }
        }
        left
    }

    /// Tells workers what became of links, and closes ports whose interfaces went. `true` if one came back.
    pub(crate) fn watch_links(&self) -> bool {
        let mut came_back = false;
        for port in self.site.ports().iter_mut() {
            let found = port.watch();
            came_back |= found && port.stage == Stage::Serving;
            if port.state.link() == LinkState::Gone && port.hook.take().is_some() {
                self.close_port(port, Duration::ZERO);
            }
        }
        came_back
    }

    /// Returns when every worker has begun another burst.
    pub(crate) fn grace(&self) {
        let snapshot = self.shared.bursts.snapshot();
        while !self.shared.bursts.passed(&snapshot) {
            thread::sleep(GRACE);
        }
    }

    /// Takes a port that is closed off the table. When this returns, no worker knows it any more.
    fn forget(&self, port: &OpenPort) {
        self.shared.set_ports(self.shared.ports().without(port.id()));
        self.grace();
    }

    /// Logs what became of a port's packets. `false` if one is not accounted for.
    pub(crate) fn account(&self, port: &OpenPort) -> bool {
        let totals = self.shared.counters.port(port.id());
        info!(
            port = port.config.name,
            received = totals.rx_packets,
            forwarded = totals.forwarded_packets,
            passed = totals.passed,
            consumed = totals.consumed,
            dropped = totals.dropped_packets(),
            "port stopped"
        );
        if totals.balance() != 0 {
            error!(port = port.config.name, missing = totals.balance(), "packets are not accounted for");
        }
        totals.balance() == 0
    }
}

impl Crew {
    /// Has the worker do what `order` says; nothing, if it ended.
    fn order(&self, order: Order<Queue>) -> Option<Queue> {
        self.handover.order(order, || self.waker.wake()).unwrap_or_default()
    }
}

impl Cabling for Inner {
    fn open(&self, config: &Config) -> Result<(), Refused> {
        let mut ports = self.site.ports();
        let running = |name: &str, ports: &[OpenPort]| ports.iter().any(|port| port.config.name == name);
        let wanted = config.ports.iter().filter(|port| !running(&port.name, &ports));
        let coming: Vec<OpenPort> = wanted.map(|port| OpenPort::new(port.clone(), None, Stage::Coming)).collect();
        for port in ports.iter_mut() {
            if coming.iter().any(|coming| coming.config.interface == port.config.interface) {
                port.stage = Stage::Yielding; // it is to go: an interface is one port
                self.close_port(port, DRAIN);
            }
        }
        let mut reasons = Vec::new();
        for mut port in coming {
            self.shared.counters.reset(port.id());
            self.shared.set_ports(self.shared.ports().with(port.id(), Arc::clone(&port.state)));
            reasons.extend(self.open_port(&mut port).err().map(|e| e.to_string()));
            ports.push(port);
        }
        if reasons.is_empty() {
            return Ok(());
        }
        self.take_back(&mut ports);
        Err(Refused(reasons))
    }

    fn attach(&self, port: PortId, block: Option<Arc<Block>>) {
        let before = self.shared.ports().get(port).and_then(|port| port.set_block(block));
        before.into_iter().for_each(|before| self.shared.plane.reaper().defer(before)); // workers may still hold it
    }

    fn settle(&self, config: &Config) {
        self.grace(); // a burst that began before the commit must not meet a port that came with it
        let mut ports = self.site.ports();
        for port in ports.iter_mut().filter(|port| port.stage == Stage::Coming) {
            port.stage = Stage::Serving;
            if let Err(e) = self.start_port(port) {
                error!("{e}; trying again");
                self.close_port(port, Duration::ZERO); // and it is opened again by and by
            }
            info!(port = port.config.name, "port added");
        }
        let place = |port: &OpenPort| config.ports.iter().position(|wanted| wanted.name == port.config.name);
        for mut port in ports.extract_if(.., |port| place(port).is_none()) {
            self.close_port(&mut port, DRAIN);
            self.forget(&port);
            info!(port = port.config.name, "port removed");
            if !self.account(&port) {
                self.site.missing.store(true, Ordering::Relaxed);
            }
        }
        ports.sort_by_key(place);
    }

    fn undo(&self) {
        self.take_back(&mut self.site.ports());
        self.grace();
    }
}

impl Inner {
    /// Closes the ports that were coming, and opens again those that had to yield to them.
    fn take_back(&self, ports: &mut Vec<OpenPort>) {
        for mut port in ports.extract_if(.., |port| port.stage == Stage::Coming) {
            self.withdraw(&mut port);
            self.forget(&port);
        }
        for port in ports.iter_mut().filter(|port| port.stage == Stage::Yielding) {
            port.stage = Stage::Serving;
            if let Err(e) = self.open_port(port) {
                error!("{e}; trying again");
            }
        }
    }
}

/// What the kernel says of a port's interface.
pub(crate) fn query(port: &config::Port) -> Result<Netdev, EngineError> {
    Netdev::query(&port.interface).map_err(|source| EngineError::Interface {
        port: port.name.clone(),
        interface: port.interface.clone(),
        source,
    })
}

/// A worker owns one queue of each port, and sends only by its own: each port needs as many queues as there are workers.
fn check_queues(port: &config::Port, netdev: &Netdev, workers: usize) -> Result<(), EngineError> {
    let (rx, tx) = (netdev.rx_queues, netdev.tx_queues);
    if rx as usize == workers && tx as usize >= workers {
        return Ok(());
    }
    Err(EngineError::Queues { port: port.name.clone(), interface: port.interface.clone(), rx, tx, workers })
}

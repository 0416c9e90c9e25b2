//! The engine: starts and stops ports, workers and the control socket, in that order and back, and looks after them
//! while they run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_config::{self as config, Config, ForwardTo, Mode};
use tidegate_xdp_prog::AttachMode;
use tracing::{error, info, warn};

use crate::control::{Gateway, Limits, Server, Service};
use crate::cpu;
use crate::error::EngineError;
use crate::port::{self, LinkState, PortState};
use crate::quiesce::Bursts;
use crate::reload::{Coordinator, Desk, Load};
use crate::report::RateMeter;
use crate::rings::Rings;
use crate::rules::Rules;
use crate::worker::{Shared, Worker, WorkerReport};
use crate::xdp::Hook;
use crate::xsk::netdev::Netdev;
use crate::xsk::{QueueOptions, RingsOptions, Waker, XskRings};

/// Least time between two attempts to start workers again or to hook ports again.
const RETRY: Duration = Duration::from_secs(1);

/// A running gateway. Call [`Engine::tick`] some 20 times a second, and [`Engine::stop`] at the end.
pub struct Engine {
    inner: Arc<Inner>,
    /// By worker; none while it is down.
    threads: Vec<Option<WorkerThread>>,
    retry_at: Instant,
    /// A port came back, and is to be hooked again.
    rebuild: bool,
    coordinator: Option<Coordinator>,
    _server: Option<Server>,
}

/// What the control socket's threads see of the engine.
pub(crate) struct Inner {
    /// Without blocks.
    pub(crate) config: Config,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) started: Instant,
    /// By port; none while the interface is gone.
    pub(crate) hooks: Mutex<Vec<Option<Hook>>>,
    /// By worker.
    pub(crate) workers: Mutex<Vec<WorkerInfo>>,
    pub(crate) rates: Mutex<RateMeter>,
}

/// What is known of a worker from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerInfo {
    pub(crate) running: bool,
    pub(crate) restarts: u64,
    pub(crate) frames: u64,
    pub(crate) restart_wanted: bool,
    /// Its queues: port, and whether bound zero-copy.
    pub(crate) queues: Vec<(PortId, bool)>,
}

struct WorkerThread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: JoinHandle<WorkerReport>,
}

impl Engine {
    /// Starts everything `config` wants: filters first, then gates, then sockets, then traffic.
    ///
    /// # Errors
    /// The first thing that failed; nothing stays behind.
    pub fn start(mut config: Config) -> Result<Engine, EngineError> {
        let netdevs = config.ports.iter().map(query).collect::<Result<Vec<_>, _>>()?;
        let workers = count_workers(&config, &netdevs);
        let bursts = Bursts::new(workers);
        let plane = Plane::new(workers.into(), bursts.clone());
        let rules = Arc::new(Rules::new(&config, &plane)?);
        config.blocks = Vec::new(); // they run: the plane has them
        let ports = (0..).map(PortId).zip(&config.ports).map(|(id, port)| {
            let forward_to = match port.forward_to {
                ForwardTo::Port(index) => port::ForwardTo::Port(port_id(index)),
                ForwardTo::Host => port::ForwardTo::Host,
            };
            PortState::new(&port.name, forward_to, rules.of_port(id))
        });
        let shared = Arc::new(Shared::new(bursts, plane, ports.collect()));
        let inner = Arc::new(Inner {
            shared,
            desk: Arc::new(Desk::new(Arc::clone(&rules))),
            rules,
            started: Instant::now(),
            hooks: Mutex::new(config.ports.iter().map(|_| None).collect()),
            workers: Mutex::new(vec![WorkerInfo::default(); workers.into()]),
            rates: Mutex::new(RateMeter::new(config.ports.len())),
            config,
        });
        let threads = (0..workers).map(|_| None).collect();
        let mut engine =
            Engine { inner, threads, retry_at: Instant::now(), rebuild: false, coordinator: None, _server: None };
        engine.open()?;
        Ok(engine)
    }

    fn open(&mut self) -> Result<(), EngineError> {
        self.inner.hook_ports()?;
        self.inner.watch_links(); // the first packet must not find its target down
        for worker in 0..self.threads.len() {
            self.threads[worker] = Some(self.inner.start_worker(worker)?);
        }
        let control = &self.inner.config.control;
        let service = Service {
            plane: Arc::clone(self.plane()),
            directory: Arc::clone(self.inner.rules.directory()),
            gateway: Some(Arc::clone(&self.inner) as Arc<dyn Gateway>),
        };
        let server = Server::start(&control.socket, &control.group, Arc::new(service), Limits::default())
            .map_err(|source| EngineError::Control { path: control.socket.display().to_string(), source })?;
        self._server = Some(server);
        Ok(())
    }

    /// The control plane of its filters. A block that several ports share has an index there: its place in the file plus one.
    pub fn plane(&self) -> &Arc<Plane> {
        &self.inner.shared.plane
    }

    /// Takes orders for reloads from now on, of the configuration that `load` reads. Gives the desk for them.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn take_orders(&mut self, load: Load) -> Result<Arc<Desk>, EngineError> {
        let (desk, shared) = (&self.inner.desk, Arc::clone(&self.inner.shared));
        let attach = move |port, block| {
            let before = shared.ports.get(port).and_then(|port| port.set_block(block));
            before.into_iter().for_each(|before| shared.plane.reaper().defer(before)); // workers may still hold it
        };
        self.coordinator = Some(Coordinator::start(desk, load, Box::new(attach)).map_err(EngineError::Thread)?);
        Ok(Arc::clone(desk))
    }

    /// Looks after links, workers and rates.
    pub fn tick(&mut self) {
        self.rebuild |= self.inner.watch_links();
        self.inner.update_rates();
        self.inner.shared.plane.reaper().poll();
        if Instant::now() < self.retry_at {
            return;
        }
        let rebuilt = self.rebuild && self.hook_again();
        let due: Vec<usize> = (0..self.threads.len()).filter(|&worker| rebuilt || self.wants_start(worker)).collect();
        if self.rebuild || !due.is_empty() {
            self.retry_at = Instant::now() + RETRY;
        }
        for worker in due {
            if let Err(e) = self.restart(worker) {
                error!("{e}; trying again");
            }
        }
    }

    /// Hooks ports that came back. While one of them cannot be hooked the others go on as they are.
    fn hook_again(&mut self) -> bool {
        if let Err(e) = self.inner.hook_ports() {
            error!("{e}; trying again");
            return false;
        }
        self.rebuild = false;
        true
    }

    fn wants_start(&self, worker: usize) -> bool {
        self.threads[worker].as_ref().is_none_or(|running| running.thread.is_finished())
            || lock(&self.inner.workers)[worker].restart_wanted
    }

    fn restart(&mut self, worker: usize) -> Result<(), EngineError> {
        self.end(worker);
        self.threads[worker] = Some(self.inner.start_worker(worker)?);
        let info = &mut lock(&self.inner.workers)[worker];
        info.restarts += 1;
        info!(worker, restarts = info.restarts, "worker restarted");
        Ok(())
    }

    /// Stops: no more packets, frames counted, gates off, socket gone. `false` if a frame was lost, or a packet is not
    /// accounted for.
    pub fn stop(mut self) -> bool {
        let mut clean = self.close();
        for (id, port) in self.inner.shared.ports.iter() {
            let totals = self.inner.shared.counters.port(id);
            info!(
                port = port.name(),
                received = totals.rx_packets,
                forwarded = totals.forwarded_packets,
                passed = totals.passed,
                consumed = totals.consumed,
                dropped = totals.dropped_packets(),
                "port stopped"
            );
            if totals.balance() != 0 {
                error!(port = port.name(), missing = totals.balance(), "packets are not accounted for");
                clean = false;
            }
        }
        clean
    }

    /// Takes the gates off, then ends the workers: a driver must not be caught mid-burst by a socket that closes.
    /// `false` if frames were lost.
    fn close(&mut self) -> bool {
        self.coordinator = None;
        lock(&self.inner.hooks).iter_mut().filter_map(Option::take).for_each(Hook::detach);
        let lost = (0..self.threads.len()).filter(|&worker| !self.end(worker)).count();
        lost == 0
    }

    /// Ends a worker, if it runs. `false` if frames were lost, or it had panicked.
    fn end(&mut self, worker: usize) -> bool {
        let Some(running) = self.threads[worker].take() else { return true };
        lock(&self.inner.workers)[worker].running = false;
        running.stop.store(true, Ordering::Release);
        running.waker.wake();
        match running.thread.join() {
            Ok(WorkerReport { leaked: 0, .. }) => true,
            Ok(WorkerReport { leaked, census, .. }) => {
                error!(worker, leaked, ?census, "frames were lost");
                false
            }
            Err(_) => {
                error!(worker, "worker panicked");
                false
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Hooks every port that is not hooked and whose interface exists.
    fn hook_ports(&self) -> Result<(), EngineError> {
        let mut hooks = lock(&self.hooks);
        for (index, port) in self.config.ports.iter().enumerate() {
            if hooks[index].is_some() {
                continue;
            }
            let Ok(netdev) = Netdev::query(&port.interface) else { continue };
            check_queues(port, &netdev, lock(&self.workers).len())?;
            let to_host = self.rules.to_host(index);
            let hook = Hook::attach(port, &netdev, self.config.workers.chunk_size, to_host)
                .map_err(|source| EngineError::Hook { port: port.name.clone(), source })?;
            if port.mode == Mode::Auto && hook.mode() == AttachMode::Generic {
                warn!(port = port.name, driver = netdev.driver, "the driver has no native XDP: generic mode, slow");
            }
            info!(port = port.name, interface = port.interface, mode = ?hook.mode(), "gate attached");
            hooks[index] = Some(hook);
            // Not gone any more, or new workers would give its queue up; and not up before they have one.
            if let Some(state) = self.shared.ports.get(port_id(index)) {
                state.set_link(LinkState::Down);
            }
        }
        Ok(())
    }

    fn start_worker(self: &Arc<Self>, worker: usize) -> Result<WorkerThread, EngineError> {
        let number = port_id(worker).0;
        let rings_error = |source| EngineError::Rings { worker: number, source };
        let workers = &self.config.workers;
        let hooks = lock(&self.hooks);
        let hooked: Vec<(PortId, &config::Port, &Hook)> = self
            .config
            .ports
            .iter()
            .zip(hooks.iter())
            .enumerate()
            .filter_map(|(index, (port, hook))| Some((port_id(index), port, hook.as_ref()?)))
            .collect();
        let queues: Vec<QueueOptions> = hooked
            .iter()
            .map(|&(id, port, hook)| QueueOptions {
                port: id,
                interface: &port.interface,
                queue: u32::from(number),
                zero_copy: hook.zero_copy(),
            })
            .collect();
        let wanted = u32::try_from(queues.len()).unwrap_or(u32::MAX);
        let frames = workers.frames.unwrap_or_else(|| XskRings::frames(wanted, workers.ring_size));
        let options = RingsOptions {
            chunk_size: workers.chunk_size,
            frames,
            huge_pages: workers.huge_pages,
            ring_size: workers.ring_size,
        };
        let mut rings = XskRings::new(&options, &queues).map_err(rings_error)?;
        if let Some(refusal) = rings.refusal() {
            info!(worker, "no zero-copy, copying: {refusal}");
        }
        let mut bound = Vec::new();
        for (id, port, hook) in hooked {
            let tap = hook
                .tap_queue()
                .map_err(|source| EngineError::Hook { port: port.name.clone(), source: source.into() })?;
            if let Some(tap) = tap {
                rings.set_tap(id, tap);
            }
            let Some(queue) = rings.queue(id) else { continue };
            hook.set_socket(u32::from(number), queue.fd())
                .map_err(|source| EngineError::Map { worker: number, source })?;
            info!(worker, port = port.name, queue = number, zero_copy = queue.zero_copy(), "socket bound");
            bound.push((id, queue.zero_copy()));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let waker = rings.waker();
        let core = workers.cores.get(worker).copied();
        let (flag, inner) = (Arc::clone(&stop), Arc::clone(self));
        let frames = rings.census().total as u64;
        let thread = thread::Builder::new()
            .name(format!("worker-{worker}"))
            .spawn(move || {
                if let Some(Err(e)) = core.map(cpu::pin) {
                    warn!(worker, core, "cannot pin: {e}");
                }
                let workers = &inner.config.workers;
                Worker::new(WorkerId(number), rings, Arc::clone(&inner.shared), workers.burst, workers.idle).run(&flag)
            })
            .map_err(EngineError::Thread)?;
        let info = &mut lock(&self.workers)[worker];
        info.running = true;
        info.restart_wanted = false;
        info.queues = bound;
        info.frames = frames;
        Ok(WorkerThread { stop, waker, thread })
    }

    /// What the names of the configuration stand for.
    /// Tells workers what became of links. `true` if an interface came back that has to be hooked again.
    fn watch_links(&self) -> bool {
        let mut hooks = lock(&self.hooks);
        let mut came_back = false;
        for ((id, state), (port, hook)) in self.shared.ports.iter().zip(self.config.ports.iter().zip(hooks.iter_mut()))
        {
            let netdev = Netdev::query(&port.interface).ok();
            let link = match (&netdev, &hook) {
                (Some(netdev), Some(hook)) if netdev.ifindex == hook.ifindex() => {
                    state.set_mtu(netdev.mtu);
                    match (netdev.up, netdev.carrier) {
                        (false, _) => LinkState::Down,
                        (true, false) => LinkState::NoCarrier,
                        (true, true) => LinkState::Up,
                    }
                }
                (found, _) => {
                    // The hook went with its interface; another one of the same name needs a new hook, and new sockets.
                    *hook = None;
                    came_back |= found.is_some();
                    LinkState::Gone
                }
            };
            if link != state.link() {
                info!(port = port.name, id = id.0, from = state.link().name(), to = link.name(), "link");
                state.set_link(link);
            }
        }
        came_back
    }
}

/// Locks `mutex`. What these mutexes guard is replaced whole, so a panic elsewhere leaves nothing half-done in it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn query(port: &config::Port) -> Result<Netdev, EngineError> {
    Netdev::query(&port.interface).map_err(|source| EngineError::Interface {
        port: port.name.clone(),
        interface: port.interface.clone(),
        source,
    })
}

/// As many workers as the file says, or else as the port with the most queues has.
fn count_workers(config: &Config, netdevs: &[Netdev]) -> u16 {
    let most = netdevs.iter().map(|netdev| netdev.rx_queues).max().unwrap_or(1);
    config.workers.count.unwrap_or_else(|| u16::try_from(most).unwrap_or(u16::MAX))
}

/// A worker owns one queue of each port, and sends only by its own: each port needs as many queues as there are workers.
fn check_queues(port: &config::Port, netdev: &Netdev, workers: usize) -> Result<(), EngineError> {
    let (rx, tx) = (netdev.rx_queues, netdev.tx_queues);
    if rx as usize == workers && tx as usize >= workers {
        return Ok(());
    }
    Err(EngineError::Queues { port: port.name.clone(), interface: port.interface.clone(), rx, tx, workers })
}

/// Tables of ports and workers are far below 65,536 entries; a number beyond that names nothing.
pub(crate) fn port_id(index: usize) -> PortId {
    PortId(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;

    #[test]
    fn a_worker_that_ended_by_itself_is_started_again_and_its_end_is_reported() {
        if !Lab::allowed() {
            return;
        }
        let lab = Lab::new("engine");
        let (here, there) = (lab.namespace("here").unwrap(), lab.namespace("there").unwrap());
        lab.veth((&here, "p0"), (&there, "p1"), 1).unwrap();
        let folder = lab.folder().unwrap();
        let file = folder.join("t.toml");
        let socket = folder.join("t.sock");
        std::fs::write(&file, format!("[control]\nsocket = {socket:?}\n[port.p0]\nforward_to = \"host\"\n")).unwrap();
        here.inside(|| {
            let mut engine = Engine::start(tidegate_config::load(&file).unwrap()).unwrap();
            for round in 1..=2 {
                engine.threads[0].as_ref().unwrap().stop.store(true, Ordering::Release);
                let end = Instant::now() + 10 * RETRY;
                while lock(&engine.inner.workers)[0].restarts < round {
                    assert!(Instant::now() < end, "the worker is not started again");
                    engine.tick();
                    thread::sleep(Duration::from_millis(10));
                }
                assert!(lock(&engine.inner.workers)[0].running);
            }
            assert!(engine.stop(), "nothing was lost");
            assert!(!socket.exists(), "the control socket goes with the engine");
        })
        .unwrap();
    }
}

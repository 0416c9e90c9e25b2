//! The engine: starts and stops ports, workers and the control socket, in that order and back, and looks after them
//! while they run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_config::{self as config, Config};
use tracing::{error, info, warn};

use crate::control::{Gateway, Limits, Server, Service};
use crate::cpu;
use crate::error::EngineError;
use crate::handover::handover;
use crate::quiesce::Bursts;
use crate::reload::{Coordinator, Desk, Load};
use crate::rings::Rings;
use crate::rules::{Cabling, Rules};
use crate::site::{self, Crew, OpenPort, Site, Stage};
use crate::worker::{Shared, Worker, WorkerReport};
use crate::xdp::Hook;
use crate::xsk::{QueueOptions, RingsOptions, Waker, XskRings};

/// Ports that can come while the gateway runs, where the file does not say how many frames there are.
const SPARE_PORTS: u32 = 2;

/// Least time between two attempts to start workers again or to open ports again.
const RETRY: Duration = Duration::from_secs(1);

/// A running gateway. Call [`Engine::tick`] some 20 times a second, and [`Engine::stop`] at the end.
pub struct Engine {
    inner: Arc<Inner>,
    /// By worker; none while it is down.
    threads: Vec<Option<WorkerThread>>,
    retry_at: Instant,
    /// A port came back, and is to be opened again.
    reopen: bool,
    coordinator: Option<Coordinator>,
    _server: Option<Server>,
}

/// What the control socket's threads and the coordinator see of the engine.
pub(crate) struct Inner {
    /// Without ports and blocks.
    pub(crate) config: Config,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) started: Instant,
    /// Locked before `workers`.
    pub(crate) site: Site,
    /// By worker.
    pub(crate) workers: Mutex<Vec<WorkerInfo>>,
}

/// What is known of a worker from outside.
#[derive(Debug, Default)]
pub(crate) struct WorkerInfo {
    pub(crate) running: bool,
    pub(crate) restarts: u64,
    pub(crate) frames: u64,
    pub(crate) restart_wanted: bool,
    /// While it runs.
    pub(crate) crew: Option<Crew>,
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
        let workers = count_workers(&config)?;
        let bursts = Bursts::new(workers);
        let plane = Plane::new(workers.into(), bursts.clone());
        let rules = Arc::new(Rules::new(&config, &plane)?);
        let serving = |port: config::Port| {
            let block = rules.of_port(port.id);
            OpenPort::new(port, block, Stage::Serving)
        };
        let ports: Vec<OpenPort> = std::mem::take(&mut config.ports).into_iter().map(serving).collect();
        config.blocks = Vec::new(); // they run: the plane has them
        let shared = Shared::new(bursts, plane, Vec::new());
        shared.set_ports(ports.iter().map(|port| (port.id(), Arc::clone(&port.state))).collect());
        let inner = Arc::new(Inner {
            shared: Arc::new(shared),
            desk: Arc::new(Desk::new(Arc::clone(&rules))),
            rules,
            started: Instant::now(),
            site: Site::new(ports),
            workers: Mutex::new((0..workers).map(|_| WorkerInfo::default()).collect()),
            config,
        });
        let threads = (0..workers).map(|_| None).collect();
        let mut engine =
            Engine { inner, threads, retry_at: Instant::now(), reopen: false, coordinator: None, _server: None };
        engine.open()?;
        Ok(engine)
    }

    fn open(&mut self) -> Result<(), EngineError> {
        self.inner.site.ports().iter_mut().try_for_each(|port| self.inner.hook(port))?;
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
        let desk = &self.inner.desk;
        let cabling = Arc::clone(&self.inner) as Arc<dyn Cabling>;
        self.coordinator = Some(Coordinator::start(desk, load, cabling).map_err(EngineError::Thread)?);
        Ok(Arc::clone(desk))
    }

    /// Looks after links, workers and rates.
    pub fn tick(&mut self) {
        self.reopen |= self.inner.watch_links();
        self.inner.update_rates();
        self.inner.shared.plane.reaper().poll();
        if Instant::now() < self.retry_at {
            return;
        }
        let reopened = std::mem::take(&mut self.reopen);
        self.reopen = reopened && self.inner.open_again();
        let due: Vec<usize> = (0..self.threads.len()).filter(|&worker| self.wants_start(worker)).collect();
        if reopened || !due.is_empty() {
            self.retry_at = Instant::now() + RETRY;
        }
        for worker in due {
            if let Err(e) = self.restart(worker) {
                error!("{e}; trying again");
            }
        }
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
        let mut clean = self.close() && self.inner.site.accounts();
        for port in self.inner.site.ports().iter() {
            clean &= self.inner.account(port);
        }
        clean
    }

    /// Takes the gates off, then ends the workers: a driver must not be caught mid-burst by a socket that closes.
    /// `false` if frames were lost.
    fn close(&mut self) -> bool {
        self.coordinator = None;
        self.inner.site.ports().iter_mut().filter_map(|port| port.hook.take()).for_each(Hook::detach);
        let lost = (0..self.threads.len()).filter(|&worker| !self.end(worker)).count();
        lost == 0
    }

    /// Ends a worker, if it runs. `false` if frames were lost, or it had panicked.
    fn end(&mut self, worker: usize) -> bool {
        let Some(running) = self.threads[worker].take() else { return true };
        lock(&self.inner.workers)[worker].running = false;
        running.stop.store(true, Ordering::Release);
        running.waker.wake();
        let ended = running.thread.join();
        lock(&self.inner.workers)[worker].crew = None;
        match ended {
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
    /// Starts a worker with the queues of all ports that are hooked.
    fn start_worker(self: &Arc<Self>, worker: usize) -> Result<WorkerThread, EngineError> {
        let number = port_id(worker).0;
        let rings_error = |source| EngineError::Rings { worker: number, source };
        let workers = &self.config.workers;
        let ports = self.site.ports();
        let queues: Vec<QueueOptions<'_>> = ports.iter().filter_map(|port| port.queue(number)).collect();
        let wanted = u32::try_from(ports.len()).unwrap_or(u32::MAX) + SPARE_PORTS;
        let options = RingsOptions {
            chunk_size: workers.chunk_size,
            frames: workers.frames.unwrap_or_else(|| XskRings::frames(wanted, workers.ring_size)),
            huge_pages: workers.huge_pages,
            ring_size: workers.ring_size,
        };
        let (mut rings, sockets) = XskRings::new(&options, &queues).map_err(rings_error)?;
        if let Some(refusal) = rings.refusal() {
            info!(worker, "no zero-copy, copying: {refusal}");
        }
        for port in ports.iter() {
            let Some(queue) = rings.queue_mut(port.id()) else { continue };
            port.set_tap(queue)?;
            info!(worker, port = port.config.name, queue = number, zero_copy = queue.zero_copy(), "socket bound");
            if port.stage == Stage::Serving {
                port.start(number, &sockets)?;
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let waker = rings.waker();
        let (handover, orders) = handover();
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
                Worker::new(WorkerId(number), rings, Arc::clone(&inner.shared), workers.burst, workers.idle)
                    .taking(orders)
                    .caching(workers.flow_cache)
                    .run(&flag)
            })
            .map_err(EngineError::Thread)?;
        let info = &mut lock(&self.workers)[worker];
        info.running = true;
        info.restart_wanted = false;
        info.frames = frames;
        info.crew = Some(Crew { sockets, handover, waker: waker.clone() });
        Ok(WorkerThread { stop, waker, thread })
    }
}

/// Locks `mutex`. What these mutexes guard is replaced whole, so a panic elsewhere leaves nothing half-done in it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many workers as the file says, or else as the port with the most queues has.
fn count_workers(config: &Config) -> Result<u16, EngineError> {
    let mut most = 1;
    for port in &config.ports {
        most = most.max(site::query(port)?.rx_queues);
    }
    Ok(config.workers.count.unwrap_or_else(|| u16::try_from(most).unwrap_or(u16::MAX)))
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

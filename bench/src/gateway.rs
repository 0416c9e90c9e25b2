//! The gateway under test: the engine in this process, its threads in the gateway's namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tidegate_classifiers::plane::Plane;
use tidegate_client::Client;
use tidegate_client::status::Status;
use tidegate_client::wire::ReloadReport;
use tidegate_config::Config;
use tidegate_engine::cpu;
use tidegate_engine::engine::Engine;
use tidegate_engine::lab::Namespace;

/// How often the engine looks after itself.
const TICK: Duration = Duration::from_millis(50);

/// Its file, beside its socket.
const FILE: &str = "bench.toml";

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    socket: PathBuf,
    plane: Arc<Plane>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<bool>>,
}

impl Gateway {
    /// Name of its first worker's thread.
    pub(crate) const WORKER: &str = "worker-0";

    /// Starts it in `namespace`. What is not a worker runs on `core`.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(namespace: &Namespace, config: Config, core: u16) -> Result<Gateway> {
        let socket = config.control.socket.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let (path, flag) = (namespace.path(), Arc::clone(&stop));
        let (ready, started) = mpsc::channel();
        let run = move || {
            // Before anything is started: every thread inherits namespace and core, and only workers change the latter.
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
            cpu::pin(core)?;
            let file = config.control.socket.with_file_name(FILE);
            let mut engine = Engine::start(config)?;
            engine.take_orders(Box::new(move |running| {
                tidegate_config::load_beside(&file, std::iter::empty(), running)
            }))?;
            ready.send(Arc::clone(engine.plane()))?;
            while !flag.load(Ordering::Acquire) {
                engine.tick();
                thread::sleep(TICK);
            }
            Ok(engine.stop())
        };
        let thread = thread::Builder::new().name("engine".into()).spawn(run)?;
        match started.recv() {
            Ok(plane) => Ok(Gateway { socket, plane, stop, thread }),
            Err(_) => join(thread).and_then(|_| bail!("the gateway did not start")),
        }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) fn status(&self) -> Result<Status> {
        Ok(Client::connect(&self.socket)?.status()?)
    }

    /// The same without its filters, of which there may be many.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) fn brief_status(&self) -> Result<Status> {
        Ok(Client::connect(&self.socket)?.brief_status()?)
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has it take over what [`config`] wrote last.
    ///
    /// # Errors
    /// If it is refused.
    pub(crate) fn reload(&self) -> Result<ReloadReport> {
        Ok(Client::connect(&self.socket)?.reload(None)?)
    }

    /// Stops it. `false` if it lost a frame or left something behind.
    ///
    /// # Errors
    /// If it panicked.
    pub(crate) fn stop(self) -> Result<bool> {
        self.stop.store(true, Ordering::Release);
        join(self.thread)
    }

    /// Its control plane.
    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }
}

fn join(thread: JoinHandle<Result<bool>>) -> Result<bool> {
    thread.join().unwrap_or_else(|_| bail!("it panicked")).context("gateway")
}

/// Checks `text` as the gateway's own file, by the path that a person's file takes. Environment variables do not count.
///
/// # Errors
/// The mistakes in it.
pub(crate) fn config(folder: &Path, text: &str) -> Result<Config> {
    write(folder, text)?;
    Ok(tidegate_config::load_with(&file(folder), std::iter::empty())?)
}

/// The gateway's own file.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Writes `text` as the gateway's own file, for it to check at the next reload.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(folder: &Path, text: &str) -> Result<()> {
    Ok(fs::write(file(folder), text)?)
}

//! Why the gateway did not start, or a part of it did not start again.

use tidegate_classifiers::error::RequestError;
use tidegate_xdp_prog::GateError;

use crate::apply::Refused;
use crate::xdp::HookError;
use crate::xsk::XskError;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The interface cannot be asked.
    #[error("port {port}: interface {interface}: {source}")]
    Interface {
        /// Name of the port.
        port: String,
        /// Its interface.
        interface: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Queues and workers do not fit together.
    #[error(
        "port {port}: interface {interface} has {rx} receive and {tx} transmit queues for {workers} workers, each of which owns one queue \
         of every port; run `ethtool -L {interface} combined {workers}`, or set workers.count"
    )]
    Queues {
        /// Name of the port.
        port: String,
        /// Its interface.
        interface: String,
        /// Receive queues in use.
        rx: u32,
        /// Transmit queues in use.
        tx: u32,
        /// Workers wanted.
        workers: usize,
    },
    /// The gate or the host path.
    #[error("port {port}: {source}")]
    Hook {
        /// Name of the port.
        port: String,
        /// What went wrong.
        source: HookError,
    },
    /// A port's socket, beside those that run.
    #[error("port {port}: worker {worker}: {source}")]
    Port {
        /// Name of the port.
        port: String,
        /// Number of the worker.
        worker: u16,
        /// What went wrong.
        source: XskError,
    },
    /// Sockets and packet memory.
    #[error("worker {worker}: {source}")]
    Rings {
        /// Number of the worker.
        worker: u16,
        /// What went wrong.
        source: XskError,
    },
    /// A socket did not get into the gate's map.
    #[error("worker {worker}: {source}")]
    Map {
        /// Number of the worker.
        worker: u16,
        /// What the kernel said.
        source: GateError,
    },
    /// A block could not be bound to its port.
    #[error("block {block}: {source}")]
    Bind {
        /// Name of the block.
        block: String,
        /// Why it was refused.
        source: RequestError,
    },
    /// Chains and filters of the configuration.
    #[error(transparent)]
    Rules(Refused),
    /// The control socket.
    #[error("control socket {path}: {source}")]
    Control {
        /// Its path.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

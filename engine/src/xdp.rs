//! A port's hook in the kernel: the gate in front of its sockets, and the way to the host behind them.

use std::os::fd::BorrowedFd;

use tidegate_config as config;
use tidegate_xdp_prog as prog;
use tidegate_xdp_prog::{AttachMode, Gate, GateCounters, GateError, HostPath};
use tracing::warn;

use crate::xsk::ZeroCopy;
use crate::xsk::netdev::{ChunkError, Netdev, Promiscuous, check_chunk};
use crate::xsk::tap::{Tap, TapQueue};

/// What stands between one port's interface and the gateway, from attach to detach.
#[derive(Debug)]
pub struct Hook {
    /// Dropped first: it needs the gate's word in generic mode.
    host: Option<(HostPath, Tap)>,
    gate: Gate,
    /// Interface index it was attached to: another index means another interface of the same name.
    ifindex: u32,
    zero_copy: ZeroCopy,
    /// A wire takes frames for everybody.
    _promiscuous: Option<Promiscuous>,
}

/// Why a port could not be hooked.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The gate or the host path.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// Chunks too small for zero-copy, which `mode` demands.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The TAP device.
    #[error("cannot make the TAP device for the host's stack: {0}; is the module `tun` there?")]
    Tap(#[from] std::io::Error),
}

impl Hook {
    /// Attaches the gate to `port`'s interface, and opens the way to the host if `to_host`. `chunk_size` is that of the
    /// UMEMs its sockets will use.
    ///
    /// # Errors
    /// See [`HookError`]; nothing stays behind.
    pub fn attach(port: &config::Port, netdev: &Netdev, chunk_size: u32, to_host: bool) -> Result<Hook, HookError> {
        let wanted = zero_copy(port, netdev, chunk_size)?;
        let gate = Gate::attach(&prog::GateOptions {
            ifindex: netdev.ifindex,
            queues: netdev.rx_queues,
            on_exit: match port.on_exit {
                config::OnExit::Pass => prog::OnExit::Pass,
                config::OnExit::Drop => prog::OnExit::Drop,
            },
            generic: match port.mode {
                config::Mode::Auto => prog::GenericPolicy::Auto,
                config::Mode::ZeroCopy | config::Mode::Native => prog::GenericPolicy::Native,
                config::Mode::Generic => prog::GenericPolicy::Generic,
            },
            pass: pass_list(&port.host),
        })?;
        let host = if to_host {
            let tap = Tap::create(&port.name)?;
            Some((HostPath::attach(&gate, tap.ifindex())?, tap))
        } else {
            None
        };
        let zero_copy = match gate.mode() {
            AttachMode::Native => wanted,
            AttachMode::Generic => ZeroCopy::Never,
        };
        let _promiscuous = match port.forward_to {
            config::ForwardTo::Host => None,
            config::ForwardTo::Port(_) => Promiscuous::new(netdev.ifindex)
                .inspect_err(|e| warn!(port = port.name, "not promiscuous, frames for others may not arrive: {e}"))
                .ok(),
        };
        Ok(Hook { gate, host, ifindex: netdev.ifindex, zero_copy, _promiscuous })
    }

    /// Index of the interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether the driver runs the gate, or the kernel's generic path does.
    pub fn mode(&self) -> AttachMode {
        self.gate.mode()
    }

    /// Whether its sockets are to be bound zero-copy.
    pub fn zero_copy(&self) -> ZeroCopy {
        self.zero_copy
    }

    /// From now on, packets of `queue` go to `socket`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), GateError> {
        self.gate.set_socket(queue, socket)
    }

    /// From now on, packets go to no socket.
    pub fn clear_sockets(&self) {
        self.gate.clear_sockets();
    }

    /// A way to the host for one worker; `None` if this port needs none.
    ///
    /// # Errors
    /// If the TAP gives no further queue.
    pub fn tap_queue(&self) -> std::io::Result<Option<TapQueue>> {
        self.host.as_ref().map(|(_, tap)| tap.queue()).transpose()
    }

    /// What the gate decided so far.
    ///
    /// # Errors
    /// If the kernel refuses to read the map.
    pub fn counters(&self) -> Result<GateCounters, GateError> {
        self.gate.counters()
    }

    /// Takes the gate off; with `on_exit = "drop"` it stays, and drops.
    pub fn detach(self) {
        drop(self.host);
        self.gate.detach();
    }

    /// Takes the gate off, whatever `on_exit` says.
    pub fn remove(self) {
        let ifindex = self.ifindex;
        self.detach();
        // The interface may be gone, and the program with it.
        let _ = prog::detach_stale(ifindex);
    }
}

/// Takes what a dead run left on `interface` off; says what was done.
///
/// # Errors
/// If there is no such interface, or a living gateway's or a foreign program on it.
pub fn detach(interface: &str) -> Result<String, HookError> {
    let netdev = Netdev::query(interface)?;
    Ok(match prog::detach_stale(netdev.ifindex)? {
        prog::Detached::Nothing => "nothing was attached".into(),
        prog::Detached::Program { id, mode } => format!("detached program {id}, {mode:?} mode"),
    })
}

/// What `mode` asks for, as far as chunks allow. Only what the file demands can fail: otherwise too small a chunk means
/// copies, and frames beyond a chunk are dropped and counted.
fn zero_copy(port: &config::Port, netdev: &Netdev, chunk_size: u32) -> Result<ZeroCopy, ChunkError> {
    let fits = |zero_copy| check_chunk(&netdev.driver, netdev.mtu, chunk_size, zero_copy);
    if let Err(e) = fits(false) {
        warn!(port = port.name, "longer frames will be dropped: {e}");
    }
    match port.mode {
        config::Mode::ZeroCopy => fits(true).map(|()| ZeroCopy::Require),
        config::Mode::Native | config::Mode::Generic => Ok(ZeroCopy::Never),
        config::Mode::Auto => match fits(true) {
            Ok(()) => Ok(ZeroCopy::Try),
            Err(e) => {
                warn!(port = port.name, "no zero-copy: {e}");
                Ok(ZeroCopy::Never)
            }
        },
    }
}

fn pass_list(list: &config::PassList) -> prog::PassList {
    let neighbours = |n| match n {
        config::Neighbours::None => prog::Neighbours::None,
        config::Neighbours::Own => prog::Neighbours::Own,
        config::Neighbours::All => prog::Neighbours::All,
    };
    let transport = |t| match t {
        config::Transport::Tcp => prog::Transport::Tcp,
        config::Transport::Udp => prog::Transport::Udp,
        config::Transport::Sctp => prog::Transport::Sctp,
    };
    prog::PassList {
        arp: neighbours(list.arp),
        nd: neighbours(list.nd),
        protocols: list.protocols.clone(),
        addresses: list.addresses.clone(),
        ports: list.ports.iter().map(|&(t, port)| (transport(t), port)).collect(),
    }
}

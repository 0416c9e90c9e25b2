//! The control socket: what clients ask is done with the control plane, as docs/control-socket.md says.
//!
//! A thread accepts ([`Server`]), and each connection has a thread of its own. Nothing here needs packets: a [`Service`] over
//! a plane and ports without interfaces serves the same requests, for tests and for who only wants to try filters.

mod connection; // one client: messages in, messages out, and what it may take
pub mod directory; // Directory: what names stand for: ports, blocks, hooks
mod events; // what happened, in the words of the file
mod limits; // Limits: what clients may take; Pace
mod peer; // who is at the other end
mod server; // Server: the listening socket
mod session; // the requests of one client

use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::plane::{Hook, Plane};
use tidegate_client::status::Status;
use tidegate_client::wire::Refusal;

use crate::reload::Desk;
use crate::samples::Listener;

pub use directory::Directory;
pub use limits::Limits;
pub use server::Server;

/// What requests are about.
pub struct Service {
    /// Filters, chains and actions.
    pub plane: Arc<Plane>,
    /// The names that requests use.
    pub directory: Arc<Directory>,
    /// The running gateway; none where there are only filters.
    pub gateway: Option<Arc<dyn Gateway>>,
}

/// What requests need of the running gateway. Called from many threads.
pub trait Gateway: Send + Sync {
    /// What `tidegate status` shows, but for the filters.
    fn status(&self) -> Status;

    /// Has a worker stopped and started afresh.
    ///
    /// # Errors
    /// `ENOENT` if there is none of this number.
    fn restart_worker(&self, worker: u16) -> Result<(), Refusal>;

    /// Has the packets of `hook` meet `block`, or no filter at all. When this returns, no packet meets what was there before.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if no packets come by this hook.
    fn attach(&self, hook: Hook, block: Option<Arc<Block>>) -> Result<(), Refusal>;

    /// Now, on the clock that the ages of filters count by, in ns.
    fn now_ns(&self) -> u64;

    /// Listens to packets that are shown under `group`; to all of them without one.
    ///
    /// # Errors
    /// `EAGAIN` if too many listen already; `EOPNOTSUPP` if no packets come by.
    fn listen(&self, _group: Option<u32>) -> Result<Listener, Refusal> {
        Err(Refusal::new("EOPNOTSUPP", "no packets come by here"))
    }

    /// Where reloads are ordered.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if there is no file that could be reloaded.
    fn desk(&self) -> Result<&Desk, Refusal> {
        Err(Refusal::new("EOPNOTSUPP", "there is no file to reload"))
    }
}

impl Service {
    /// Over `plane` alone: ports have no interfaces, and are made when a client binds their hooks.
    pub fn standalone(plane: Arc<Plane>) -> Service {
        Service { directory: Arc::new(Directory::with_ports_on_demand(Arc::clone(&plane))), plane, gateway: None }
    }

    /// Now, on the clock that ages count by, in ns. Where nothing counts, any time will do.
    fn now_ns(&self) -> u64 {
        self.gateway.as_ref().map_or(0, |gateway| gateway.now_ns())
    }

    fn listen(&self, group: Option<u32>) -> Result<Listener, Refusal> {
        self.gateway()?.listen(group)
    }

    fn gateway(&self) -> Result<&dyn Gateway, Refusal> {
        self.gateway.as_deref().ok_or_else(|| Refusal::new("EOPNOTSUPP", "there is no gateway here, only filters"))
    }
}

//! Where traffic flows: a gateway's namespace with its ports, and one beyond them all.
//!
//! ```text
//!  outside                gateway
//!    far-in  ═══ veth ═══   in          one queue each; a generator and sinks at the far ends
//!    far-out ═══ veth ═══   out
//! ```

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use anyhow::Result;
use tidegate_engine::lab::{Lab, Namespace};

/// Two namespaces, joined by one veth pair for each port. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Topology {
    /// Where traffic comes from and ends.
    pub(crate) outside: Namespace,
    /// Where the forwarder runs.
    pub(crate) gateway: Namespace,
    lab: Lab,
}

impl Topology {
    /// With `ports` for the gateway, and a far end for each.
    ///
    /// # Errors
    /// Without privileges, or if `ip` is missing.
    pub(crate) fn new(tag: &str, ports: &[&str]) -> Result<Topology> {
        let lab = Lab::new(tag);
        let (outside, gateway) = (lab.namespace("outside")?, lab.namespace("gateway")?);
        for port in ports {
            let far = far_end(port);
            lab.veth((&outside, &far), (&gateway, port), 1)?;
            // Neighbour and router chatter would be counted.
            outside.disable_ipv6(&far)?;
            gateway.disable_ipv6(port)?;
        }
        Ok(Topology { outside, gateway, lab })
    }

    /// A folder for files and sockets.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        Ok(self.lab.folder()?)
    }
}

/// The interface at the other end of `port`'s veth pair.
pub(crate) fn far_end(port: &str) -> String {
    format!("far-{port}")
}

/// Which core does what. The kernel runs the receiving side of a veth on the sender's core, so the generator's core
/// receives for the gateway, and the worker's core receives for the sink.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// Core of the generator, with the receiving side of the gateway's ports, and of all threads that are not workers.
    #[arg(long = "generator-core", default_value_t = 0, value_name = "CORE")]
    pub(crate) generator: u16,
    /// Core of the worker or of the bare forwarder, with the sink.
    #[arg(long = "worker-core", default_value_t = 1, value_name = "CORE")]
    pub(crate) worker: u16,
}

impl Display for Placement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Placement { generator, worker } = self;
        write!(f, "core {generator}: generator and the ports' receiving side; core {worker}: worker and sink")
    }
}

//! The sink: an XDP program at the far end of a port that counts and drops.

use anyhow::{Context, Result};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, ObjectBuilder};
use nix::net::if_::if_nametoindex;
use tidegate_engine::lab::Namespace;

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sink.bpf.o"));

/// Attached until it is dropped. It also has the kernel run NAPI on the interface, without which frames that are
/// redirected to a veth vanish.
pub(crate) struct Sink {
    arrived: MapHandle,
    _link: Link,
}

impl Sink {
    /// On `interface` of `namespace`.
    ///
    /// # Errors
    /// If there is no such interface, or the kernel refuses.
    pub(crate) fn attach(namespace: &Namespace, interface: &str) -> Result<Sink> {
        let attach = || -> Result<Sink> {
            let object = ObjectBuilder::default().open_memory(OBJECT)?.load()?;
            let ifindex = i32::try_from(if_nametoindex(interface)?)?;
            let link = object.progs_mut().next().context("no program")?.attach_xdp(ifindex)?;
            let arrived = MapHandle::try_from(&object.maps().next().context("no map")?)?;
            Ok(Sink { arrived, _link: link })
        };
        namespace.inside(attach)?.with_context(|| format!("cannot attach a sink to {interface}"))
    }

    /// Packets that have arrived so far.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn arrived(&self) -> Result<u64> {
        let cores = self.arrived.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)?.context("no counters")?;
        cores.iter().map(|core| Ok(u64::from_ne_bytes(core.as_slice().try_into()?))).sum()
    }
}

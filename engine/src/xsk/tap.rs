//! The way into the host's stack: a TAP device per port.

use std::{fs, io};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Longest name of an interface, in bytes.
const NAME_MAX: usize = 15;

/// A TAP device: what is written to it, the kernel receives. It has no address and no IPv6 of its own. It goes with its
/// last descriptor.
#[derive(Debug)]
pub struct Tap {
    device: Descriptor,
    ifindex: u32,
}

impl Tap {
    /// Makes `tg-PORT`, cut to what an interface's name may be, in the current network namespace, and sets it up.
    ///
    /// # Errors
    /// What the system said; the commonest is that the module `tun` or CAP_NET_ADMIN is missing.
    pub fn create(port: &str) -> io::Result<Tap> {
        let mut name = format!("tg-{port}");
        name.truncate(name.floor_char_boundary(NAME_MAX));
        let device = DeviceBuilder::new()
            .name(&name)
            .layer(Layer::L2)
            .enable(false)
            .with(|builder| {
                builder.multi_queue(true);
            })
            .build_sync()?;
        device.set_nonblocking(true)?;
        // Before it is up, lest it solicits routers. A kernel without IPv6 has nothing to switch off.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        device.enabled(true)?;
        Ok(Tap { ifindex: device.if_index()?, device: Descriptor(device) })
    }

    /// Index of the interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// A queue of the device, for one worker.
    ///
    /// # Errors
    /// If the kernel gives no further one.
    pub fn queue(&self) -> io::Result<TapQueue> {
        let device = self.device.0.try_clone()?;
        device.set_nonblocking(true)?;
        Ok(TapQueue(Descriptor(device)))
    }
}

/// One worker's queue of a [`Tap`].
#[derive(Debug)]
pub struct TapQueue(Descriptor);

impl TapQueue {
    /// Hands one Ethernet frame to the host. `false` if the host did not take it.
    #[inline]
    pub fn send(&self, frame: &[u8]) -> bool {
        self.0.0.send(frame).is_ok()
    }
}

/// A descriptor of the device.
struct Descriptor(SyncDevice);

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TAP")
    }
}

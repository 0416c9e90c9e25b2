//! Frames written into a TAP are received on the port.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{TC_INGRESS, TcHook};

use crate::skeleton::host::HostSkelBuilder;
use crate::skeleton::host::types::host_settings;
use crate::{AttachMode, Gate, GateError, occupant};

/// The way back to the host: whole Ethernet frames written into a TAP go up the kernel's stack as if they had just
/// been received on the gate's port, past the gate. VLAN tags, addresses and firewall rules of the port apply.
///
/// It lasts until it is dropped, or until the TAP is gone, which then must be made and attached anew.
#[derive(Debug)]
pub struct HostPath {
    hook: TcHook,
}

impl HostPath {
    /// Attaches to the ingress side of a TAP (no packet information, no virtio header) that nothing else uses. It
    /// must be up to deliver.
    ///
    /// # Errors
    /// [`GateError::NoInterface`] if there is no such TAP, [`GateError::Load`] if the kernel refuses the program.
    pub fn attach(gate: &Gate, tap_ifindex: u32) -> Result<HostPath, GateError> {
        occupant::interface_name(tap_ifindex)?;
        let tap_ifindex = occupant::kernel_index(tap_ifindex)?;
        attach(gate, tap_ifindex)
            .map(|hook| HostPath { hook })
            .map_err(|source| GateError::Load { what: "the way back to the host", source })
    }
}

impl Drop for HostPath {
    fn drop(&mut self) {
        // Fails only where the TAP, and the program with it, is gone.
        let _ = self.hook.detach();
    }
}

fn attach(gate: &Gate, tap_ifindex: i32) -> libbpf_rs::Result<TcHook> {
    let mut storage = MaybeUninit::uninit();
    let mut open = HostSkelBuilder::default().open(&mut storage)?;
    match open.maps.rodata_host_data.as_mut() {
        Some(data) => {
            data.settings = host_settings {
                pass_word: gate.pass_word(),
                port_ifindex: gate.ifindex(),
                sealed: u8::from(gate.mode() == AttachMode::Generic),
            }
        }
        None => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
    let loaded = open.load()?;
    let mut hook = TcHook::new(loaded.progs.tidegate_host.as_fd());
    hook.ifindex(tap_ifindex).attach_point(TC_INGRESS).handle(1).priority(1).replace(true);
    hook.create()?;
    hook.attach()
}

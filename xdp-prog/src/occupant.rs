//! What is attached to an interface already, and whose it is.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, Program, Xdp, XdpFlags};

use crate::owner::Owner;
use crate::{AttachMode, GateError};

/// Name of the program in the kernel, by which runs know one another's.
pub(crate) const PROGRAM_NAME: &str = "tidegate_gate";
/// Map with `struct gate_settings`.
const SETTINGS_MAP: &str = ".rodata.gate";

/// What [`detach_stale`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// Nothing was attached.
    Nothing,
    /// A program that nobody uses was detached.
    Program {
        /// Kernel id it had.
        id: u32,
        /// How it was attached.
        mode: AttachMode,
    },
}

/// Detaches the program that a dead run left on the interface, or a living one that gave the port up, as
/// `on_exit = "drop"` asks for.
///
/// # Errors
/// [`GateError::Running`], [`GateError::Foreign`] and [`GateError::Hidden`]: what is attached is in use as far as can be
/// seen, and stays.
pub fn detach_stale(ifindex: u32) -> Result<Detached, GateError> {
    match Occupant::stale(ifindex)? {
        None => Ok(Detached::Nothing),
        Some(occupant) => {
            occupant.detach()?;
            Ok(Detached::Program { id: occupant.id, mode: occupant.mode })
        }
    }
}

/// A program that is still attached although nobody uses it: a dead run's, or that of a port which a living one gave up.
pub(crate) struct Occupant {
    ifindex: i32,
    pub(crate) id: u32,
    pub(crate) mode: AttachMode,
    pub(crate) program: OwnedFd,
}

impl Occupant {
    /// The program that was left on the interface, `None` if there is no program at all.
    ///
    /// # Errors
    /// [`GateError::Running`], [`GateError::Foreign`], [`GateError::Hidden`]: the interface is taken.
    pub(crate) fn stale(ifindex: u32) -> Result<Option<Occupant>, GateError> {
        let interface = interface_name(ifindex)?;
        let ifindex = kernel_index(ifindex)?;
        let Some((id, mode)) = attached(ifindex)? else { return Ok(None) };
        let foreign = |name: String| GateError::Foreign { interface: interface.clone(), id, name, mode };

        let hidden = || GateError::Hidden { interface: interface.clone(), id, mode };
        let program = Program::fd_from_id(id).map_err(|_| hidden())?;
        let info = ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default().include_map_ids(true))
            .find(|info| info.id == id)
            .ok_or_else(hidden)?;
        if info.name.to_bytes() != PROGRAM_NAME.as_bytes() {
            return Err(foreign(info.name.to_string_lossy().into_owned()));
        }
        let owner = owner(&info.map_ids).ok_or_else(|| foreign(PROGRAM_NAME.into()))?;
        if owner.is_alive() && owner.holds(&info.map_ids) {
            return Err(GateError::Running { interface, pid: owner.pid });
        }
        Ok(Some(Occupant { ifindex, id, mode, program }))
    }

    /// Takes it off the interface.
    pub(crate) fn detach(&self) -> Result<(), GateError> {
        Xdp::new(self.program.as_fd())
            .detach(self.ifindex, self.mode.flags())
            .map_err(|source| GateError::Kernel { what: "detach a program that nobody uses", source })
    }
}

/// The interface's name, for messages.
pub(crate) fn interface_name(ifindex: u32) -> Result<String, GateError> {
    match nix::net::if_::if_indextoname(ifindex) {
        // nix 0.31 takes a failure of the C function for an empty name.
        Ok(name) if !name.is_empty() => Ok(name.to_string_lossy().into_owned()),
        _ => Err(GateError::NoInterface { ifindex }),
    }
}

/// The index in the kernel's signed type.
pub(crate) fn kernel_index(ifindex: u32) -> Result<i32, GateError> {
    i32::try_from(ifindex).map_err(|_| GateError::NoInterface { ifindex })
}

/// Id and mode of the program on the interface. The kernel allows one, native or generic.
fn attached(ifindex: i32) -> Result<Option<(u32, AttachMode)>, GateError> {
    let no_program = io::stdin(); // asking takes a descriptor but does not use it
    let found = Xdp::new(no_program.as_fd())
        .query(ifindex, XdpFlags::NONE)
        .map_err(|source| GateError::Kernel { what: "ask for attached XDP programs", source })?;
    Ok(match (found.drv_prog_id.max(found.hw_prog_id), found.skb_prog_id) {
        (0, 0) => None,
        (0, id) => Some((id, AttachMode::Generic)),
        (id, _) => Some((id, AttachMode::Native)),
    })
}

/// Who attached the program with these maps.
fn owner(map_ids: &[u32]) -> Option<Owner> {
    let maps = map_ids.iter().filter_map(|&id| MapHandle::from_map_id(id).ok());
    let settings = maps.into_iter().find(|map| map.name() == SETTINGS_MAP)?;
    Owner::from_bytes(&settings.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok()??)
}

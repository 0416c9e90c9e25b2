//! Which core a worker runs on.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Pins the calling thread to `core`.
///
/// # Errors
/// EINVAL if there is no such core, or it is not ours to use.
pub fn pin(core: u16) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(usize::from(core))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

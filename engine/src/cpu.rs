//! Which core a thread runs on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
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

/// Has the calling thread, and those that it starts, run elsewhere than on `cores`, if it may run anywhere else.
///
/// # Errors
/// Whatever the system says.
pub fn keep_off(cores: &[u16]) -> nix::Result<()> {
    let mut set = sched_getaffinity(Pid::from_raw(0))?;
    for &core in cores {
        set.unset(usize::from(core))?;
    }
    match (0..CpuSet::count()).any(|core| set.is_set(core).unwrap_or(false)) {
        true => sched_setaffinity(Pid::from_raw(0), &set),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn allowed() -> Vec<u16> {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
        (0..1024).filter(|core| set.is_set(usize::from(*core)).unwrap_or(false)).collect()
    }

    #[test]
    fn a_thread_keeps_off_what_it_is_told_as_long_as_something_is_left() {
        let all = allowed();
        let after = |cores: Vec<u16>| {
            let thread = thread::spawn(move || {
                keep_off(&cores).unwrap();
                (allowed(), thread::spawn(allowed).join().unwrap())
            });
            thread.join().unwrap()
        };
        let rest = if all.len() > 1 { all[1..].to_vec() } else { all.clone() };
        assert_eq!(after(vec![all[0]]), (rest.clone(), rest));
        assert_eq!(after(all.clone()), (all.clone(), all));
    }
}

//! The process that attached a program.

use std::{fs, io, process};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// A process, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) start_ticks: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn current() -> io::Result<Owner> {
        let pid = process::id();
        let (_, start_ticks) = state_and_start(pid)?;
        Ok(Owner { pid, start_ticks })
    }

    /// From the first 16 bytes of `struct gate_settings`.
    pub(crate) fn from_bytes(settings: &[u8]) -> Option<Owner> {
        let (start_ticks, rest) = settings.split_first_chunk::<8>()?;
        let (pid, _) = rest.split_first_chunk::<4>()?;
        Some(Owner { pid: u32::from_ne_bytes(*pid), start_ticks: u64::from_ne_bytes(*start_ticks) })
    }

    /// Whether the process still runs. One that waits for its parent to collect it does not.
    pub(crate) fn is_alive(self) -> bool {
        match state_and_start(self.pid) {
            Ok((state, start_ticks)) => start_ticks == self.start_ticks && !matches!(state, 'Z' | 'X'),
            // Gone, or hidden from us by the way /proc is mounted: only the kernel knows.
            Err(_) => i32::try_from(self.pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)),
        }
    }

    /// Whether the process has one of these maps open, as whoever uses a gate has. Yes, if it cannot be seen.
    pub(crate) fn holds(self, map_ids: &[u32]) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fdinfo", self.pid)) else { return true };
        let map = |info: String| info.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
        let mut maps = descriptors.flatten().filter_map(|entry| map(fs::read_to_string(entry.path()).ok()?));
        maps.any(|id: u32| map_ids.contains(&id))
    }
}

/// Fields 3 and 22 of `/proc/PID/stat`. Field 2, the program's name, may hold spaces and brackets.
fn state_and_start(pid: u32) -> io::Result<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parse = || {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some((state, start_ticks))
    };
    parse().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_number_is_not() {
        let current = Owner::current().unwrap();
        assert!(current.is_alive());
        assert!(!Owner { start_ticks: current.start_ticks - 1, ..current }.is_alive());
    }

    #[test]
    fn a_process_that_ended_is_dead_before_its_parent_collects_it() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let (_, start_ticks) = state_and_start(child.id()).unwrap();
        let owner = Owner { pid: child.id(), start_ticks };
        assert!(owner.is_alive());
        child.kill().unwrap();
        while state_and_start(child.id()).unwrap().0 != 'Z' {
            std::thread::yield_now();
        }
        assert!(!owner.is_alive());
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }
}

//! What others on the machine take from a measurement.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long the thread called `name` of this process was ready to run and had no core: others ran there.
///
/// # Errors
/// If there is no such thread, or the kernel does not keep account (`CONFIG_SCHED_INFO`).
pub(crate) fn waited(name: &str) -> Result<Duration> {
    for thread in fs::read_dir("/proc/self/task")? {
        let folder = thread?.path();
        // A thread may end while the folder is read.
        if fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            return waited_by(&folder);
        }
    }
    anyhow::bail!("no thread is called {name}")
}

/// The same of the thread or single-threaded process that has this folder in `/proc`.
///
/// # Errors
/// If there is none, or no account.
pub(crate) fn waited_by(folder: &Path) -> Result<Duration> {
    let schedstat = fs::read_to_string(folder.join("schedstat"))?;
    let waited = schedstat.split(' ').nth(1).and_then(|ns| ns.parse().ok());
    waited.map(Duration::from_nanos).with_context(|| format!("schedstat: {schedstat}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_thread_is_found_by_its_name_as_long_as_it_runs() {
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("here-i-am".into()).spawn(move || ended.recv()).unwrap();
        while waited("here-i-am").is_err() {
            thread::yield_now(); // it gives itself its name after it has started
        }
        drop(end);
        assert!(thread.join().unwrap().is_err());
        assert!(waited("here-i-am").is_err());
    }
}

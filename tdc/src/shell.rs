//! Commands with a time limit.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a command came to.
pub(crate) struct Ended {
    /// Exit code.
    pub(crate) code: i32,
    /// What it wrote: to standard error if it failed and wrote there, else to standard output.
    pub(crate) output: String,
    pub(crate) took: Duration,
}

/// Runs `command` in `folder`, with an empty environment, for `limit` at most.
pub(crate) fn run(command: &str, folder: &Path, limit: Duration) -> Result<Ended> {
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).current_dir(folder).env_clear().process_group(0);
    let started = Instant::now();
    let mut child = shell.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?).spawn()?;
    let status = wait(&mut child, started + limit).with_context(|| command.to_owned())?;
    let took = started.elapsed();
    let code = status.code().unwrap_or(-1);
    let complaint = read(&mut err)?;
    let output = if code != 0 && !complaint.is_empty() { complaint } else { read(&mut out)? };
    Ok(Ended { code, output, took })
}

fn wait(child: &mut Child, deadline: Instant) -> Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            // The whole group: xargs has children of its own.
            let _ = killpg(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL);
            child.wait()?;
            bail!("took too long");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn read(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

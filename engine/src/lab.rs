//! A network laboratory: namespaces joined by veth pairs, made for a demo, a test or a bench and gone with it.
//!
//! Everything lies in namespaces and a folder of the lab's own; the machine's interfaces are never touched. A lab is
//! removed on drop, with what still runs in it. One whose process was killed is removed by the next lab that starts.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Where `ip netns` keeps its names.
const NETNS: &str = "/run/netns";

/// Where labs keep their files. Only root writes here; paths stay short enough for UNIX sockets.
const FILES: &str = "/run/tidegate-lab";

/// How long a program may take to end when it is asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Namespaces, files, and what runs in them.
#[derive(Debug)]
pub struct Lab {
    /// What the names of its namespaces and of its folder begin with: `tg-PID-NUMBER-TAG-`.
    prefix: String,
}

impl Lab {
    /// A lab without namespaces. `tag` shows in their names, for whoever looks at `ip netns`. Labs of dead processes
    /// are removed first.
    pub fn new(tag: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove(|name| owner(name).is_some_and(|pid| !is_alive(pid)));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("{}{number}-{tag}-", own_prefix()) }
    }

    /// Whether this process may make a lab; for the head of a test. Says so where it may not, and where `CI` is set it
    /// ends the test, so that none passes unrun.
    ///
    /// # Panics
    /// Without privileges, if `CI` is set.
    pub fn allowed() -> bool {
        let root = geteuid().is_root();
        if !root {
            assert!(std::env::var_os("CI").is_none(), "network namespaces need root");
            eprintln!("not run: network namespaces need root");
        }
        root
    }

    /// On Ctrl-C, SIGTERM or SIGHUP, removes the labs of this process and ends it with 128 plus the signal's number.
    /// For programs that are nothing but a lab.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn remove_on_signals() -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                ENDING.store(true, Ordering::Relaxed);
                remove(|name| name.starts_with(&own_prefix()));
                std::process::exit(128 + signal);
            }
        });
        Ok(())
    }

    /// The lab's folder for files and sockets.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self) -> io::Result<PathBuf> {
        let folder = Path::new(FILES).join(format!("{}files", self.prefix));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A new namespace, its loopback up.
    ///
    /// # Errors
    /// If `ip` is missing or refuses.
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        let namespace = Namespace { name: format!("{}{name}", self.prefix) };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        namespace.up("lo")?;
        Ok(namespace)
    }

    /// Joins two namespaces by a veth pair of `queues` queues each, both ends up.
    ///
    /// # Errors
    /// If `ip` is missing or refuses.
    pub fn veth(&self, a: (&Namespace, &str), b: (&Namespace, &str), queues: u16) -> Result<(), LabError> {
        let queues = &queues.to_string();
        run(Command::new("ip")
            .args(["link", "add", "name", a.1, "netns", &a.0.name, "numtxqueues", queues, "numrxqueues", queues])
            .args(["type", "veth", "peer", "name", b.1, "netns", &b.0.name])
            .args(["numtxqueues", queues, "numrxqueues", queues]))?;
        a.0.up(a.1)?;
        b.0.up(b.1)
    }
}

/// A signal came: its handler removes every lab and then ends the process.
static ENDING: AtomicBool = AtomicBool::new(false);

impl Drop for Lab {
    fn drop(&mut self) {
        while ENDING.load(Ordering::Relaxed) {
            thread::park(); // whoever saw its programs die has nothing to add
        }
        remove(|name| name.starts_with(&self.prefix));
    }
}

/// A network namespace of a [`Lab`]: a handle, the lab removes what it names.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Path of the namespace, as `nsenter --net=` takes it.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS).join(&self.name)
    }

    /// A command that will run in the namespace, as one process. Only the network differs: it sees the machine's
    /// files, and a `/sys/class/net` that is not its own.
    pub fn exec(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Starts a command made by [`Namespace::exec`]; it ends when the guard is dropped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Running, LabError> {
        match command.spawn() {
            Ok(child) => Ok(Running { child }),
            Err(source) => Err(LabError::Start { command: shown(command), source }),
        }
    }

    /// Runs `f` on a thread inside the namespace: sockets that it opens stay there.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let entered = || -> io::Result<T> {
            setns(fs::File::open(self.path())?, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        };
        thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(result) => result.map_err(|source| LabError::Enter { namespace: self.name.clone(), source }),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Gives `interface` an address. IPv6 ones can be used at once: no duplicates are looked for.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<(), LabError> {
        let flags: &[&str] = if address.is_ipv6() { &["nodad"] } else { &[] };
        run(self.exec("ip").args(["address", "add", &format!("{address}/{prefix}"), "dev", interface]).args(flags))
    }

    /// Sets `interface` up.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn up(&self, interface: &str) -> Result<(), LabError> {
        run(self.exec("ip").args(["link", "set", "dev", interface, "up"]))
    }

    /// Sets `interface` down.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn down(&self, interface: &str) -> Result<(), LabError> {
        run(self.exec("ip").args(["link", "set", "dev", interface, "down"]))
    }

    /// Makes the kernel send from `interface` what a wire would carry: finished checksums, no segments larger than
    /// the MTU. Needed at the hosts' end of a veth whose other end AF_XDP reads.
    ///
    /// # Errors
    /// If `ethtool` is missing or refuses.
    pub fn offloads_off(&self, interface: &str) -> Result<(), LabError> {
        run(self.exec("ethtool").args(["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"]))
    }

    /// Silences IPv6 on `interface`: no neighbour or router chatter where packets are counted.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn disable_ipv6(&self, interface: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        self.inside(|| fs::write(&path, "1"))?
            .map_err(|source| LabError::Start { command: format!("{path}=1"), source })
    }
}

/// A program in a lab. On drop it is asked to end, and killed if it does not.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// The process, to read its pipes or its id.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal; nothing happens if the program has ended.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// How the program ended; `None` if it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        if self.wait(PATIENCE).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Why a lab could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program or file that the lab needs is not there, or not allowed.
    #[error("`{command}`: {source}")]
    Start {
        /// What was tried.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command ran and refused.
    #[error("`{command}`: {message}")]
    Refused {
        /// The command line.
        command: String,
        /// What it printed to its standard error.
        message: String,
    },
    /// A namespace could not be entered.
    #[error("cannot enter namespace {namespace}: {source}")]
    Enter {
        /// Its name.
        namespace: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs `command` to its end, silently.
fn run(command: &mut Command) -> Result<(), LabError> {
    let output = command.output().map_err(|source| LabError::Start { command: shown(command), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Refused {
        command: shown(command),
        message: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

/// The command line as one would type it.
fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// What the names of all namespaces of this process begin with.
fn own_prefix() -> String {
    format!("tg-{}-", std::process::id())
}

/// The process that made a namespace, by its name; `None` if it is not of a lab.
fn owner(namespace: &str) -> Option<u32> {
    namespace.strip_prefix("tg-")?.split_once('-')?.0.parse().ok()
}

/// Whether a process runs. One that only waits to be collected by its parent does not.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.starts_with(" Z")))
}

/// Ends what runs in the namespaces chosen, and removes them and the folders chosen. As much as can be: errors have
/// nobody to hear them.
fn remove(chosen: impl Fn(&str) -> bool) {
    let entries = |folder: &str| -> Vec<String> {
        let names =
            fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| chosen(name)).collect()
    };
    let namespaces = entries(NETNS);
    let running = || namespaces.iter().flat_map(|name| programs(name)).collect::<Vec<Pid>>();
    let signal = |signal| running().into_iter().for_each(|pid| kill(pid, signal).unwrap_or_default());
    let end = Instant::now() + PATIENCE;
    signal(Signal::SIGTERM);
    while !running().is_empty() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    signal(Signal::SIGKILL);
    for name in namespaces {
        let _ = Command::new("ip").args(["netns", "delete", &name]).output();
    }
    for name in entries(FILES) {
        let _ = fs::remove_dir_all(Path::new(FILES).join(name));
    }
}

/// What runs in a namespace, but for this process, which may have entered it.
fn programs(namespace: &str) -> Vec<Pid> {
    let Ok(listed) = Command::new("ip").args(["netns", "pids", namespace]).output() else { return Vec::new() };
    let pids = String::from_utf8_lossy(&listed.stdout);
    pids.split_whitespace()
        .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
        .filter(|&pid| pid != Pid::this())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn namespaces(prefix: &str) -> usize {
        fs::read_dir(NETNS).map_or(0, |entries| {
            entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(prefix)).count()
        })
    }

    #[test]
    fn hosts_reach_each_other_over_a_veth_pair() {
        if !Lab::allowed() {
            return;
        }
        let lab = Lab::new("test");
        let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
        lab.veth((&a, "to-b"), (&b, "to-a"), 2).unwrap();
        for (namespace, interface, host) in [(&a, "to-b", 1), (&b, "to-a", 2)] {
            namespace.offloads_off(interface).unwrap();
            namespace.address(interface, IpAddr::from([10, 0, 0, host]), 24).unwrap();
            namespace.address(interface, format!("fd00::{host}").parse().unwrap(), 64).unwrap();
        }
        for address in ["10.0.0.2", "fd00::2"] {
            let address: IpAddr = address.parse().unwrap();
            let listener = b.inside(|| TcpListener::bind((address, 80)).unwrap()).unwrap();
            a.inside(|| TcpStream::connect((address, 80)).unwrap()).unwrap();
            listener.accept().unwrap();
        }
    }

    #[test]
    fn nothing_is_left_after_a_lab() {
        if !Lab::allowed() {
            return;
        }
        let lab = Lab::new("test");
        let prefix = lab.prefix.clone();
        let namespace = lab.namespace("a").unwrap();
        let file = lab.folder().unwrap().join("file");
        fs::write(&file, "").unwrap();
        let mut stray = namespace.exec("sleep").arg("60").spawn().unwrap();
        while fs::read_link(format!("/proc/{}/ns/net", stray.id())).unwrap()
            == fs::read_link("/proc/self/ns/net").unwrap()
        {
            thread::sleep(Duration::from_millis(1)); // nsenter has not entered yet
        }
        assert_eq!(namespaces(&prefix), 1);
        drop(lab);
        assert_eq!(namespaces(&prefix), 0);
        assert!(!file.exists());
        assert!(!stray.wait().unwrap().success(), "the stray program is ended");
    }

    #[test]
    fn a_lab_of_a_dead_process_is_removed_by_the_next() {
        if !Lab::allowed() {
            return;
        }
        let mut dead = Command::new("true").spawn().unwrap();
        while is_alive(dead.id()) {
            thread::sleep(Duration::from_millis(1));
        }
        let name = format!("tg-{}-0-test-a", dead.id());
        run(Command::new("ip").args(["netns", "add", &name])).unwrap();
        let lab = Lab::new("test");
        assert_eq!(namespaces(&name), 0);
        drop(lab);
        dead.wait().unwrap();
    }

    #[test]
    fn a_refusal_names_the_command_and_the_reason() {
        if !Lab::allowed() {
            return;
        }
        let lab = Lab::new("test");
        let error = lab.namespace("a").unwrap().up("nowhere").unwrap_err().to_string();
        assert!(error.ends_with("-- ip link set dev nowhere up`: Cannot find device \"nowhere\""), "{error}");
    }
}

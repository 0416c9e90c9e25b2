//! A site to test a gateway in: a gateway's namespace, and a far end for each of its ports.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tidegate_client::Client;
use tidegate_client::status::{FilterStatus, PortStatus, Status};
use tidegate_engine::lab::{Lab, Namespace, Running};
use tidegate_engine::xsk::Endpoint;

/// Longer than anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to say that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// Namespaces: one for the gateway, with an interface for each port, and one for all far ends, `far-PORT`.
pub(crate) struct Site {
    pub(crate) gateway: Namespace,
    pub(crate) far: Namespace,
    folder: PathBuf,
    pub(crate) lab: Lab,
}

impl Site {
    /// A site with a veth pair of one queue for each port. `None` where tests may not make namespaces.
    pub(crate) fn new(ports: &[&str]) -> Option<Site> {
        Site::with_queues(ports, 1)
    }

    /// The same with `queues` queues a port.
    pub(crate) fn with_queues(ports: &[&str], queues: u16) -> Option<Site> {
        if !Lab::allowed() {
            return None;
        }
        let lab = Lab::new("e2e");
        let (gateway, far) = (lab.namespace("gw").unwrap(), lab.namespace("far").unwrap());
        let folder = lab.folder().unwrap();
        let site = Site { gateway, far, folder, lab };
        for port in ports {
            site.cable(port, queues);
        }
        Some(site)
    }

    /// Lays the cable of one port.
    pub(crate) fn cable(&self, port: &str, queues: u16) {
        let far = format!("far-{port}");
        self.lab.veth((&self.gateway, port), (&self.far, &far), queues).unwrap();
        self.gateway.disable_ipv6(port).unwrap();
        self.far.disable_ipv6(&far).unwrap();
    }

    /// The station at the far end of `port`.
    pub(crate) fn station(&self, port: &str) -> Endpoint {
        self.far.inside(|| Endpoint::open(&format!("far-{port}"))).unwrap().unwrap()
    }

    /// Runs `ip` with these words in the gateway's namespace.
    pub(crate) fn ip(&self, words: &str) {
        let output = self.gateway.exec("ip").args(words.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `ip -d link show dev PORT` says.
    pub(crate) fn link(&self, port: &str) -> String {
        let output = self.gateway.exec("ip").args(["-d", "link", "show", "dev", port]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the gateway with this configuration, and waits until it answers with every port up.
    pub(crate) fn start(&self, config: &str) -> Gateway {
        let gateway = self.launch(config);
        gateway.until("every port is up", |status| status.ports.iter().all(|port| port.link == "up"));
        gateway
    }

    /// Starts the gateway and waits until it answers.
    pub(crate) fn launch(&self, config: &str) -> Gateway {
        let socket = self.folder.join("control.sock");
        let mut command = self.command(config);
        let process = self.gateway.spawn(command.stdout(Stdio::null())).unwrap();
        let gateway = Gateway { socket, process };
        let end = Instant::now() + PATIENCE;
        while gateway.try_status().is_none() {
            assert!(Instant::now() < end, "the gateway does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    /// A gateway that is expected to refuse: its exit code and what it said.
    pub(crate) fn refused(&self, config: &str) -> (Option<i32>, String) {
        let output = self.command(config).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Puts another configuration in the place of the gateway's file, at one instant.
    pub(crate) fn rewrite(&self, config: &str) {
        let new = self.folder.join("new.toml");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(&new, self.file()).unwrap();
    }

    /// Runs `tidegate` with these words and the gateway's control socket. Its exit code, and what it said.
    pub(crate) fn tidegate(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.client_command(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// `tidegate` with these words and the gateway's control socket.
    pub(crate) fn client_command(&self, words: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(words).env("TIDEGATE_SOCKET", self.folder.join("control.sock"));
        command
    }

    /// The gateway's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("tidegate.toml")
    }

    fn command(&self, config: &str) -> std::process::Command {
        let file = self.file();
        std::fs::write(&file, config).unwrap();
        let mut command = self.gateway.exec(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("run").arg("--config").arg(file).arg("--socket").arg(self.folder.join("control.sock"));
        command.env("NO_COLOR", "1").env("TIDEGATE_LOG", "info");
        command
    }
}

/// A running gateway. Dropped, it is asked to end.
pub(crate) struct Gateway {
    pub(crate) socket: PathBuf,
    pub(crate) process: Running,
}

impl Gateway {
    pub(crate) fn try_status(&self) -> Option<Status> {
        Client::connect(&self.socket).ok()?.status().ok()
    }

    pub(crate) fn status(&self) -> Status {
        self.try_status().expect("the gateway answers")
    }

    /// Waits until the status is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < end, "never true: {what}; {status:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `packets` packets in all were received and their fate is counted, and checks the packet equation.
    #[track_caller]
    pub(crate) fn settled(&self, packets: u64) -> Status {
        let received = |status: &Status| status.ports.iter().map(|port| port.totals.rx_packets).sum::<u64>();
        let status = self.until(&format!("{packets} packets received"), |status| received(status) >= packets);
        assert_eq!(received(&status), packets, "more packets than were sent");
        balanced(&status);
        status
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.status().pid
    }

    pub(crate) fn restart_worker(&self, worker: u16) {
        Client::connect(&self.socket).unwrap().restart_worker(worker).unwrap();
    }

    /// Asks it to read its file again, as `systemctl reload` does.
    pub(crate) fn hang_up(&self) {
        self.process.signal(nix::sys::signal::Signal::SIGHUP);
    }

    /// Asks the gateway to end, and checks that it found nothing wrong at its end.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.wait(PATIENCE).expect("the gateway ends when asked to");
        assert_eq!(status.code(), Some(0), "the gateway ends without complaint");
    }
}

/// Checks the packet equation on every port.
#[track_caller]
pub(crate) fn balanced(status: &Status) {
    for port in &status.ports {
        assert_eq!(port.totals.balance(), 0, "received = forwarded + passed + dropped + consumed: {port:#?}");
    }
}

pub(crate) fn port<'a>(status: &'a Status, name: &str) -> &'a PortStatus {
    status.ports.iter().find(|port| port.name == name).expect("a port of this name")
}

pub(crate) fn filter<'a>(status: &'a Status, name: &str) -> &'a FilterStatus {
    status.filters.iter().find(|filter| filter.name == name).expect("a filter of this name")
}

/// Asserts that exactly these frames arrive at `station`, in this order, and then nothing.
#[track_caller]
pub(crate) fn arrives(station: &mut Endpoint, frames: &[Vec<u8>]) {
    for (number, frame) in frames.iter().enumerate() {
        let got = station.recv(PATIENCE);
        assert_eq!(got.as_ref(), Some(frame), "frame {number} of {}", frames.len());
    }
    assert_eq!(station.recv(SILENCE), None, "nothing else arrives");
}

/// Two ports, `a` and `b`, that forward to each other, and what else the test wants.
pub(crate) fn wire(rest: &str) -> String {
    format!("[port.a]\nforward_to = \"b\"\n[port.b]\nforward_to = \"a\"\n{rest}\n")
}

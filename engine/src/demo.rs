//! `tidegate demo`: a client, a gateway and a server in namespaces of this machine, real programs through real filters.
//!
//! ```text
//!  client ──────── gw-client  gateway  gw-server ──────── server     one subnet: the gateway is a bump in the wire
//!                                gw-mirror ────────────── monitor    sees what the mirror filter copies
//! ```

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;
use tidegate_client::status::{FilterStatus, Status};
use tidegate_client::{Client, ClientError};

use crate::lab::{Lab, Namespace, Running};
use crate::table;

const EXAMPLE: &str = include_str!("../../config/examples/demo.toml");

/// Programs that talk through the gateway or build its network, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
];

const CLIENT: [&str; 2] = ["10.0.0.1", "fd00::1"];
const SERVER: [&str; 2] = ["10.0.0.2", "fd00::2"];

/// Bytes of the page that the server serves.
const PAGE: usize = 4 << 20;
/// Datagrams sent to the mirrored port.
const DATAGRAMS: usize = 20;
/// How long a blocked connection is tried, in seconds.
const BLOCKED: &str = "2";

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A file to run instead of the built-in example.
    pub example: Option<PathBuf>,
    /// Leave everything there until Enter is pressed.
    pub keep: bool,
    /// Color the output.
    pub color: bool,
}

/// Shows the gateway at work, and whether each expectation held. The exit code is 1 if one did not.
///
/// # Errors
/// If there is no network to show it in, or no gateway that runs.
pub fn run(options: &Options) -> Result<ExitCode> {
    check_programs()?;
    Lab::remove_on_signals()?;
    let mut report = Report { start: Instant::now(), color: options.color, lines: Vec::new(), failed: 0 };

    report.step("network", "client, gateway, server and monitor, joined by veth pairs");
    let network = Network::new().context("cannot build the network")?;
    report.step("gateway", "tidegate run, on AF_XDP");
    let gateway = Gateway::start(&network, options)?;

    pings(&mut report, &network)?;
    pages(&mut report, &network)?;
    throughput(&mut report, &network)?;
    blocked_port(&mut report, &network, &gateway)?;
    mirrored_flow(&mut report, &network)?;

    let status = gateway.at_rest()?;
    counters(&mut report, &status);
    print!("\n{}", table::render(&status, options.color));
    if options.keep {
        keep(&network, &gateway)?;
    }
    report.step("stop", "SIGTERM to the gateway");
    gateway.stop(&mut report);
    Ok(report.conclude())
}

// --- what is shown -------------------------------------------------------------------------------------------------

fn pings(report: &mut Report, network: &Network) -> Result<()> {
    for address in SERVER {
        report.step("ping", &format!("client to {address}"));
        let ping = network.client.exec("ping").args(["-n", "-c", "5", "-i", "0.2", "-W", "2", address]).output()?;
        let text = String::from_utf8_lossy(&ping.stdout);
        let seen = text.lines().find(|line| line.contains("packet loss")).unwrap_or("no answer");
        report.expect(&format!("ping {address}: all answered"), text.contains(" 0% packet loss"), seen);
    }
    Ok(())
}

fn pages(report: &mut Report, network: &Network) -> Result<()> {
    let served = network.folder.join("www");
    let page: Vec<u8> = (0..PAGE).map(|i| (i.wrapping_mul(2_654_435_761) >> 16).to_le_bytes()[0]).collect();
    fs::create_dir(&served)?;
    fs::write(served.join("page"), &page)?;
    let mut python = network.server.exec("python3");
    python.args(["-m", "http.server", "--bind", "::", "--directory"]).arg(&served).arg("80");
    let _server = network.server.spawn(silent(&mut python))?;
    network.wait_for_server(80)?;
    for url in [format!("http://{}/page", SERVER[0]), format!("http://[{}]/page", SERVER[1])] {
        report.step("http", &format!("curl {url}"));
        let curl =
            network.client.exec("curl").args(["-sS", "-g", "--noproxy", "*", "--max-time", "10", &url]).output()?;
        let seen = match &*String::from_utf8_lossy(&curl.stderr) {
            "" => format!("{} of {PAGE} bytes", curl.stdout.len()),
            problem => problem.trim().to_owned(),
        };
        report.expect(&format!("{url}: byte for byte"), curl.stdout == page, &seen);
    }
    Ok(())
}

fn throughput(report: &mut Report, network: &Network) -> Result<()> {
    let measure = |address, arguments: &[&str]| -> Result<Value> {
        let mut server = network.server.exec("iperf3");
        let _server = network.server.spawn(silent(server.args(["-s", "-1"])))?;
        network.wait_for_server(5201)?;
        let mut client = network.client.exec("iperf3");
        client.args(["-J", "-t", "2", "--connect-timeout", "3000", "-c", address]).args(arguments);
        serde_json::from_slice(&client.output()?.stdout).context("iperf3 printed no JSON")
    };
    let failed = |result: &Value| result["error"].as_str().map(str::to_owned);
    for address in SERVER {
        report.step("tcp", &format!("iperf3 to {address}, 2 s"));
        let result = measure(address, &[])?;
        let bits = result["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default();
        let seen = failed(&result).unwrap_or(format!("{:.0} Mbit/s", bits / 1e6));
        report.expect(&format!("iperf3 TCP to {address}: more than 10 Mbit/s"), bits > 10e6, &seen);
    }
    for address in SERVER {
        report.step("udp", &format!("iperf3 to {address}, 20 Mbit/s, 2 s"));
        let result = measure(address, &["-u", "-b", "20M", "-l", "1200"])?;
        let sum = &result["end"]["sum"];
        let (lost, sent) = (sum["lost_packets"].as_f64(), sum["packets"].as_f64().unwrap_or_default());
        let held = sent > 0.0 && lost.is_some_and(|lost| lost <= 0.05 * sent);
        let seen = failed(&result).unwrap_or(format!("{} of {sent} lost", lost.unwrap_or(sent)));
        report.expect(&format!("iperf3 UDP to {address}: 95 % arrive"), held, &seen);
    }
    Ok(())
}

fn blocked_port(report: &mut Report, network: &Network, gateway: &Gateway) -> Result<()> {
    let address = SocketAddr::new(SERVER[0].parse()?, 23);
    report.step("blocked", &format!("client to {address}, where somebody listens"));
    let _listener = network.server.inside(|| TcpListener::bind(address))??;
    ensure!(network.server.inside(|| TcpStream::connect(address))?.is_ok(), "nobody listens on port 23");
    let before = hits(&gateway.status()?, "drop");
    let url = format!("telnet://{address}");
    let curl =
        network.client.exec("curl").args(["-sS", "--noproxy", "*", "--connect-timeout", BLOCKED, &url]).output()?;
    let dropped = hits(&gateway.status()?, "drop") - before;
    const TIMED_OUT: Option<i32> = Some(28);
    let seen = format!("{}; {dropped} packets dropped by the filter", String::from_utf8_lossy(&curl.stderr).trim());
    report.expect("tcp port 23: nobody gets through", curl.status.code() == TIMED_OUT && dropped > 0, &seen);
    Ok(())
}

fn mirrored_flow(report: &mut Report, network: &Network) -> Result<()> {
    let address = SocketAddr::new(SERVER[0].parse()?, 53);
    report.step("mirror", &format!("{DATAGRAMS} datagrams to {address}, and their copies at the monitor"));
    let monitor = network.monitor.inside(packet_socket)??;
    socket::setsockopt(&monitor, ReceiveTimeout, &TimeVal::milliseconds(500))?;
    let server = network.server.inside(|| UdpSocket::bind(address))??;
    let client = network.client.inside(|| UdpSocket::bind((CLIENT[0], 0)))??;
    server.set_read_timeout(Some(Duration::from_millis(500)))?;
    for number in 0..DATAGRAMS {
        client.send_to(&marked(number), address)?;
        thread::sleep(Duration::from_millis(2));
    }
    let mut datagram = [0; 64];
    let arrived = (0..DATAGRAMS)
        .filter(|&number| server.recv(&mut datagram).is_ok_and(|length| datagram[..length] == marked(number)))
        .count();
    let mut frame = [0; 2048];
    let mut copied = 0;
    while copied < DATAGRAMS
        && let Ok(length) = socket::recv(monitor.as_raw_fd(), &mut frame, MsgFlags::empty())
    {
        copied += usize::from((0..DATAGRAMS).any(|number| frame[..length].ends_with(&marked(number))));
    }
    report.expect("udp port 53: all arrive", arrived == DATAGRAMS, &format!("{arrived} of {DATAGRAMS}"));
    report.expect("udp port 53: the monitor sees each", copied == DATAGRAMS, &format!("{copied} of {DATAGRAMS}"));
    Ok(())
}

/// What is expected of the gateway's own counters, now that traffic stands still.
fn counters(report: &mut Report, status: &Status) {
    let in_goto_chain: u64 =
        status.filters.iter().filter(|filter| filter.chain != 0).map(|filter| filter.packets).sum();
    report.expect("the chain behind goto counts", in_goto_chain > 0, &format!("{in_goto_chain} packets"));
    let unaccounted: Vec<_> = status.ports.iter().map(|port| port.totals.balance()).collect();
    let received: u64 = status.ports.iter().map(|port| port.totals.rx_packets).sum();
    report.expect(
        "received = forwarded + passed + consumed + dropped",
        unaccounted.iter().all(|&difference| difference == 0),
        &format!("{received} received, difference on each port {unaccounted:?}"),
    );
}

/// The end of every frame that mirrors datagram `number`.
fn marked(number: usize) -> Vec<u8> {
    format!("tidegate demo datagram {number:04}").into_bytes()
}

/// Packets that matched filters with `action`.
fn hits(status: &Status, action: &str) -> u64 {
    let acts = |filter: &&FilterStatus| filter.actions.iter().any(|word| word == action);
    status.filters.iter().filter(acts).map(|filter| filter.packets).sum()
}

/// A socket that sees every frame that arrives in the namespace of the caller.
fn packet_socket() -> nix::Result<OwnedFd> {
    socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
}

fn keep(network: &Network, gateway: &Gateway) -> Result<()> {
    println!("\nAll of it stays until you press Enter. In another shell:");
    println!("  tidegate status --watch --socket {}", gateway.socket.display());
    for (name, namespace) in [("client", &network.client), ("server", &network.server), ("monitor", &network.monitor)] {
        println!("  nsenter --net={} bash   # {name}", namespace.path().display());
    }
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

// --- the network and the gateway -----------------------------------------------------------------------------------

struct Network {
    client: Namespace,
    gateway: Namespace,
    server: Namespace,
    monitor: Namespace,
    folder: PathBuf,
    /// Last, so that it outlives what runs in it.
    _lab: Lab,
}

impl Network {
    fn new() -> Result<Self> {
        let lab = Lab::new("demo");
        let namespace = |name| lab.namespace(name);
        let (client, gateway) = (namespace("client")?, namespace("gateway")?);
        let (server, monitor) = (namespace("server")?, namespace("monitor")?);
        lab.veth((&client, "client"), (&gateway, "gw-client"), 1)?;
        lab.veth((&server, "server"), (&gateway, "gw-server"), 1)?;
        lab.veth((&monitor, "monitor"), (&gateway, "gw-mirror"), 1)?;
        for interface in ["gw-client", "gw-server", "gw-mirror"] {
            gateway.disable_ipv6(interface)?;
        }
        monitor.disable_ipv6("monitor")?;
        for (host, interface, addresses) in [(&client, "client", CLIENT), (&server, "server", SERVER)] {
            host.offloads_off(interface)?;
            for address in addresses {
                let address: IpAddr = address.parse()?;
                host.address(interface, address, if address.is_ipv4() { 24 } else { 64 })?;
            }
        }
        Ok(Self { client, gateway, server, monitor, folder: lab.folder()?, _lab: lab })
    }

    /// Waits until somebody listens on a TCP port of the server. The kernel is asked: a connection would be served.
    fn wait_for_server(&self, port: u16) -> Result<()> {
        let listens = || {
            let listed = self.server.exec("ss").args(["-Hltn", &format!("sport = :{port}")]).output().ok()?;
            (!listed.stdout.is_empty()).then_some(())
        };
        wait(Duration::from_secs(10), listens).with_context(|| format!("no server on port {port}"))
    }
}

struct Gateway {
    process: Running,
    socket: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// Starts `tidegate run` and waits until it answers.
    fn start(network: &Network, options: &Options) -> Result<Self> {
        let (socket, log) = (network.folder.join("socket"), network.folder.join("log"));
        let config = match &options.example {
            Some(file) => file.clone(),
            None => {
                let file = network.folder.join("demo.toml");
                fs::write(&file, EXAMPLE)?;
                file
            }
        };
        let mut command = network.gateway.exec(env::current_exe()?);
        command.arg("run").arg("--config").arg(config).arg("--socket").arg(&socket);
        // Away from the terminal's Ctrl-C: the lab ends it.
        silent(&mut command).stderr(File::create(&log)?).process_group(0);
        let mut gateway = Self { process: network.gateway.spawn(&mut command)?, socket, log };
        let answer = wait(Duration::from_secs(10), || match (gateway.status(), gateway.process.wait(Duration::ZERO)) {
            (Ok(status), _) => Some(Ok(status)),
            (Err(e), Some(_)) => Some(Err(e)),
            (Err(_), None) => None,
        });
        match answer {
            Some(Ok(_)) => Ok(gateway),
            _ => bail!("the gateway does not run:\n{}", gateway.log()),
        }
    }

    fn status(&self) -> Result<Status, ClientError> {
        Client::connect(&self.socket)?.status()
    }

    /// The status once no packet is under way: two in a row with the same totals.
    fn at_rest(&self) -> Result<Status> {
        let mut last = self.status()?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(100));
            let next = self.status()?;
            let same = last.ports.iter().zip(&next.ports).all(|(a, b)| a.totals == b.totals);
            last = next;
            if same {
                break;
            }
        }
        Ok(last)
    }

    fn stop(mut self, report: &mut Report) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(Duration::from_secs(5));
        let seen = status.map_or("still running after 5 s".into(), |status| status.to_string());
        let held = status.is_some_and(|status| status.success());
        report.expect("the gateway stops cleanly, every frame accounted for", held, &seen);
        if !held {
            report.lines.push(self.log());
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Asks again and again until there is an answer, or `limit` has passed.
fn wait<T>(limit: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        match answer() {
            None if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
}

fn check_programs() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root");
    let path = env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| env::split_paths(&path).any(|folder| folder.join(program).exists());
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    ensure!(missing.is_empty(), "programs are missing; apt install {}", missing.join(" "));
    Ok(())
}

// --- what it prints ------------------------------------------------------------------------------------------------

struct Report {
    start: Instant,
    color: bool,
    lines: Vec<String>,
    failed: usize,
}

impl Report {
    /// Says what happens now.
    fn step(&self, name: &str, what: &str) {
        println!("{:6.2} s  {name:<8} {what}", self.start.elapsed().as_secs_f64());
    }

    /// Notes what was expected, whether it held, and what was seen.
    fn expect(&mut self, what: &str, held: bool, seen: &str) {
        self.failed += usize::from(!held);
        let (word, color) = if held { ("ok  ", "\x1b[32m") } else { ("FAIL", "\x1b[1;31m") };
        let word = if self.color { format!("{color}{word}\x1b[0m") } else { word.to_owned() };
        self.lines.push(format!("{word}  {what:<52}  {seen}"));
    }

    /// Prints the expectations, one a line.
    fn conclude(self) -> ExitCode {
        println!("\n{}", self.lines.join("\n"));
        println!(
            "{:6.2} s, {}",
            self.start.elapsed().as_secs_f64(),
            match self.failed {
                0 => "every expectation held".to_owned(),
                n => format!("{n} expectations FAILED"),
            }
        );
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

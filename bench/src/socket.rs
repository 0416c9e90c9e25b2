//! `tidegate-bench socket`: how fast filters come and go by the control socket, and how fast they are listed.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_classifiers::plane::Plane;
use tidegate_client::Client;
use tidegate_client::wire::Request;
use tidegate_engine::control::{Limits, Server, Service};

/// Requests a second that one connection must reach.
const TARGET: f64 = 50_000.0;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Filters that each client adds, lists and deletes.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    filters: u32,
    /// Clients at once, one figure after the other.
    #[arg(long, default_value = "1,2,10", value_name = "N,...", value_delimiter = ',')]
    clients: Vec<u8>,
    /// Ends with exit code 1 if one connection alone does not reach 50,000 requests a second.
    #[arg(long)]
    check: bool,
    /// The result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// What so many clients reached together, a second.
#[derive(Debug, Serialize)]
struct Figure {
    clients: u8,
    added: f64,
    listed: f64,
    deleted: f64,
}

/// Measures and prints. `false` if the target is missed and `--check` is given.
///
/// # Errors
/// If a request is refused, or something does not start.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("bench.sock");
    let limits = Limits { rate: u32::MAX, ..Limits::default() };
    let service = Service::standalone(Plane::standalone(1));
    let _server = Server::start(&socket, "", Arc::new(service), limits)?;
    let figures = options.clients.iter().map(|&clients| measure(&socket, clients, options.filters));
    let figures = figures.collect::<Result<Vec<_>>>()?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        println!("{} filters a client, requests a second of all clients together", options.filters);
        println!("{:>8}{:>12}{:>12}{:>12}", "CLIENTS", "ADDED", "LISTED", "DELETED");
        for Figure { clients, added, listed, deleted } in &figures {
            println!("{clients:>8}{added:>12.0}{listed:>12.0}{deleted:>12.0}");
        }
    }
    let reached = |figure: &Figure| figure.clients > 1 || figure.added.min(figure.deleted) >= TARGET;
    Ok(!options.check || figures.iter().all(reached))
}

fn measure(socket: &Path, clients: u8, filters: u32) -> Result<Figure> {
    let ports: Vec<String> = (0..clients).map(|client| format!("port{client}")).collect();
    let mut setup = Client::connect(socket)?;
    for port in &ports {
        setup.bind(port, Some(0), None)?;
    }
    let added = together(socket, &ports, filters, |client, port| {
        pipeline(client, (1..=filters).map(|n| Request::AddFilter { filter: filter(port, n) }))
    })?;
    let listed = together(socket, &ports, filters, |client, port| {
        let listed = client.filters(json!({ "on": port })).try_fold(0, |n, record| record.map(|_| n + 1))?;
        ensure!(listed == filters + 1, "{listed} records are listed of {filters} filters");
        Ok(())
    })?;
    let deleted = together(socket, &ports, filters, |client, port| {
        pipeline(client, (1..=filters).map(|n| Request::DeleteFilter { filter: key(port, n) }))
    })?;
    for port in &ports {
        setup.unbind(port)?;
    }
    Ok(Figure { clients, added, listed, deleted })
}

/// Filters a second that `work` gets done, one thread and connection for each port.
fn together(
    socket: &Path,
    ports: &[String],
    filters: u32,
    work: impl Fn(&mut Client, &str) -> Result<()> + Sync,
) -> Result<f64> {
    let mut clients = ports.iter().map(|_| Client::connect(socket)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            clients.iter_mut().zip(ports).map(|(client, port)| scope.spawn(move || work(client, port))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a client panicked")?)
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Ok(ports.len() as f64 * f64::from(filters) / start.elapsed().as_secs_f64())
}

fn pipeline(client: &mut Client, requests: impl Iterator<Item = Request>) -> Result<()> {
    client.pipeline(requests).try_for_each(|reply| reply.map(|_| ()))?;
    Ok(())
}

/// As a script of tc would write it.
fn filter(port: &str, n: u32) -> Value {
    let [_, a, b, c] = n.to_be_bytes();
    let mac = format!("02:00:00:{a:02x}:{b:02x}:{c:02x}");
    json!({
        "on": port, "priority": 1, "protocol": "ip", "handle": n,
        "match": { "src_mac": mac, "dst_mac": "02:00:00:00:00:01" }, "action": "drop",
    })
}

fn key(port: &str, n: u32) -> Value {
    json!({ "on": port, "priority": 1, "protocol": "ip", "handle": n, "kind": "flower" })
}

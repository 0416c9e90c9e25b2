//! The status as tables for people.

use std::fmt::Write;
use std::time::Duration;

use tidegate_classifiers::verdict::DropReason;
use tidegate_client::status::Status;
use tidegate_client::wire::ReloadReport;

/// Renders `status` as text; `color` allows escape sequences.
pub fn render(status: &Status, color: bool) -> String {
    let mut out = String::new();
    let up = Duration::from_secs(status.uptime_s);
    let _ = writeln!(out, "tidegate {}  pid {}  up {}", status.version, status.pid, span(up.as_secs()));

    if let Some(report) = &status.reload.last {
        let _ = writeln!(out, "{} reloads, the last: {}", status.reload.reloads, reload(report));
    }
    if let Some(left) = status.reload.confirm_left_s {
        let _ = writeln!(out, "on trial: taken back in {}, unless it is confirmed", span(left));
    }
    for reason in status.reload.failed.iter().flat_map(|failed| failed.lines()) {
        let _ = writeln!(out, "the last reload failed: {reason}");
    }

    let mut ports = Table::new(&[
        "<PORT",
        "<INTERFACE",
        "<LINK",
        "<MODE",
        "<FORWARD",
        ">QUEUES",
        ">RX PKTS",
        ">RX/S",
        ">TX PKTS",
        ">TX/S",
        ">HOST",
        ">CONSUMED",
        ">DROPS",
    ]);
    for p in &status.ports {
        let t = &p.totals;
        let listed = ["host_arp", "host_nd", "host_listed"].iter().filter_map(|outcome| p.gate.get(*outcome));
        let host = t.passed + listed.sum::<u64>();
        ports.row([
            p.name.clone(),
            p.interface.clone(),
            p.link.clone(),
            p.mode.clone(),
            p.forward_to.clone(),
            p.queues.len().to_string(),
            t.rx_packets.to_string(),
            rate(p.rates.received_pps),
            t.tx_packets.to_string(),
            rate(p.rates.sent_pps),
            host.to_string(),
            t.consumed.to_string(),
            t.dropped_packets().to_string(),
        ]);
    }
    out += &ports.render(color);

    let mut drops = Table::new(&["<PORT", "<DROP REASON", ">PACKETS"]);
    for p in &status.ports {
        let t = &p.totals;
        let ours = DropReason::ALL.iter().map(|reason| (reason.name(), t.dropped[reason.index()]));
        let kernel = [("kernel: rx_ring_full", t.kernel_rx_ring_full), ("kernel: rx_dropped", t.kernel_rx_dropped)];
        let gate = ("gate: unread", p.gate.get("unread_dropped").copied().unwrap_or(0));
        for (reason, n) in ours.chain(kernel).chain([gate]).filter(|(_, n)| *n > 0) {
            drops.row([p.name.clone(), reason.into(), n.to_string()]);
        }
    }
    out += &drops.render(color);

    let mut filters = Table::new(&[
        "<BLOCK",
        ">CHAIN",
        ">PRIORITY",
        "<PROTOCOL",
        "<KIND",
        ">HANDLE",
        "<NAME",
        ">PACKETS",
        ">BYTES",
        ">LAST",
        "<ACTIONS",
    ]);
    for f in &status.filters {
        filters.row([
            f.block.clone(),
            f.chain.to_string(),
            f.priority.to_string(),
            f.protocol.clone(),
            f.kind.clone(),
            f.handle.as_str().map_or_else(|| f.handle.to_string(), str::to_owned),
            f.name.clone(),
            f.packets.to_string(),
            f.bytes.to_string(),
            f.last_used_s.map_or_else(|| "-".into(), span),
            f.actions.join(", "),
        ]);
    }
    out += &filters.render(color);

    let mut workers = Table::new(&[">WORKER", ">CORE", "<STATE", ">BURSTS", ">RESTARTS", ">FRAMES"]);
    for w in &status.workers {
        workers.row([
            w.worker.to_string(),
            w.core.map_or_else(|| "-".into(), |c| c.to_string()),
            w.state.clone(),
            w.bursts.to_string(),
            w.restarts.to_string(),
            w.frames.to_string(),
        ]);
    }
    out += &workers.render(color);

    let mut chains = Table::new(&["<BLOCK", ">CHAIN", ">FILTERS", ">MASKS", ">PROBES", ">WALKED"]);
    for c in &status.chains {
        chains.row([
            c.block.clone(),
            c.chain.to_string(),
            c.filters.to_string(),
            c.masks.to_string(),
            format!("{:.1}", c.probes),
            c.walked.to_string(),
        ]);
    }
    out += &chains.render(color);

    let mut caches = Table::new(&[">WORKER", ">FLOW CACHE", ">HITS", ">MISSES", ">PASSED BY", ">HIT RATE"]);
    for (worker, cache) in status.workers.iter().filter_map(|w| Some((w.worker, w.flow_cache.as_ref()?))) {
        caches.row([
            worker.to_string(),
            cache.entries.to_string(),
            cache.hits.to_string(),
            cache.misses.to_string(),
            cache.passed_by.to_string(),
            format!("{:.1} %", 100.0 * cache.hit_rate),
        ]);
    }
    out += &caches.render(color);
    out
}

/// What a reload did, on one line.
pub fn reload(report: &ReloadReport) -> String {
    let ReloadReport { generation, added, replaced, removed, unchanged, parse_ms, prepare_ms, commit_ms, .. } = report;
    let ports = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("ports {what}: {}; ", names.join(", ")),
    };
    let came = ports("added", &report.ports_added);
    let went = ports("removed", &report.ports_removed);
    format!(
        "generation {generation}: {came}{went}{added} added, {replaced} replaced, {removed} removed, {unchanged} unchanged; \
         parse {parse_ms:.1} ms, prepare {prepare_ms:.1} ms, commit {commit_ms:.1} ms"
    )
}

/// Columns as wide as their widest cell. A heading's first character says to which side its cells lean.
struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(headings: &[&'static str; N]) -> Self {
        Table { headings: *headings, rows: Vec::new() }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Nothing at all for a table without rows.
    fn render(&self, color: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths: [usize; N] = std::array::from_fn(|i| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.max().unwrap_or(0).max(self.headings[i].len() - 1)
        });
        let line = |cells: [&str; N]| {
            let padded: Vec<String> = (0..N)
                .map(|i| match self.headings[i].as_bytes()[0] {
                    b'>' => format!("{:>1$}", cells[i], widths[i]),
                    _ => format!("{:<1$}", cells[i], widths[i]),
                })
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        let (bold, plain) = if color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let mut out = format!("\n{bold}{}{plain}\n", line(self.headings.map(|h| &h[1..])));
        for row in &self.rows {
            out += &line(std::array::from_fn(|i| row[i].as_str()));
            out.push('\n');
        }
        out
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 1e6 => format!("{:.2}M", r / 1e6),
        r if r >= 1e4 => format!("{:.1}k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_client::status::{ChainStatus, FlowCacheStatus, WorkerStatus};

    use super::*;

    #[test]
    fn columns_line_up_and_empty_tables_vanish() {
        let mut table = Table::new(&["<NAME", ">N"]);
        assert_eq!(table.render(false), "");
        table.row(["a".into(), "10".into()]);
        table.row(["longer".into(), "7".into()]);
        assert_eq!(table.render(false), "\nNAME     N\na       10\nlonger   7\n");
        assert!(table.render(true).starts_with("\n\x1b[1mNAME"));
    }

    #[test]
    fn chains_and_flow_caches_have_a_line_each() {
        let flow_cache = FlowCacheStatus { entries: 8192, hits: 30, misses: 9, passed_by: 1, hit_rate: 0.75 };
        let worker = |worker, flow_cache| WorkerStatus {
            worker,
            core: None,
            state: "running".into(),
            bursts: 0,
            restarts: 0,
            frames: 0,
            flow_cache,
        };
        let status = Status {
            version: String::new(),
            pid: 1,
            uptime_s: 0,
            ports: Vec::new(),
            workers: vec![worker(0, None), worker(1, Some(flow_cache))],
            chains: vec![ChainStatus {
                block: "wan".into(),
                chain: 0,
                filters: 900,
                masks: 20,
                probes: 2.5,
                walked: 1,
            }],
            filters: Vec::new(),
            reload: Default::default(),
        };
        let expected = "
BLOCK  CHAIN  FILTERS  MASKS  PROBES  WALKED
wan        0      900     20     2.5       1

WORKER  FLOW CACHE  HITS  MISSES  PASSED BY  HIT RATE
     1        8192    30       9          1    75.0 %
";
        assert!(render(&status, false).ends_with(expected), "{}", render(&status, false));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!((rate(999.4), rate(12_345.0), rate(2_500_000.0)), ("999".into(), "12.3k".into(), "2.50M".into()));
        assert_eq!((span(59), span(61), span(3661)), ("59s".into(), "1m01s".into(), "1h01m".into()));
        assert_eq!(span(90_000), "1d01h");
    }
}

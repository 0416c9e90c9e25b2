//! Reload: the coordinator. It reads the file, makes the running blocks what the file says, and reports.
//!
//! Whoever wants a reload leaves an order at the [`Desk`]: SIGHUP, the control socket. One thread does one after the other;
//! of orders that wait, the newest counts, and all get its report [RL-8]. A reload on trial is taken back when nobody
//! confirms it in time: by the same way as it came.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tidegate_client::status::ReloadStatus;
use tidegate_client::wire::{Refusal, ReloadReport};
use tidegate_config::{Config, ConfigErrors, PortNumbers};
use tracing::{error, info, warn};

use crate::apply::{Applied, Refused};
use crate::cpu;
use crate::engine::lock;
use crate::rules::{Cabling, Rules};

/// Reads the configuration as it is to be now, beside ports with these numbers.
pub type Load = Box<dyn Fn(&PortNumbers) -> Result<Config, ConfigErrors> + Send>;

/// How long a reload can be on trial, at most.
const TRIAL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where reloads are ordered.
#[derive(Debug)]
pub struct Desk {
    rules: Arc<Rules>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A coordinator takes orders.
    open: bool,
    order: Option<Order>,
    /// When to go back.
    trial: Option<Instant>,
    /// What was on trial stays.
    confirmed: bool,
    status: ReloadStatus,
}

/// A reload that is wanted.
#[derive(Debug, Default)]
struct Order {
    /// Go back after so long, unless it is confirmed.
    trial: Option<Duration>,
    waiting: Vec<Sender<Result<ReloadReport, Refusal>>>,
}

/// What the coordinator does next.
enum Next {
    Reload(Order),
    /// What was before the trial is not needed any more.
    Forget,
    GoBack,
    End,
}

impl Desk {
    /// Of the gateway with these rules. Nobody takes orders yet.
    pub fn new(rules: Arc<Rules>) -> Desk {
        Desk { rules, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Orders a reload, and goes on.
    pub fn order(&self) {
        self.put(Order::default());
    }

    /// Orders a reload, and waits for it. With `trial`, it is taken back after so long, unless it is confirmed.
    ///
    /// # Errors
    /// `EINVAL` with every reason why nothing was done; `EOPNOTSUPP` if there is no file to read.
    pub fn reload(&self, trial: Option<Duration>) -> Result<ReloadReport, Refusal> {
        if trial.is_some_and(|trial| trial > TRIAL_MAX) {
            return Err(Refusal::new("ERANGE", "a reload is on trial for a day at most"));
        }
        let (sender, receiver) = mpsc::channel();
        if !self.put(Order { trial, waiting: vec![sender] }) {
            return Err(Refusal::new("EOPNOTSUPP", "this gateway has no file to read"));
        }
        receiver.recv().unwrap_or_else(|_| Err(Refusal::new("EBUSY", "the gateway stops")))
    }

    /// The reload that is on trial is to stay.
    ///
    /// # Errors
    /// `ENOENT` if there is none, or it was taken back already.
    pub fn confirm(&self) -> Result<(), Refusal> {
        let mut state = self.state();
        state.trial.take().ok_or_else(|| Refusal::new("ENOENT", "no reload waits to be confirmed"))?;
        state.confirmed = true;
        self.changed.notify_all();
        info!("reload confirmed");
        Ok(())
    }

    /// What became of reloads so far.
    pub fn status(&self) -> ReloadStatus {
        let state = self.state();
        let left = state.trial.map(|end| end.saturating_duration_since(Instant::now()).as_secs());
        ReloadStatus { confirm_left_s: left, ..state.status.clone() }
    }

    /// Every setting but blocks, by its name in the file.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.rules.settings()
    }

    /// A newer order takes the place of one that waits, and who waits for that.
    fn put(&self, order: Order) -> bool {
        let mut state = self.state();
        if !state.open {
            return false;
        }
        let mut waiting = state.order.take().map(|order| order.waiting).unwrap_or_default();
        waiting.extend(order.waiting);
        state.order = Some(Order { waiting, ..order });
        self.changed.notify_all();
        true
    }

    fn next(&self) -> Next {
        let mut state = self.state();
        loop {
            let left = state.trial.map(|end| end.saturating_duration_since(Instant::now()));
            if !state.open {
                return Next::End;
            } else if std::mem::take(&mut state.confirmed) {
                return Next::Forget;
            } else if let Some(order) = state.order.take() {
                return Next::Reload(order);
            } else if left == Some(Duration::ZERO) {
                state.trial = None; // from here on it is too late to confirm
                return Next::GoBack;
            }
            let wait = left.unwrap_or(Duration::MAX);
            let woken = self.changed.wait_timeout(state, wait.min(TRIAL_MAX));
            state = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The thread that does reloads. Dropped, it ends the one that it is at, and does no other.
#[derive(Debug)]
pub struct Coordinator {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Coordinator {
    /// Takes orders at `desk`, reads configurations with `load`, and changes the ports of `cabling`.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn start(desk: &Arc<Desk>, load: Load, cabling: Arc<dyn Cabling>) -> io::Result<Coordinator> {
        desk.state().open = true;
        let worker = Reloads { desk: Arc::clone(desk), load, cabling, before_trial: None };
        let thread = thread::Builder::new().name("reload".into()).spawn(move || worker.run())?;
        Ok(Coordinator { desk: Arc::clone(desk), thread: Some(thread) })
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        state.open = false;
        let waiting = state.order.take();
        drop(state);
        drop(waiting);
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread that reloads panicked");
        }
    }
}

/// The coordinator's work.
struct Reloads {
    desk: Arc<Desk>,
    load: Load,
    cabling: Arc<dyn Cabling>,
    /// What was last confirmed, while something else is on trial.
    before_trial: Option<Config>,
}

impl Reloads {
    fn run(mut self) {
        // A large file takes all cores that there are for seconds: packets are to notice nothing of it.
        if let Err(e) = cpu::keep_off(&self.desk.rules.worker_cores()) {
            warn!("reloads may run on workers' cores: {e}");
        }
        loop {
            match self.desk.next() {
                Next::Reload(order) => {
                    let outcome = notified(|| self.reload(order.trial));
                    for waiting in order.waiting {
                        let _ = waiting.send(outcome.clone()); // who went away does not care
                    }
                }
                Next::Forget => self.before_trial = None,
                Next::GoBack => notified(|| self.go_back()),
                Next::End => return,
            }
        }
    }

    fn reload(&mut self, trial: Option<Duration>) -> Result<ReloadReport, Refusal> {
        let outcome = self.try_reload(trial);
        let mut state = self.desk.state();
        match &outcome {
            Ok(report) => {
                info!(
                    generation = report.generation,
                    added = report.added,
                    replaced = report.replaced,
                    removed = report.removed,
                    unchanged = report.unchanged,
                    ports_added = ?report.ports_added,
                    ports_removed = ?report.ports_removed,
                    parse_ms = report.parse_ms,
                    prepare_ms = report.prepare_ms,
                    commit_ms = report.commit_ms,
                    confirm_s = report.confirm_s,
                    "reloaded"
                );
                state.status = ReloadStatus {
                    reloads: state.status.reloads + 1,
                    last: Some(report.clone()),
                    ..Default::default()
                };
            }
            Err(refusal) => {
                refusal.message.lines().for_each(|reason| error!("not reloaded: {reason}"));
                state.status.failed = Some(refusal.message.clone());
            }
        }
        outcome
    }

    fn try_reload(&mut self, trial: Option<Duration>) -> Result<ReloadReport, Refusal> {
        let started = Instant::now();
        let config =
            (self.load)(&self.desk.rules.numbers()).map_err(|wrong| Refusal::new("EINVAL", wrong.to_string()))?;
        let parse = started.elapsed();
        config.warnings.iter().for_each(|warning| warn!("{warning}"));
        // Back from a second trial leads to what was before the first one.
        let on_trial = self.desk.state().trial.is_some();
        let before = trial.map(|_| match self.before_trial.take().filter(|_| on_trial) {
            Some(before) => before,
            None => self.desk.rules.snapshot(),
        });
        let ports = self.desk.rules.ports();
        let applied = match self.desk.rules.reload(&config, &*self.cabling) {
            Ok(applied) => applied,
            Err(refused) => {
                // A trial that is going on goes on.
                self.before_trial = self.before_trial.take().or(before.filter(|_| on_trial));
                return Err(refusal(&refused));
            }
        };
        self.desk.rules.release_numbers(before.as_ref());
        let (ports_now, mut state) = (self.desk.rules.ports(), self.desk.state());
        state.trial = trial.map(|trial| Instant::now() + trial);
        self.before_trial = before;
        let Applied { generation, added, replaced, removed, unchanged, prepare, commit } = applied;
        Ok(ReloadReport {
            generation: generation.number(),
            added,
            replaced,
            removed,
            unchanged,
            ports_added: ports_now.iter().filter(|port| !ports.contains(port)).cloned().collect(),
            ports_removed: ports.iter().filter(|port| !ports_now.contains(port)).cloned().collect(),
            parse_ms: milliseconds(parse),
            prepare_ms: milliseconds(prepare),
            commit_ms: milliseconds(commit),
            confirm_s: trial.map(|trial| trial.as_secs()),
        })
    }

    /// Nobody confirmed.
    fn go_back(&mut self) {
        let Some(before) = self.before_trial.take() else { return };
        match self.desk.rules.reload(&before, &*self.cabling) {
            Ok(applied) => {
                self.desk.rules.release_numbers(None);
                let generation = applied.generation.number();
                warn!(
                    generation,
                    "the reload was not confirmed: back to what was before; the file still says otherwise"
                );
                self.desk.state().status.failed = Some("not confirmed in time: back to what was before".into());
            }
            Err(refused) => {
                refused
                    .0
                    .iter()
                    .for_each(|reason| error!("the reload was not confirmed, but cannot be taken back: {reason}"));
                self.desk.state().status.failed = Some(refused.to_string());
            }
        }
    }
}

fn refusal(refused: &Refused) -> Refusal {
    Refusal::new("EINVAL", refused.to_string())
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Lets systemd know that a reload begins, and that it is over (`Type=notify-reload`).
fn notified<T>(reload: impl FnOnce() -> T) -> T {
    // Not under systemd: nobody to notify.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
    }
    let outcome = reload();
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidegate_classifiers::plane::Plane;
    use tidegate_classifiers::request::{self, FilterInfo};

    use super::*;
    use crate::rules::NoCabling;

    /// A file that tests write, and the gateway that reads it.
    struct Site {
        file: Arc<Mutex<String>>,
        rules: Arc<Rules>,
        desk: Arc<Desk>,
        /// How often the file was read.
        reads: Arc<AtomicUsize>,
        coordinator: Option<Coordinator>,
    }

    fn parse(filters: &str) -> Result<Config, ConfigErrors> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, format!("[port.wan]\nforward_to = \"lan\"\n[port.lan]\nforward_to = \"wan\"\n{filters}"))
            .unwrap();
        tidegate_config::load_with(&path, std::iter::empty())
    }

    fn filter(name: &str, port: u16) -> String {
        format!(
            "[[filter]]\non = \"wan\"\nname = \"{name}\"\nprotocol = \"ip\"\nmatch = {{ ip_proto = \"udp\", dst_port = {port} }}\naction = \"drop\"\n"
        )
    }

    impl Site {
        fn new(filters: &str) -> Site {
            Site::reading(filters, || ())
        }

        /// `at_reading` is called whenever the file is read.
        fn reading(filters: &str, at_reading: impl Fn() + Send + 'static) -> Site {
            let rules = Arc::new(Rules::new(&parse(filters).unwrap(), &Plane::standalone(1)).unwrap());
            let (file, reads) = (Arc::new(Mutex::new(filters.to_owned())), Arc::new(AtomicUsize::new(0)));
            let desk = Arc::new(Desk::new(Arc::clone(&rules)));
            let (text, count) = (Arc::clone(&file), Arc::clone(&reads));
            let load = move |_: &PortNumbers| {
                count.fetch_add(1, Ordering::SeqCst);
                at_reading();
                parse(&lock(&text))
            };
            let coordinator = Some(Coordinator::start(&desk, Box::new(load), Arc::new(NoCabling)).unwrap());
            Site { file, rules, desk, reads, coordinator }
        }

        fn write(&self, filters: &str) {
            *lock(&self.file) = filters.to_owned();
        }

        fn running(&self) -> Vec<FilterInfo> {
            self.rules.blocks().iter().flat_map(|(_, block)| request::dump(block)).collect()
        }

        fn names(&self) -> Vec<String> {
            self.running().iter().map(|info| info.name.to_string()).collect()
        }
    }

    #[test]
    fn a_reload_reports_what_it_did() {
        let site = Site::new(&[filter("a", 1), filter("b", 2)].concat());
        let kept = site.running()[1].clone();
        site.write(&[filter("b", 2), filter("c", 3), filter("d", 4)].concat());
        let report = site.desk.reload(None).unwrap();
        assert_eq!((report.added, report.replaced, report.removed, report.unchanged), (2, 0, 1, 1));
        assert_eq!(site.names(), ["b", "c", "d"]);
        assert_eq!(site.running()[0], kept);
        let again = site.desk.reload(None).unwrap();
        assert_eq!((again.generation, again.unchanged), (report.generation, 3), "nothing to do is not a commit");
        assert_eq!(site.desk.status().reloads, 2);
    }

    /// [RL-8]
    #[test]
    fn of_orders_that_wait_the_newest_counts_and_all_get_its_report() {
        let (going, go) = mpsc::channel::<()>();
        let site = Site::reading("", move || go.recv_timeout(Duration::from_secs(10)).unwrap());
        thread::scope(|scope| {
            let first = scope.spawn(|| site.desk.reload(None));
            while site.reads.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            let waiting = [1, 2, 3].map(|_| scope.spawn(|| site.desk.reload(None)));
            let all_wait = || site.desk.state().order.as_ref().is_some_and(|order| order.waiting.len() == 3);
            while !all_wait() {
                thread::yield_now();
            }
            site.write(&filter("a", 1));
            (0..10).for_each(|_| site.desk.order());
            going.send(()).unwrap();
            going.send(()).unwrap();
            first.join().unwrap().unwrap();
            waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap().unwrap().unchanged, 1));
        });
        assert_eq!(site.reads.load(Ordering::SeqCst), 2, "thirteen orders, one reload");
    }

    /// [RL-9]
    #[test]
    fn what_is_refused_changes_nothing_and_says_every_reason() {
        let site = Site::new(&filter("a", 1));
        // A client's filters are where the file wants some.
        let (_, wan) = site.rules.blocks().remove(0);
        let mut foreign = parse(&filter("x", 1)).unwrap().blocks.remove(0).filters.remove(0);
        for priority in [70, 80] {
            foreign.priority = priority;
            request::add_filter(&wan, &foreign).unwrap();
        }
        let before = site.running();
        let at = |name: &str, priority: u32| {
            filter(name, 1).replace("protocol", &format!("priority = {priority}\nprotocol"))
        };
        site.write(&[at("b", 70), at("c", 80), filter("d", 4)].concat());
        let refused = site.desk.reload(None).unwrap_err();
        let reasons: Vec<_> = refused.message.lines().collect();
        let [first, second] = &reasons[..] else { panic!("{reasons:?}") };
        assert!(first.starts_with("block wan: filter \"b\" at chain 0 priority 70: "), "{first}");
        assert!(
            second.contains("\"c\"") && second.contains("exists already; did a client make something there?"),
            "{second}"
        );
        assert_eq!(site.running(), before);
        assert_eq!(site.desk.status().failed.as_ref(), Some(&refused.message));
    }

    #[test]
    fn the_first_trap_on_a_port_without_a_way_to_the_host_needs_a_restart() {
        let site = Site::new("");
        site.write(&filter("a", 1).replace("drop", "trap"));
        assert_eq!(site.desk.reload(None).unwrap_err().message, "port wan: the first `trap` on it: needs a restart");
    }

    #[test]
    fn who_waits_when_the_gateway_stops_is_told() {
        let (going, go) = mpsc::channel::<()>();
        let mut site = Site::reading("", move || go.recv_timeout(Duration::from_secs(10)).unwrap());
        let desk = Arc::clone(&site.desk);
        let first = thread::spawn({
            let desk = Arc::clone(&desk);
            move || desk.reload(None)
        });
        while site.reads.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let second = thread::spawn(move || desk.reload(None));
        while site.desk.state().order.is_none() {
            thread::yield_now();
        }
        let coordinator = site.coordinator.take();
        let stopping = thread::spawn(move || drop(coordinator));
        assert_eq!(second.join().unwrap().unwrap_err().errno, "EBUSY");
        going.send(()).unwrap();
        assert!(first.join().unwrap().is_ok(), "what was begun is ended");
        stopping.join().unwrap();
        assert_eq!(site.desk.reload(None).unwrap_err().errno, "EOPNOTSUPP");
    }
}

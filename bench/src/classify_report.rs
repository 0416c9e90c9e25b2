//! What `classify` found: a table for people, JSON for programs, and whether the targets are met.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use tidegate_classifiers::flow_cache;

use crate::classify::{Family, Size, Trace};
use crate::figure::{Figure, Figures, SpeedRound, Target, calm, short};
use crate::lookups::BURST;
use crate::report::{CORE_LOST_MAX, Machine, Summary};
use crate::rule_set::Order;
use crate::update_report::Parts;

/// Microseconds of a packet where filters are meant to be slow: each of 10,000 is asked in less than 20 ns.
const HOSTILE_MAX: f64 = 200.0;

/// What a flow cache may cost where it is of no use.
const FLOOD_MIN: f64 = 0.95;

/// Filters a second to be loaded at 100k.
const LOAD_MIN: f64 = 1e6;

/// Bytes of memory that a filter may take at 100k.
const BYTES_MAX: f64 = 400.0;

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClassifyReport {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Where both looked up.
    pub(crate) core: u16,
    /// How headers followed one another.
    pub(crate) trace: Trace,
    /// Entries that our flow cache was to have; 0: there was none.
    pub(crate) flow_cache: u32,
    /// Of a turn.
    pub(crate) seconds: f64,
    /// Why librte_acl was not measured at all.
    pub(crate) no_acl: Option<String>,
    /// Of each family.
    pub(crate) memory: Vec<FilterMemory>,
    /// One after the other.
    pub(crate) cases: Vec<Case>,
}

/// What a filter takes where each has a priority of its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FilterMemory {
    pub(crate) family: Family,
    /// Measured with so many.
    pub(crate) filters: usize,
    /// Bytes of resident memory for each.
    pub(crate) bytes_each: f64,
    /// What they are for.
    pub(crate) parts: Parts,
}

/// A rule set with one order of priorities.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) family: Family,
    pub(crate) size: Size,
    pub(crate) order: Order,
    /// Rules it really has.
    pub(crate) filters: usize,
    /// Headers whose answer was checked before anything was measured,
    pub(crate) checked: usize,
    /// and of these, against a search rule by rule.
    pub(crate) searched: usize,
    /// Filters a second, loaded from nothing by one thread.
    pub(crate) load: Summary,
    /// Lookups.
    pub(crate) rounds: Vec<SpeedRound>,
    /// The same without the flow cache, round by round, if there is one.
    pub(crate) without_cache: Vec<SpeedRound>,
    /// Packets that the flow cache knew, of all.
    pub(crate) hit_rate: Option<f64>,
    /// librte_acl with the same rules, round by round.
    pub(crate) acl: Option<AclCase>,
    /// Why it could not.
    pub(crate) no_acl: Option<String>,
}

/// librte_acl's part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AclCase {
    /// The fastest, with its batch.
    pub(crate) variant: String,
    /// Seconds it took to build.
    pub(crate) build: f64,
    /// What lookups use of memory.
    pub(crate) bytes: u64,
    /// Lookups.
    pub(crate) rounds: Vec<SpeedRound>,
}

/// The report with its verdicts, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Judged<'a> {
    #[serde(flatten)]
    report: &'a ClassifyReport,
    figures: Vec<Figure>,
}

impl Case {
    fn name(&self) -> String {
        format!("{} {} {}", self.family, self.size, self.order.name())
    }

    /// Lookups a second, of the turns that were not disturbed where there are any.
    fn rate(&self) -> Summary {
        calm(SpeedRound::rates(&self.rounds)).unwrap_or_default().0
    }

    /// Lookups a second to librte_acl's, turn by turn; and whether any turn was calm.
    fn ratio(&self) -> Option<(Summary, bool)> {
        calm(SpeedRound::ratios(&self.rounds, &self.acl.as_ref()?.rounds))
    }

    /// Lookups a second to those without the flow cache.
    fn gain(&self) -> Option<Summary> {
        calm(SpeedRound::ratios(&self.rounds, &self.without_cache)).map(|(ratio, _)| ratio)
    }

    /// What the ratio is to be at least; with a flow cache, for packets some of which are frequent.
    fn target(&self, trace: Trace) -> Option<f64> {
        let ahead = (!self.family.is_made_up() && self.size != Size::K1).then_some(1.0);
        match (self.order, self.size, self.family) {
            _ if self.hit_rate.is_some() => ahead.filter(|_| trace == Trace::Zipf),
            _ if trace != Trace::Uniform => None,
            _ if self.family.is_made_up() => None,
            (Order::File, Size::K1, _) => Some(0.5),
            (Order::File, Size::K10, Family::Fw1) => Some(1.0),
            (Order::File, Size::K10, _) => Some(0.6),
            (Order::File, Size::K100 | Size::K500, _) => Some(1.5),
            (Order::Shuffled, Size::K100, _) => Some(1.0),
            (Order::Shuffled, _, _) => None,
        }
    }
}

impl AclCase {
    fn rate(&self) -> Summary {
        calm(SpeedRound::rates(&self.rounds)).unwrap_or_default().0
    }
}

impl ClassifyReport {
    /// Every target whose figure was measured.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for case in &self.cases {
            let (Some(acl), Some(least)) = (&case.acl, case.target(self.trace)) else { continue };
            let ratios = SpeedRound::ratios(&case.rounds, &acl.rounds);
            figures.extend(Figure::of_calm(format!("to librte_acl, {}", case.name()), ratios, Target::AtLeast(least)));
        }
        // A uniform trace is a flood of new flows for a cache of fewer entries than there are headers.
        for case in self.cases.iter().filter(|case| self.trace == Trace::Uniform && case.hit_rate.is_some()) {
            let ratios = SpeedRound::ratios(&case.rounds, &case.without_cache);
            let name = format!("to itself without the flow cache, {}", case.name());
            figures.extend(Figure::of_calm(name, ratios, Target::AtLeast(FLOOD_MIN)));
        }
        for case in self.cases.iter().filter(|case| Family::HOSTILE.contains(&case.family)) {
            let rounds = case.rounds.iter().map(|round| (1e6 / round.rate, round.core_lost));
            figures.extend(Figure::of_calm(
                format!("us a packet, {}", case.name()),
                rounds,
                Target::AtMost(HOSTILE_MAX),
            ));
        }
        for case in self.cases.iter().filter(|case| case.size == Size::K100) {
            figures.push(Figure::new(
                format!("filters/s loaded, {}", case.name()),
                case.load,
                Target::AtLeast(LOAD_MIN),
            ));
        }
        for FilterMemory { family, bytes_each, .. } in &self.memory {
            figures.push(Figure::of(format!("bytes per filter, {family}"), *bytes_each, Target::AtMost(BYTES_MAX)));
        }
        for (small, large, growth) in self.growths() {
            let (Some(from), Some(to)) = (&small.acl, &large.acl) else { continue };
            let name = format!("growth from 10k to 500k, {} {}", large.family, large.order.name());
            figures.push(Figure::of(name, growth, Target::AtMost(from.rate().median / to.rate().median)));
        }
        figures
    }

    /// For JSON.
    pub(crate) fn with_figures(&self) -> Judged<'_> {
        Judged { report: self, figures: self.figures() }
    }

    /// Cases of 10k and 500k filters of a family, and how much longer a lookup takes in the latter.
    fn growths(&self) -> impl Iterator<Item = (&Case, &Case, f64)> {
        let pairs = self.cases.iter().flat_map(|small| self.cases.iter().map(move |large| (small, large)));
        let alike = |small: &Case, large: &Case| small.family == large.family && small.order == large.order;
        pairs
            .filter(move |(small, large)| (small.size, large.size) == (Size::K10, Size::K500) && alike(small, large))
            .map(|(small, large)| (small, large, small.rate().median / large.rate().median))
    }

    /// Turns in which others had the core for too long, of all.
    fn disturbed(&self) -> (usize, usize) {
        let acl = self.cases.iter().flat_map(|case| &case.acl).flat_map(|acl| &acl.rounds);
        let rounds: Vec<_> = self.cases.iter().flat_map(|case| &case.rounds).chain(acl).collect();
        (rounds.iter().filter(|round| round.core_lost > CORE_LOST_MAX).count(), rounds.len())
    }
}

impl Display for Case {
    /// A line of the table.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24}{:>8}  {:<26}", self.name(), self.filters, millions(self.rate()))?;
        match (&self.acl, self.ratio()) {
            (Some(acl), Some((ratio, _))) => {
                let ratio = format!("{} ({} - {})", short(ratio.median), short(ratio.min), short(ratio.max));
                write!(f, "{:<26}{:<18}{ratio:<26}", millions(acl.rate()), acl.variant)?;
            }
            _ => write!(f, "{:<26}", self.no_acl.as_deref().unwrap_or("-"))?,
        }
        match (self.hit_rate, self.gain()) {
            (Some(rate), Some(gain)) => {
                let gain = format!("{} ({} - {})", short(gain.median), short(gain.min), short(gain.max));
                writeln!(f, "{:.1} % hits, {gain} times as without", 100.0 * rate)
            }
            _ => writeln!(f),
        }
    }
}

impl Display for ClassifyReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, tidegate, build } = &self.machine;
        let rounds = self.cases.first().map_or(0, |case| case.rounds.len());
        writeln!(f, "\ntidegate {tidegate} ({build} build) on Linux {kernel}, {cpu}, {cores} cores")?;
        let cache = match self.flow_cache {
            0 => "no flow cache".to_owned(),
            entries => format!("a flow cache of {} entries", flow_cache::entries(entries)),
        };
        writeln!(
            f,
            "{} trace, {cache}; {rounds} rounds of {} s in turn on core {}",
            self.trace, self.seconds, self.core
        )?;
        writeln!(
            f,
            "\n{:<24}{:>8}  {:<26}{:<26}{:<18}RATIO\n{:<24}{:>8}  {:<26}{:<26}{:<18}(MIN - MAX)",
            "", "", "M LOOKUPS/S", "LIBRTE_ACL'S", "VARIANT,", "SET", "FILTERS", "(MIN - MAX)", "(MIN - MAX)", "BATCH"
        )?;
        self.cases.iter().try_for_each(|case| write!(f, "{case}"))?;
        writeln!(
            f,
            "\nA lookup is what a worker asks of a block for a parsed packet, in bursts of {BURST}, with the counters of filter and \
             action; librte_acl counts nothing."
        )?;
        if let Some(why) = &self.no_acl {
            writeln!(f, "librte_acl was not measured: {why}")?;
        }

        writeln!(
            f,
            "\n{:<24}{:>26}{:>28}{:>22}",
            "LOADING", "FILTERS/S (MIN - MAX)", "LIBRTE_ACL'S BUILD", "ITS MEMORY"
        )?;
        for case in &self.cases {
            let load = format!("{:.0} ({:.0} - {:.0})", case.load.median, case.load.min, case.load.max);
            write!(f, "{:<24}{load:>26}", case.name())?;
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            match &case.acl {
                Some(AclCase { build, bytes, .. }) => {
                    let build = format!("{build:.2} s, {:.0}/s", case.filters as f64 / build);
                    let memory =
                        format!("{:.0} MB, {:.0} B each", *bytes as f64 / 1e6, *bytes as f64 / case.filters as f64);
                    writeln!(f, "{build:>28}{memory:>22}")?;
                }
                None => writeln!(f)?,
            }
        }
        writeln!(f)?;
        for FilterMemory { family, filters, bytes_each, parts } in &self.memory {
            writeln!(
                f,
                "{family}: a filter takes {bytes_each:.0} bytes of memory ({filters} filters): {parts}, the rest is its priority and \
                 room to spare."
            )?;
        }
        for (small, large, growth) in self.growths() {
            write!(f, "{} {}: a lookup in 500k takes {growth:.2} times", large.family, large.order.name())?;
            match (&small.acl, &large.acl) {
                (Some(from), Some(to)) => {
                    writeln!(f, " that in 10k; librte_acl's {:.2} times", from.rate().median / to.rate().median)?;
                }
                _ => writeln!(f, " that in 10k")?,
            }
        }
        let (checked, searched): (usize, usize) =
            self.cases.iter().fold((0, 0), |(all, few), case| (all + case.checked, few + case.searched));
        writeln!(f, "{checked} answers were checked before, {searched} of them against a search rule by rule.")?;
        write!(f, "{}", Figures(&self.figures()))?;
        if let (disturbed @ 1.., all) = self.disturbed() {
            writeln!(f, "WARNING {disturbed} of {all} turns were disturbed: run it again on a quiet machine")?;
        }
        Ok(())
    }
}

/// Millions, with three digits.
fn millions(rate: Summary) -> String {
    let short = |rate: f64| match rate / 1e6 {
        million if million >= 99.95 => format!("{million:.0}"),
        million if million >= 9.995 => format!("{million:.1}"),
        million if million >= 0.9995 => format!("{million:.2}"),
        million => format!("{million:.4}"),
    };
    format!("{} ({} - {})", short(rate.median), short(rate.min), short(rate.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(rates: &[f64]) -> Vec<SpeedRound> {
        rates.iter().map(|&rate| SpeedRound { rate, core_lost: 0.0 }).collect()
    }

    fn case(family: Family, size: Size, order: Order, own: &[f64], acl: &[f64]) -> Case {
        let acl = AclCase { variant: "avx2, 64".into(), build: 2.0, bytes: 8_000_000, rounds: rounds(acl) };
        let load = Summary { median: LOAD_MIN, min: 1.0, max: LOAD_MIN };
        Case {
            family,
            size,
            order,
            filters: 1000,
            checked: 7,
            searched: 3,
            load,
            rounds: rounds(own),
            without_cache: Vec::new(),
            hit_rate: None,
            acl: Some(acl),
            no_acl: None,
        }
    }

    fn report(cases: Vec<Case>) -> ClassifyReport {
        let memory = FilterMemory { family: Family::Acl1, filters: 10, bytes_each: BYTES_MAX, parts: Parts::of(1) };
        ClassifyReport {
            machine: Machine::this(),
            core: 1,
            trace: Trace::Uniform,
            flow_cache: 0,
            seconds: 0.5,
            no_acl: None,
            memory: vec![memory],
            cases,
        }
    }

    /// Names of figures, and whether they are met.
    fn judged(report: &ClassifyReport) -> Vec<(String, Option<bool>)> {
        report.figures().into_iter().map(|figure| (figure.name, figure.met)).collect()
    }

    #[test]
    fn a_ratio_is_formed_within_a_round_and_its_target_is_that_of_the_set() {
        for (family, size, order, least) in [
            (Family::Acl1, Size::K1, Order::File, 0.5),
            (Family::Fw1, Size::K10, Order::File, 1.0),
            (Family::Ipc1, Size::K10, Order::File, 0.6),
            (Family::Ipc1, Size::K100, Order::File, 1.5),
            (Family::Ipc1, Size::K500, Order::File, 1.5),
            (Family::Fw1, Size::K100, Order::Shuffled, 1.0),
        ] {
            // The machine is ten times as fast in the second round: the ratio is the same.
            let met = case(family, size, order, &[1e6 * least, 1e7 * least], &[1e6, 1e7]);
            let missed = case(family, size, order, &[0.99e6 * least, 0.99e7 * least], &[1e6, 1e7]);
            let name = format!("to librte_acl, {}", met.name());
            assert_eq!(judged(&report(vec![met]))[0], (name.clone(), Some(true)));
            assert_eq!(judged(&report(vec![missed]))[0], (name, Some(false)));
        }
    }

    #[test]
    fn what_has_no_target_is_not_judged() {
        let shuffled = case(Family::Acl1, Size::K10, Order::Shuffled, &[1.0], &[9.0]);
        let made_up = case(Family::Ipv6, Size::K10, Order::File, &[1.0], &[9.0]);
        let report = report(vec![shuffled, made_up]);
        assert_eq!(judged(&report), [("bytes per filter, acl1".into(), Some(true))]);
        let zipf = case(Family::Acl1, Size::K1, Order::File, &[1.0], &[9.0]);
        let zipf = ClassifyReport { trace: Trace::Zipf, cases: vec![zipf], ..report };
        assert_eq!(judged(&zipf).len(), 1);
        assert!(zipf.to_string().contains("0.11 (0.11 - 0.11)"), "shown all the same: {zipf}");
    }

    #[test]
    fn a_flow_cache_is_to_be_ahead_where_packets_come_again() {
        let with_cache = |trace, size| {
            let without_cache = rounds(&[10.0]);
            let case = case(Family::Acl1, size, Order::Shuffled, &[9.0], &[10.0]);
            let case = Case { hit_rate: Some(0.75), without_cache, ..case };
            ClassifyReport { trace, flow_cache: 5000, ..report(vec![case]) }
        };
        let zipf = with_cache(Trace::Zipf, Size::K10);
        assert_eq!(judged(&zipf)[0], ("to librte_acl, acl1 10k shuffled".into(), Some(false)));
        let table = zipf.to_string();
        assert!(
            table.contains("a flow cache of 8192 entries")
                && table.contains("75.0 % hits, 0.90 (0.90 - 0.90) times as without\n"),
            "{table}"
        );
        assert_eq!(judged(&with_cache(Trace::Zipf, Size::K1)).len(), 1, "it has no target");
        let flood = with_cache(Trace::Uniform, Size::K10);
        assert_eq!(judged(&flood)[0], ("to itself without the flow cache, acl1 10k shuffled".into(), Some(false)));
    }

    #[test]
    fn what_is_meant_to_be_slow_has_a_bound() {
        let rates = |rate| case(Family::Crossed, Size::K10, Order::File, &[rate], &[9.0]);
        let judged = [5e3, 4e3].map(|rate| judged(&report(vec![rates(rate)]))[0].clone());
        let name = "us a packet, crossed 10k in file order".to_owned();
        assert_eq!(judged, [(name.clone(), Some(true)), (name, Some(false))]);
    }

    #[test]
    fn a_disturbed_round_does_not_count() {
        let mut case = case(Family::Acl1, Size::K1, Order::File, &[1e6, 1.0], &[1e6, 1e6]);
        case.rounds[1].core_lost = 0.5;
        let calm = report(vec![case.clone()]);
        assert_eq!(judged(&calm)[0].1, Some(true));
        assert!(calm.to_string().contains("WARNING 1 of 4 turns"));
        case.acl.iter_mut().for_each(|acl| acl.rounds[0].core_lost = 0.5);
        assert_eq!(judged(&report(vec![case]))[0].1, None, "both were disturbed, in turns of their own");
    }

    #[test]
    fn growth_is_that_of_one_family_and_order_and_no_worse_than_the_others() {
        let small = |order| case(Family::Fw1, Size::K10, order, &[8e6], &[9e6]);
        let large = |order, rate| case(Family::Fw1, Size::K500, order, &[rate], &[3e6]);
        let other = case(Family::Ipc1, Size::K500, Order::File, &[1.0], &[1.0]);
        let growth = |rate| {
            let cases = vec![small(Order::File), large(Order::File, rate), small(Order::Shuffled), other.clone()];
            let mut judged = judged(&report(cases));
            judged.retain(|(name, _)| name.starts_with("growth"));
            judged
        };
        let name = "growth from 10k to 500k, fw1 in file order";
        assert_eq!(growth(4e6), [(name.to_owned(), Some(true))]);
        assert_eq!(growth(2e6), [(name.to_owned(), Some(false))]);
        let table = report(vec![small(Order::File), large(Order::File, 4e6)]).to_string();
        assert!(table.contains("a lookup in 500k takes 2.00 times that in 10k; librte_acl's 3.00 times\n"), "{table}");
    }

    #[test]
    fn loading_and_memory_have_targets_at_100k() {
        let mut report = report(vec![
            case(Family::Fw1, Size::K100, Order::File, &[1e6], &[1e6]),
            case(Family::Fw1, Size::K10, Order::File, &[1e6], &[1e6]),
        ]);
        let loads = |report: &ClassifyReport| {
            let all = judged(report).into_iter();
            all.filter(|(name, _)| !name.starts_with("to "))
                .map(|(name, met)| (name, met == Some(true)))
                .collect::<Vec<_>>()
        };
        let names = ["filters/s loaded, fw1 100k in file order", "bytes per filter, acl1"].map(str::to_owned);
        assert_eq!(loads(&report), names.clone().map(|name| (name, true)));
        report.cases[0].load.median *= 0.99;
        report.memory[0].bytes_each += 1.0;
        assert_eq!(loads(&report), names.map(|name| (name, false)));
    }

    #[test]
    fn without_librte_acl_there_is_a_line_and_no_ratio() {
        let mut case = case(Family::Acl1, Size::K1, Order::File, &[2.5e6], &[]);
        (case.acl, case.no_acl) = (None, None);
        let report = ClassifyReport { no_acl: Some("it is not there".into()), ..report(vec![case]) };
        let table = report.to_string();
        assert!(table.contains("librte_acl was not measured: it is not there\n"), "{table}");
        assert!(table.contains("2.50 (2.50 - 2.50)"), "{table}");
        assert!(!judged(&report).iter().any(|(name, _)| name.starts_with("to ")));
        let json = serde_json::to_value(report.with_figures()).unwrap();
        assert_eq!((json["cases"][0]["size"].as_str(), json["cases"][0]["acl"].is_null()), (Some("1k"), true));
        assert_eq!(json["figures"][0]["met"], true);
    }
}

//! `tidegate-bench classify`: how fast packets find their filter in a chain, beside librte_acl.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tidegate_classifiers::flow_cache::ENTRIES_MAX;
use tidegate_classifiers::verdict::Control;

use crate::acl::Acl;
use crate::classify_report::{AclCase, Case, ClassifyReport, FilterMemory};
use crate::hostile_rules::{self, Aim};
use crate::lookups::{Filters, Lookups, THREAD};
use crate::report::{Machine, Summary};
use crate::rule_set::{Answer, Order, RuleSet};
use crate::turns::Turns;
use crate::update::resident;
use crate::update_report::Parts;
use crate::{classbench, ipv6_rules};

/// How often a set is loaded from nothing.
const LOADS: usize = 3;

/// Rules that are looked at one by one to check answers of a set, all headers together: less than a second.
const SEARCHED: usize = 50_000_000;

/// Filters to measure memory with: with fewer it cannot be told from what else the process does.
const MEMORY_SIZE: Size = Size::K100;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Whose rules.
    #[arg(long, value_delimiter = ',', default_values_t = [Family::Acl1, Family::Fw1, Family::Ipc1], value_name = "NAME")]
    families: Vec<Family>,
    /// How many rules. 500k takes 13 GB of memory and some minutes each, because of librte_acl.
    #[arg(long, value_delimiter = ',', default_values_t = [Size::K1, Size::K10, Size::K100], value_name = "SIZE")]
    sizes: Vec<Size>,
    /// Sets of 1k and 10k rules that are meant to be slow, instead of these families and sizes.
    #[arg(long, conflicts_with_all = ["families", "sizes"])]
    hostile: bool,
    /// Which priorities the rules have.
    #[arg(long, value_delimiter = ',', default_values_t = [Order::File, Order::Shuffled], value_name = "ORDER")]
    orders: Vec<Order>,
    /// How headers follow one another.
    #[arg(long, default_value_t, value_name = "NAME")]
    trace: Trace,
    /// The folder of ClassBench's rule sets and of traces that are not uniform.
    #[arg(long, default_value = "../shared/data/classbench", value_name = "FOLDER")]
    data: PathBuf,
    /// Headers of a set that is made up; ClassBench's have as many as this says by itself.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    headers: u32,
    /// Entries of a flow cache in front, 0 for none. `--trace zipf --flow-cache 65536` is what a worker does unless its file says otherwise.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(ENTRIES_MAX)))]
    flow_cache: u32,
    #[command(flatten)]
    turns: Turns,
    /// Without librte_acl.
    #[arg(long)]
    alone: bool,
    /// Ends with exit code 1 if a target is missed.
    #[arg(long)]
    check: bool,
    /// The result as JSON on standard output; progress goes to standard error either way.
    #[arg(long)]
    json: bool,
}

/// Where rules come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// ClassBench: access control lists.
    Acl1,
    /// ClassBench: firewalls.
    Fw1,
    /// ClassBench: chains of the Linux firewall of old.
    Ipc1,
    /// Made up, for IPv6.
    Ipv6,
    /// Made up to be slow: a mask for each rule, nested, the widest first.
    Masks,
    /// Made up to be slow: masks that nothing rules out and where nothing is found.
    Crossed,
    /// Made up to be slow: overlapping port ranges of one key.
    Ranges,
}

/// How many rules a set has, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub(crate) enum Size {
    #[value(name = "1k")]
    #[serde(rename = "1k")]
    K1,
    #[value(name = "10k")]
    #[serde(rename = "10k")]
    K10,
    #[value(name = "100k")]
    #[serde(rename = "100k")]
    K100,
    #[value(name = "500k")]
    #[serde(rename = "500k")]
    K500,
}

/// How headers follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trace {
    /// All headers in turn: none is seen before all others were.
    #[default]
    Uniform,
    /// Some are much more frequent than others.
    Zipf,
    /// Each comes several times in a row.
    Burst,
}

/// Measures and prints. `false` if a target is missed and `--check` is given.
///
/// # Errors
/// If there are no rule sets, a request is refused, or an answer is wrong.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let options = &options.clone().expanded();
    options.turns.check()?;
    let made_up = options.families.iter().all(|family| family.is_made_up()) && options.trace == Trace::Uniform;
    ensure!(
        made_up || options.data.is_dir(),
        "{} is not there: name the folder of ClassBench's rule sets by --data, or measure --families ipv6 or --hostile, which need none",
        options.data.display()
    );
    let machine = Machine::this(); // before there is one core only
    let report = options.turns.on_core(THREAD, || measure(options, machine))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report.with_figures())?);
    } else {
        print!("{report}");
    }
    Ok(!options.check || report.figures().iter().all(|figure| figure.met != Some(false)))
}

fn measure(options: &Options, machine: Machine) -> Result<ClassifyReport> {
    let memory = memory(options)?; // first, while the heap has no holes
    let program = if options.alone { Err(anyhow::anyhow!("--alone")) } else { Acl::program() };
    let mut cases = Vec::new();
    for &family in &options.families {
        for &size in &options.sizes {
            let set = load(options, family, size)?;
            for &order in &options.orders {
                eprintln!("{family} {size} {}: {} rules", order.name(), set.rules.len());
                let case = case(options, (family, size, order), &set, program.as_deref().ok())?;
                eprint!("{case}");
                cases.push(case);
            }
        }
    }
    Ok(ClassifyReport {
        machine,
        core: options.turns.core,
        trace: options.trace,
        flow_cache: options.flow_cache,
        seconds: options.turns.seconds,
        no_acl: program.err().map(|error| format!("{error:#}")),
        memory,
        cases,
    })
}

fn load(options: &Options, family: Family, size: Size) -> Result<RuleSet> {
    match family {
        Family::Ipv6 => Ok(ipv6_rules::generate(size.rules(), options.headers as usize)),
        Family::Masks => Ok(hostile_rules::generate(Aim::Masks, size.rules(), options.headers as usize)),
        Family::Crossed => Ok(hostile_rules::generate(Aim::Crossed, size.rules(), options.headers as usize)),
        Family::Ranges => Ok(hostile_rules::generate(Aim::Ranges, size.rules(), options.headers as usize)),
        Family::Acl1 | Family::Fw1 | Family::Ipc1 => classbench::load(&options.data, &format!("{family}_{size}")),
    }
}

/// Indices of headers, in the order in which they come.
fn trace(options: &Options, set: &RuleSet) -> Result<Vec<u32>> {
    let headers = u32::try_from(set.headers.len())?;
    let trace = match options.trace {
        Trace::Uniform => (0..headers).collect(),
        Trace::Zipf => classbench::trace(&options.data, "zipf1.0")?,
        Trace::Burst => classbench::trace(&options.data, "burst")?,
    };
    ensure!(trace.iter().all(|&header| header < headers), "the trace names headers that are not there");
    Ok(trace)
}

/// What a filter takes, of each family: measured with a second block of the same rules, because the first one takes memory that
/// the allocator has left from reading them. All stay until the last one is measured.
fn memory(options: &Options) -> Result<Vec<FilterMemory>> {
    let families = options.families.iter().filter(|_| options.sizes.contains(&MEMORY_SIZE));
    let mut kept = Vec::new();
    let measure = |&family: &Family| {
        let set = load(options, family, MEMORY_SIZE)?;
        let (filters, ranks) = (set.rules.len(), Order::File.ranks(set.rules.len()));
        let mut taken = 0;
        for _ in 0..2 {
            let before = resident()?;
            kept.push(Filters::load(&set, &ranks, Control::Shot)?);
            taken = resident()?.saturating_sub(before).saturating_sub(Filters::BYTES_EACH * filters); // its list is not the engine's
        }
        #[expect(clippy::cast_precision_loss, reason = "bytes for people")]
        let bytes_each = taken as f64 / filters as f64;
        Ok(FilterMemory { family, filters, bytes_each, parts: Parts::of(1) })
    };
    families.map(measure).collect()
}

/// One set with one order of priorities: built by both, checked, and looked up in by both in turn.
fn case(
    options: &Options,
    (family, size, order): (Family, Size, Order),
    set: &RuleSet,
    program: Option<&Path>,
) -> Result<Case> {
    let (ranks, trace) = (order.ranks(set.rules.len()), trace(options, set)?);
    let acl = program.map(|program| Acl::new(program, options.turns.core, set, &ranks, &trace)).transpose();
    let (mut acl, no_acl) = match acl {
        Ok(acl) => (acl, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let mut loads = Vec::with_capacity(LOADS);
    let filters = loop {
        let (filters, took) = Filters::load(set, &ranks, Control::Shot)?;
        loads.push(took.as_secs_f64());
        if loads.len() == LOADS {
            break filters;
        }
    };
    let mut lookups = Lookups::new(filters, set, &trace, options.flow_cache)?;
    let (known, searched) = known(set, order, &ranks, acl.as_mut())?;
    lookups.check(&known).with_context(|| format!("{family} {size} {}", order.name()))?;

    let span = options.turns.span();
    let mut acl_case = match &mut acl {
        Some(acl) => {
            Some(AclCase { variant: acl.tune()?, build: acl.build.as_secs_f64(), bytes: acl.bytes, rounds: Vec::new() })
        }
        None => None,
    };
    let (mut rounds, mut without_cache) = (Vec::new(), Vec::new());
    lookups.take_hit_rate();
    for _ in 0..options.turns.rounds {
        rounds.push(lookups.round(span)?);
        if options.flow_cache > 0 {
            without_cache.push(lookups.round_without_cache(span)?);
        }
        if let (Some(acl), Some(case)) = (&mut acl, &mut acl_case) {
            case.rounds.push(acl.round(span)?);
        }
    }
    lookups.check_counters()?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let load = Summary::of(loads.into_iter().map(|seconds| set.rules.len() as f64 / seconds));
    Ok(Case {
        family,
        size,
        order,
        filters: set.rules.len(),
        checked: known.len(),
        searched,
        load,
        rounds,
        without_cache,
        hit_rate: lookups.take_hit_rate(),
        acl: acl_case,
        no_acl,
    })
}

/// Headers with their answers, for as many as these are known, and how many of them were searched for rule by rule. Who says
/// more about a header than the search must not contradict it.
fn known(set: &RuleSet, order: Order, ranks: &[u32], acl: Option<&mut Acl>) -> Result<(Vec<(u32, Answer)>, usize)> {
    let headers = u32::try_from(set.headers.len())?;
    let step = (set.headers.len() * set.rules.len()).div_ceil(SEARCHED).max(1);
    let search = |header: u32| (header, set.search(ranks, &set.headers[header as usize]));
    let searched: Vec<(u32, Answer)> = (0..headers).step_by(step).map(search).collect();

    let labels = set.labels.clone().filter(|_| order == Order::File);
    let told = [("the file's label", labels), ("librte_acl's answer", acl.map(Acl::answers).transpose()?)];
    let mut all = None;
    for (who, answers) in told {
        let Some(answers) = answers else { continue };
        ensure!(answers.len() == set.headers.len(), "{who}: {} of {headers}", answers.len());
        for &(header, answer) in &searched {
            let told = answers[header as usize];
            ensure!(told == answer, "a wrong answer: {who} to header {header} is {told:?}, and should be {answer:?}");
        }
        let first = all.get_or_insert_with(|| answers.clone());
        ensure!(*first == answers, "a wrong answer: {who} is not always the file's label");
    }
    let count = searched.len();
    Ok((all.map_or(searched, |answers| (0..).zip(answers).collect()), count))
}

impl Options {
    /// With what `hostile` stands for.
    fn expanded(self) -> Options {
        match self.hostile {
            true => Options { families: Family::HOSTILE.to_vec(), sizes: vec![Size::K1, Size::K10], ..self },
            false => self,
        }
    }
}

impl Family {
    /// Those that are meant to be slow.
    pub(crate) const HOSTILE: [Family; 3] = [Family::Masks, Family::Crossed, Family::Ranges];

    /// Whether it is not ClassBench's.
    pub(crate) fn is_made_up(self) -> bool {
        match self {
            Family::Acl1 | Family::Fw1 | Family::Ipc1 => false,
            Family::Ipv6 | Family::Masks | Family::Crossed | Family::Ranges => true,
        }
    }
}

impl Size {
    /// About.
    fn rules(self) -> usize {
        match self {
            Size::K1 => 1_000,
            Size::K10 => 10_000,
            Size::K100 => 100_000,
            Size::K500 => 500_000,
        }
    }
}

/// As the command line calls them.
macro_rules! display_by_name {
    ($($type:ty),*) => {$(
        impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.pad(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
            }
        }
    )*};
}

display_by_name!(Family, Size, Order, Trace);

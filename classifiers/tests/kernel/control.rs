use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use tidegate_classifiers::request::{CHAIN_MAX, FilterKey, FilterSpec, KindName, KindSpec, Mode};

use crate::generate::{self, Offer};
use crate::listing;
use crate::netns::Netns;
use crate::request::{Answer, Ours, Request, Slot};
use crate::tc::Tc;

/// Where ours is meant to answer otherwise than the kernel: both refuse, with another errno.
struct Difference {
    rule: &'static str,
    applies: fn(&Request, &Answer, &Answer) -> bool,
}

const DIFFERENCES: &[Difference] = &[
    // A hook has one block until it is unbound; a qdisc that is there is "File exists" to the kernel.
    Difference {
        rule: "BL-6",
        applies: |request, theirs, ours| {
            matches!(request, Request::Bind(_)) && is(theirs, "EEXIST") && is(ours, "EINVAL")
        },
    },
    // The kernel's "no such qdisc".
    Difference {
        rule: "RQ-9",
        applies: |request, theirs, ours| matches!(request, Request::Unbind(_)) && theirs.is_err() && is(ours, "EINVAL"),
    },
    // Ours is asked for a block before it is asked anything about it. The kernel looks at the priority first.
    Difference {
        rule: "RQ-3",
        applies: |request, theirs, ours| match request {
            Request::NewFilter(Slot::Shared, FilterSpec { priority: 0, .. }, Mode::Change)
            | Request::DeleteFilter(Slot::Shared, FilterKey { priority: 0, .. }) => {
                is(theirs, "ENOENT") && is(ours, "EINVAL")
            }
            _ => false,
        },
    },
    // A template is made before the chain is, so that no filter slips in between; so what is wrong with it is found first.
    Difference {
        rule: "TM-5",
        applies: |request, theirs, ours| {
            matches!(request, Request::AddChain(..)) && is(theirs, "EEXIST") && is(ours, "EOPNOTSUPP")
        },
    },
    // A u32 node or table whose number is taken: the kernel has "no space" for it.
    Difference {
        rule: "HA-4",
        applies: |request, theirs, ours| {
            matches!(request, Request::NewFilter(_, FilterSpec { kind: KindSpec::U32(_), handle: 1.., .. }, _))
                && is(theirs, "ENOSPC")
                && is(ours, "EEXIST")
        },
    },
];

fn is(answer: &Answer, errno: &str) -> bool {
    answer.as_ref().is_err_and(|found| found == errno)
}

/// A namespace, and what its kernel has.
struct Bench<'a> {
    netns: &'a Netns,
    tc: Tc<'a>,
    /// How often each difference was met.
    met: BTreeMap<&'static str, usize>,
    requests: usize,
    refused: usize,
}

impl<'a> Bench<'a> {
    fn new(netns: &'a Netns) -> Bench<'a> {
        Bench { netns, tc: Tc::new(netns).unwrap(), met: BTreeMap::new(), requests: 0, refused: 0 }
    }

    /// Takes everything away, in the kernel.
    fn clear(&self, offer: &Offer) {
        for port in ["p0", "p1", "p2"] {
            let _ = self.tc.try_one(&format!("qdisc delete dev {port} clsact"));
        }
        if !offer.actions.is_empty() {
            self.netns.settle();
            for kind in &offer.actions {
                let _ = self.tc.try_one(&Request::FlushActions(*kind).line().command);
            }
        }
        self.tc.try_one("qdisc add dev p0 clsact").unwrap();
    }

    /// The script, request by request, in both.
    fn compare(&mut self, script: &[Request], offer: &Offer) -> Result<(), String> {
        self.clear(offer);
        let mut ours = Ours::new();
        let script = until_tables_go(script);
        // What the kernel releases later can be seen by way of actions only: their numbers and counts, and the chains that
        // they hold. Without actions the whole script is one batch.
        let batches: Vec<&[Request]> = if offer.actions.is_empty() {
            vec![script]
        } else {
            script.chunk_by(|request, _| !request.releases()).collect()
        };
        let (mut history, mut released) = (String::new(), false);
        for batch in batches {
            let lines: Vec<_> = batch.iter().map(Request::line).collect();
            for (request, reply) in batch.iter().zip(self.tc.run(&lines)) {
                let theirs = reply.map(|printed| listing::theirs(request, printed.as_ref()));
                let ours = ours.run(request);
                self.requests += 1;
                self.refused += usize::from(ours.is_err());
                released = request.releases() && ours.is_ok();
                history += &format!("  tc {}\n", request.line().command);
                if theirs == ours {
                    continue;
                }
                match DIFFERENCES.iter().find(|known| (known.applies)(request, &theirs, &ours)) {
                    Some(known) => *self.met.entry(known.rule).or_default() += 1,
                    None => return Err(format!("{history}kernel: {theirs:#?}\nours: {ours:#?}")),
                }
            }
            if released && !offer.actions.is_empty() {
                self.netns.settle();
            }
        }
        Ok(())
    }
}

/// The part of the script up to the request that would delete a priority which has u32 tables besides its root: there,
/// tables go with it; in the kernel they stay until the block's last u32 priority goes, seen by nobody [WK-11].
fn until_tables_go(script: &[Request]) -> &[Request] {
    let mut ours = Ours::new();
    let count = |ours: &Ours| {
        [Slot::Private, Slot::Shared].map(|slot| ours.block(slot).map_or(0, |block| listing::user_tables(&block)))
    };
    for (at, request) in script.iter().enumerate() {
        let before = count(&ours);
        let _ = ours.run(request);
        let by_handle = matches!(request, Request::DeleteFilter(_, FilterKey { handle: 1.., .. }));
        let bound = matches!(request, Request::Unbind(_));
        let after = count(&ours);
        if !by_handle && !bound && (after[0] < before[0] || after[1] < before[1]) {
            return &script[..at];
        }
    }
    script
}

/// `count` random scripts, or SCRIPTS percent of them.
fn scripts(name: &str, actions: bool, count: u32, len: usize) {
    let Some(netns) = crate::namespace(name) else { return };
    let mut bench = Bench::new(&netns);
    let found = bench.tc.offer();
    let offer = Offer { actions: if actions { found.actions } else { BTreeSet::new() }, ..found };
    println!("{name}: this kernel has {:?}; actions used: {:?}", offer.kinds, offer.actions);
    let seed = crate::number("SEED").unwrap_or(3);
    let percent = crate::number("SCRIPTS").unwrap_or(100);
    let config = Config {
        cases: count * u32::try_from(percent).unwrap() / 100,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: if actions { 20 } else { 100 },
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let strategy = vec(generate::request(&offer), 1..len);
    let cell = std::cell::RefCell::new(&mut bench);
    let result = runner.run(&strategy, |mut script| {
        script.extend([Request::ListFilters(Slot::Private), Request::ListChains(Slot::Private)]);
        script.extend([Request::ListFilters(Slot::Shared), Request::ListChains(Slot::Shared)]);
        script.extend(offer.actions.iter().map(|kind| Request::ListActions(*kind)));
        cell.borrow_mut().compare(&script, &offer).map_err(TestCaseError::fail)
    });
    if let Err(proptest::test_runner::TestError::Fail(why, _)) = &result {
        panic!("{name}, seed {seed}: {why}");
    }
    result.unwrap();
    println!("{name}: {} requests, {} refused; known differences met: {:?}", bench.requests, bench.refused, bench.met);
    assert!(
        bench.refused * 20 > bench.requests && bench.refused * 20 < bench.requests * 19,
        "scripts that test little"
    );
}

#[test]
fn filters_and_chains_are_answered_and_listed_as_by_the_kernel() {
    scripts("filters and chains", false, 300, 60);
}

#[test]
fn shared_actions_and_gotos_are_answered_and_listed_as_by_the_kernel() {
    scripts("actions", true, 40, 30);
}

/// What random scripts meet seldom, by name.
#[test]
fn written_scripts_are_answered_and_listed_as_by_the_kernel() {
    use Slot::Private;
    let Some(netns) = crate::namespace("written scripts") else { return };
    let mut bench = Bench::new(&netns);
    let offer = Offer { actions: BTreeSet::new(), ..bench.tc.offer() };
    let new = |chain, priority, handle| {
        let spec = FilterSpec { chain, priority, handle, ..generate::u32_filter() };
        Request::NewFilter(Private, spec, Mode::Add)
    };
    let delete = |chain, priority, handle| {
        let kind = (handle != 0).then_some(KindName::U32);
        Request::DeleteFilter(Private, FilterKey { handle, kind, ..FilterKey::priority(chain, priority) })
    };
    let (filters, chains) = (|| Request::ListFilters(Private), || Request::ListChains(Private));
    let add = |chain: u32| Request::AddChain(Private, chain.into());
    let remove = |chain| Request::DeleteChain(Private, chain);
    let scripts = [
        // Automatic priorities go down from 49152, from below the lowest one in the upper half [PR-1], until there is one at
        // its beginning [PR-2]; an explicit 65535 makes the next one 65534 [PR-3].
        vec![new(0, 0, 0), new(0, 0, 0), new(0, 5, 0), new(0, 0, 0), filters()],
        vec![new(0, 0xffff, 0), new(0, 0, 0), new(0, 0x8000, 0), new(0, 0, 0), filters()],
        vec![new(0, 0x7fff, 0), new(0, 0, 0), new(0, 0x8001, 0), new(0, 0, 0), new(0, 0, 0), filters()],
        // Chains are listed as they were created [CH-13]; an explicit one outlives its filters [CH-3], an implicit one does
        // not [CH-4], and may be deleted with them [CH-5].
        vec![add(5), add(CHAIN_MAX), new(0, 1, 0), new(7, 2, 0), chains(), add(7), delete(7, 2, 0), chains()],
        vec![add(5), new(5, 1, 0), Request::DeleteFilter(Private, FilterKey::chain(5)), chains(), remove(5), chains()],
        vec![new(7, 1, 0), remove(7), chains(), filters(), remove(7)],
        // Node ids from 0x800 up, the lowest free one first; another one may be asked for [HA-4]. With its last filter a
        // priority goes [TP-13].
        vec![
            new(0, 1, 0),
            new(0, 1, 0),
            new(0, 1, 0x8000_0803),
            new(0, 1, 0),
            delete(0, 1, 0x8000_0801),
            new(0, 1, 0),
            new(0, 1, 0),
            filters(),
            new(0, 1, 0x8000_0fff),
            new(0, 1, 0),
            filters(),
        ],
        vec![new(0, 1, 0), new(0, 2, 0), delete(0, 2, 0x8010_0800), filters(), delete(0, 1, 0x8000_0800), filters()],
        // A flush of what is not there succeeds [ER-14], a delete does not [ER-12].
        vec![Request::DeleteFilter(Private, FilterKey::chain(9)), delete(9, 1, 0), delete(0, 1, 0)],
    ];
    for script in scripts {
        bench.compare(&script, &offer).unwrap_or_else(|why| panic!("{why}"));
    }
    assert!(bench.met.is_empty(), "{:?}", bench.met);
}

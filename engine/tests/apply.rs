//! Apply: all of a file or nothing, whatever fails and whoever is in the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    self, ActionSpec, ChainInfo, FilterId, FilterInfo, FilterKey, FilterSpec, GactSpec, Mode, Owner,
};
use tidegate_classifiers::verdict::Control;
use tidegate_config::Config;
use tidegate_engine::apply::{self, Target};
use tidegate_engine::rules::{NoCabling, Rules};

/// Filters by name, port and action; `extra` before them.
fn config(extra: &str, filters: &[(&str, u16, &str)]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.toml");
    let mut text = format!("[port.wan]\nforward_to = \"lan\"\n[port.lan]\nforward_to = \"wan\"\n{extra}");
    for on in ["wan", "lan"] {
        for (name, port, action) in filters {
            text += &format!(
                "[[filter]]\non = \"{on}\"\nname = \"{on}-{name}\"\nprotocol = \"ip\"\n\
                 match = {{ ip_proto = \"udp\", dst_port = {port} }}\naction = \"{action}\"\n"
            );
        }
    }
    std::fs::write(&path, text).unwrap();
    tidegate_config::load_with(&path, std::iter::empty()).unwrap()
}

fn first() -> Config {
    let chains =
        "[block.wan.chains]\nold = 7\nboth = 8\n[[filter]]\non = \"wan\"\npriority = 5\naction = \"continue\"\n";
    config(chains, &[("kept", 1, "pass"), ("goes", 2, "drop"), ("changes", 3, "drop"), ("moves", 5, "pass")])
}

fn second() -> Config {
    // Priority 5 gets another kind; "moves" comes before all others.
    let chains = "[block.wan.chains]\nnew = 6\nboth = 8\n[[filter]]\non = \"wan\"\npriority = 5\nprotocol = \"ip\"\nmatch = { ip_proto = \"tcp\" }\naction = \"goto 6\"\n[[filter]]\non = \"wan\"\nchain = 6\naction = \"drop\"\n";
    config(chains, &[("moves", 5, "pass"), ("kept", 1, "pass"), ("comes", 9, "drop"), ("changes", 3, "pass")])
}

/// Everything that listings show.
type Shown = Vec<(String, Vec<FilterInfo>, Vec<ChainInfo>)>;

fn shown(rules: &Rules) -> Shown {
    let one = |(name, block): (String, Arc<Block>)| (name, request::dump(&block), apply::chains(&block));
    rules.blocks().into_iter().map(one).collect()
}

fn is_as_wanted(rules: &Rules, config: &Config) -> bool {
    let blocks = rules.blocks();
    config.blocks.iter().all(|wanted| {
        let (_, running) = blocks.iter().find(|(name, _)| *name == wanted.name).unwrap();
        apply::changes(Target { running, wanted }).is_empty()
    })
}

fn wan(rules: &Rules) -> Arc<Block> {
    Arc::clone(&rules.blocks()[0].1)
}

fn place_of(block: &Arc<Block>, name: &str) -> Option<FilterId> {
    let found = request::dump(block).into_iter().find(|info| &*info.name == name)?;
    Some(FilterId { chain: found.chain, priority: found.priority, handle: found.handle })
}

/// A client's version of a running filter.
fn changed(block: &Arc<Block>, place: FilterId) -> Option<FilterSpec> {
    let info = request::get_filter(block, place).ok()?;
    Some(FilterSpec {
        chain: info.chain,
        priority: info.priority,
        protocol: info.protocol,
        handle: info.handle,
        kind: info.matches,
        actions: [ActionSpec::Gact(GactSpec { control: Control::Trap, random: None })].into_iter().collect(),
        name: info.name,
        options: info.options,
    })
}

/// [RL-9]: nothing visible has changed.
#[test]
fn a_failure_at_any_point_leaves_everything_as_it_was() {
    let mut failed = 0;
    for number in 0.. {
        let plane = Plane::standalone(1);
        let rules = Rules::new(&first(), &plane).unwrap();
        plane.reaper().drain();
        let (before, live) = (shown(&rules), plane.live());
        let passed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&passed);
        plane.set_hook(Some(Arc::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            at if at == number => Err(RequestError::NoMemory("injected")),
            _ => Ok(()),
        })));
        let applied = rules.reload(&second(), &NoCabling);
        plane.set_hook(None);
        plane.reaper().drain();
        match applied {
            Err(refused) => {
                assert!(refused.to_string().contains("injected"), "{refused}");
                assert_eq!(shown(&rules), before, "after a failure at point {number}");
                assert_eq!(plane.live(), live, "after a failure at point {number}");
                failed += 1;
            }
            // At some points nothing can fail any more.
            Ok(_) => assert!(is_as_wanted(&rules, &second())),
        }
        if passed.load(Ordering::SeqCst) <= number {
            break;
        }
    }
    assert!(failed > 20, "{failed} failures");
}

type Client = Box<dyn Fn(&Arc<Block>) + Send + Sync>;

/// A reload from the first file to the second. When everything is prepared, but not committed, `client` does something.
fn meddled(client: impl Fn(&Arc<Block>) + Send + Sync + 'static) -> Rules {
    let made = |client: Option<(usize, Client)>| {
        let plane = Plane::standalone(1);
        let rules = Rules::new(&first(), &plane).unwrap();
        let (block, made) = (wan(&rules), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&made);
        plane.set_hook(Some(Arc::new(move |point| {
            if point == Point::Committed {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                client.iter().filter(|(last, _)| *last == number).for_each(|(_, client)| client(&block));
            }
            Ok(())
        })));
        rules.reload(&second(), &NoCabling).unwrap();
        plane.set_hook(None);
        (rules, made.load(Ordering::SeqCst))
    };
    let (_, all) = made(None);
    let (rules, again) = made(Some((all, Box::new(client))));
    assert!(again >= all, "the client was called");
    rules
}

/// [RL-4], [RL-7]: the reload has the last word on what it changes.
#[test]
fn what_a_client_takes_before_the_commit_is_looked_at_again() {
    for name in ["wan-changes", "wan-goes", "wan-moves"] {
        let rules = meddled(move |block| request::delete_filter(block, place_of(block, name).unwrap()).unwrap());
        assert!(is_as_wanted(&rules, &second()), "{name} deleted");
        let rules = meddled(move |block| {
            let changed = changed(block, place_of(block, name).unwrap()).unwrap();
            request::new_filter(block, &changed, Mode::Replace).unwrap();
        });
        assert!(is_as_wanted(&rules, &second()), "{name} changed");
    }
}

#[test]
fn a_flush_by_a_client_takes_what_was_there_and_not_what_is_prepared() {
    let rules = meddled(|block| request::delete_filter(block, FilterKey::chain(0)).unwrap());
    let block = wan(&rules);
    for name in ["wan-comes", "wan-changes", "wan-moves"] {
        assert!(place_of(&block, name).is_some(), "{name}");
    }
    assert_eq!(place_of(&block, "wan-goes"), None);
}

/// [RL-2], [RL-3]: also in a chain that the file no longer wants.
#[test]
fn what_clients_made_is_not_touched() {
    let rules = Rules::new(&first(), &Plane::standalone(1)).unwrap();
    let block = wan(&rules);
    let theirs: Vec<FilterSpec> = [(0, 5), (0, 3), (7, 1), (9, 1)]
        .map(|(chain, priority)| FilterSpec {
            chain,
            priority,
            handle: 0,
            name: "theirs".into(),
            ..second().blocks[0].filters.iter().find(|filter| &*filter.name == "wan-comes").unwrap().clone()
        })
        .into();
    let theirs = theirs.iter().filter(|spec| request::add_filter(&block, spec).is_ok()).count();
    assert_eq!(theirs, 3, "priority 5 is a matchall's");
    let listed = || -> Vec<FilterInfo> {
        request::dump(&block).into_iter().filter(|info| info.owner == Owner::Client).collect()
    };
    let before = listed();
    for config in [second(), first(), config("", &[]), second()] {
        rules.reload(&config, &NoCabling).unwrap();
        assert_eq!(listed(), before);
    }
    assert_eq!(before.len(), theirs);
}

/// [RL-11]
#[test]
fn beside_clients_that_change_its_filters_a_reload_comes_to_an_end_and_the_last_one_counts() {
    let rules = Rules::new(&first(), &Plane::standalone(1)).unwrap();
    let (block, stop) = (wan(&rules), AtomicBool::new(false));
    let (first, second) = (first(), second());
    let client = |number: u16| {
        let mut random = fastrand::Rng::with_seed(number.into());
        while !stop.load(Ordering::Relaxed) {
            let name = ["wan-kept", "wan-goes", "wan-changes", "wan-moves", "wan-comes"][random.usize(..5)];
            let Some(place) = place_of(&block, name) else { continue };
            // Either may meet another client, or the reload.
            if random.bool() {
                let _ = request::delete_filter(&block, place);
            } else if let Some(changed) = changed(&block, place) {
                let _ = request::new_filter(&block, &changed, Mode::Change);
            }
        }
    };
    thread::scope(|scope| {
        (0..4).for_each(|number| _ = scope.spawn(move || client(number)));
        let end = Instant::now() + Duration::from_secs(2);
        let mut done = 0;
        while Instant::now() < end {
            // A reload may give up, and says why.
            match rules.reload(if done % 2 == 0 { &second } else { &first }, &NoCabling) {
                Ok(_) => done += 1,
                Err(refused) => assert!(refused.to_string().contains("client"), "{refused}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(done > 20, "{done} reloads");
    });
    rules.reload(&second, &NoCabling).unwrap();
    assert!(is_as_wanted(&rules, &second));
    rules.reload(&first, &NoCabling).unwrap();
    assert!(is_as_wanted(&rules, &first));
}

/// [TX-12]
#[test]
fn filters_of_kind_u32_come_with_the_start_and_stay() {
    let u32 = |value: &str| {
        let filter = format!(
            "[[filter]]\non = \"wan\"\npriority = 3\nprotocol = \"ip\"\nkind = \"u32\"\nmatch = {{ keys = [\"{value}/0xffffffff at 12\"] }}\naction = \"drop\"\n"
        );
        config(&filter, &[("kept", 1, "pass")])
    };
    let rules = Rules::new(&u32("0x0a000001"), &Plane::standalone(1)).unwrap();
    assert!(is_as_wanted(&rules, &u32("0x0a000001")));
    let before = shown(&rules);
    let refused = rules.reload(&u32("0x0a000002"), &NoCabling).unwrap_err();
    assert!(refused.to_string().contains("a change of kind u32 needs a restart"), "{refused}");
    assert_eq!(shown(&rules), before);
}

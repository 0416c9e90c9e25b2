use proptest::prelude::*;

use tidegate_classifiers::event::{BlockId, Event};
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::request::{ActionKind, DumpFilter};

use crate::ask::{Ask, SHARED, Slot, Subject, events};
use crate::generate;
use crate::model::{Model, Numbers};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// What one client is told: [ER-1], [ER-2], [ER-3], [ER-4], [ER-5], [ER-6], [ER-7], [ER-8], [ER-9], [ER-10], [ER-11], [ER-12],
    /// [ER-13], [ER-14], [ER-15], [ER-16], [ER-17], [ER-18], [ER-19], [ER-20], [ER-21], [ER-25], [ER-29], [ER-30], [ER-31], [ER-38],
    /// [ER-40], [RQ-2], [RQ-3], [RQ-4], [RQ-5], [RQ-6], [RQ-7], [RQ-8], [RQ-11]; what is there then: [CH-1], [CH-2], [CH-3], [CH-4],
    /// [CH-5], [CH-13], [CH-15], [CH-16], [TM-1], [TM-2], [TM-6], [PR-1], [PR-2], [PR-3], [FO-1], [FO-7], [FO-10], [FO-11], [HA-1],
    /// [HA-2], [HA-3], [HA-5], [WK-3], [WK-4], [WK-5], [WK-10], [BL-1], [BL-4], [BL-5], [BL-6], [AC-2], [AC-3], [AC-4], [AC-5],
    /// [AC-6], [AC-7], [AC-9], [AC-10], [KR-18], [KR-58], [KR-64]; and what others hear of it: [NT-1], [NT-2], [NT-3], [NT-4],
    /// [NT-5], [NT-6], [NT-10], [NT-12], [KR-17]. In the end, nothing is left [KR-76].
    #[test]
    fn one_request_after_the_other_is_served_as_by_the_model(asks in prop::collection::vec(generate::ask(), 1..60)) {
        let subject = Subject::new();
        let subscription = subject.plane.subscribe(10_000);
        let mut model = Model::new();
        for (step, ask) in asks.iter().enumerate() {
            let outcome = subject.run(ask);
            let (expected, expected_events) = model.apply(ask, Numbers::AsRuled);
            prop_assert_eq!(&outcome, &expected, "step {}: {:?}", step, ask);
            prop_assert_eq!(per_chain(events(&subscription)), per_chain(expected_events), "step {}: {:?}", step, ask);
            for listing in listings() {
                let (expected, _) = model.apply(&listing, Numbers::AsRuled);
                prop_assert_eq!(subject.run(&listing), expected, "{:?} after step {}: {:?}", listing, step, ask);
            }
            prop_assert_eq!(events(&subscription), [], "listings change nothing");
        }
        let plane = subject.tear_down();
        prop_assert_eq!(plane.live(), LiveCounts::default());
    }
}

/// A soak run takes minutes, others seconds.
fn cases() -> u32 {
    if std::env::var_os("SOAK").is_some() { 100_000 } else { 1_000 }
}

fn listings() -> Vec<Ask> {
    let of_slot = |slot| [Ask::Dump(slot, DumpFilter::default(), 3), Ask::DumpChains(slot, 2)];
    let of_kind = |kind| Ask::DumpActions(kind, 2);
    let slots = [Slot::Private, Slot::Shared].into_iter().flat_map(of_slot);
    slots.chain(ActionKind::ALL.map(of_kind)).collect()
}

/// Events of each chain in their order; that between chains means nothing [NT-5].
fn per_chain(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| match event {
        Event::ChainAdded { block, chain } | Event::ChainDeleted { block, chain } => place(block, *chain),
        Event::FilterAdded { block, filter, .. } | Event::FilterDeleted { block, filter } => place(block, filter.chain),
        Event::ProtoDeleted { block, proto } => place(block, proto.chain),
        Event::ActionsAdded { .. } | Event::ActionsDeleted { .. } | Event::ActionsFlushed { .. } => (2, 0),
    });
    events
}

fn place(block: &BlockId, chain: u32) -> (u8, u32) {
    (u8::from(*block == BlockId::Shared(SHARED)), chain)
}

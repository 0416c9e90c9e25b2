//! Mask groups of flower.

use tidegate_classifiers::request::{FilterKey, Mode, add_filter, delete_filter, new_filter};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::explore::{explore, three, two};
use crate::specs::{With, answer, done, flower, flower_to, send};

const SHOT: Verdict = Verdict::Drop(DropReason::Filter);

/// [CC-12], [FL-2]: two filters with one new mask: one group, and packets find both. Without `is_like` in `group_of`: two, and a
/// key can be there twice.
#[test]
fn two_new_equal_masks_make_one_group() {
    explore(&["one group"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).says(Control::Shot), flower(2).says(Control::Shot));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        assert_eq!([1, 2, 3].map(|from| send(&rig.block, from, 0)), [SHOT, SHOT, Verdict::Pass]);
        let again = [1, 2].map(|n| answer(add_filter(&rig.block, &flower(n))));
        assert_eq!(again, [Err("EEXIST"); 2], "in one group no key is there twice");
        "one group"
    });
}

/// [CC-12], [FL-5], [KR-36]: the last member of a group goes while another joins, beside a group that stays: packets find the new
/// one, not the old. Without `chain.refresh` in the request's `change` they do not find it.
#[test]
fn the_last_member_of_a_group_goes_while_another_joins() {
    explore(&["joined"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower_to(9).says(Control::Shot)).unwrap();
        let old = add_filter(block, &flower(1).says(Control::Shot)).unwrap();
        let new = flower(2).says(Control::Shot);
        let answers = two(|| done(delete_filter(block, old)), || answer(add_filter(block, &new)));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        assert_eq!((rig.listing().len(), rig.live().groups), (2, 2));
        assert_eq!([1, 2].map(|from| send(&rig.block, from, 0)), [Verdict::Pass, SHOT]);
        assert_eq!(send(&rig.block, 1, 9), SHOT);
        "joined"
    });
}

/// [CC-12], [FL-4], [KR-36]: the only member is replaced by another key while a third comes with one of the two: whoever is later is
/// told that the key exists, or both are there. Without the rivals in `Roster::make_way`: nobody is told.
#[test]
fn a_key_is_free_again_when_its_filter_was_replaced() {
    explore(&["exists", "both", "deleted"], |rig| {
        let block = &rig.block;
        let old = add_filter(block, &flower(1).says(Control::Shot)).unwrap();
        let (other, again) = (flower(2).handle(1).says(Control::Shot), flower(1).handle(5).says(Control::Shot));
        let (replaced, added, deleted) = three(
            || answer(new_filter(block, &other, Mode::Replace)),
            || answer(add_filter(block, &again)),
            || done(delete_filter(block, FilterKey { protocol: 3, ..old.into() })),
        );
        assert!(matches!((replaced, deleted), (Ok(1), Ok(_))), "{replaced:?} {deleted:?}");
        let listing = rig.listing();
        let found = [1, 2].map(|from| send(&rig.block, from, 0) == SHOT);
        match (added, listing.len()) {
            (Err("EEXIST"), 0 | 1) if !found[0] => "exists",
            (Ok(_), 2) if found == [true, true] => "both",
            (Ok(_), 1) if found == [true, false] => "deleted",
            other => panic!("{other:?} {found:?}"),
        }
    });
}

/// [DV-1], [FO-13], [TX-1]: of two adds one makes a table of the group, and the other one comes into that table: packets find each
/// filter when its request has returned. With a version that counts as published before it is, in `Chain::refresh`: the
/// second one returns while the table is not in the chain's list.
#[test]
fn a_filter_in_a_table_that_another_publishes_is_seen() {
    explore(&["seen"], |rig| {
        let block = &rig.block;
        for n in 1..=8 {
            add_filter(block, &flower(n)).unwrap();
        }
        let add = |n| {
            add_filter(block, &flower(n).says(Control::Shot)).unwrap();
            send(block, n, 0)
        };
        assert_eq!(two(|| add(11), || add(12)), (SHOT, SHOT));
        "seen"
    });
}

use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{self, ActionSpec};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::support::*;

/// A filter with `actions`, one behind it; what becomes of a packet, and whether the second filter saw it.
fn run(actions: &[ActionSpec]) -> (Verdict, bool, Rig) {
    let mut rig = Rig::new(&[matchall(1, actions), matchall(2, &[gact(Control::Shot)])]);
    let verdict = rig.send(&tcp(80));
    let went_on = rig.packets(0, 2) > 0;
    (verdict, went_on, rig)
}

/// How often each action of the filter ran.
fn runs(rig: &Rig) -> Vec<u64> {
    rig.info(0, 1).actions.iter().map(|action| action.hits.packets).collect()
}

#[test]
fn ok_ends_the_list_and_passes() {
    let (verdict, went_on, rig) = run(&[gact(Control::Ok), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Pass, false));
    assert_eq!(runs(&rig), [1, 0]);
}

#[test]
fn shot_drops() {
    let (verdict, went_on, rig) = run(&[gact(Control::Shot), gact(Control::Ok)]);
    assert_eq!((verdict, went_on), (Verdict::Drop(DropReason::Filter), false));
    assert_eq!(runs(&rig), [1, 0]);
}

#[test]
fn pipe_runs_the_next_action() {
    let (verdict, went_on, rig) = run(&[gact(Control::Pipe), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Drop(DropReason::Filter), false));
    assert_eq!(runs(&rig), [1, 1]);
}

/// [DP-5]: the lower priority does not run.
#[test]
fn pipe_at_the_end_passes_and_ends_classification() {
    let (verdict, went_on, _) = run(&[gact(Control::Pipe)]);
    assert_eq!((verdict, went_on), (Verdict::Pass, false));
}

#[test]
fn stolen_consumes() {
    let (verdict, went_on, _) = run(&[gact(Control::Stolen), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Consume, false));
}

#[test]
fn queued_consumes() {
    let (verdict, went_on, _) = run(&[gact(Control::Queued), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Consume, false));
}

#[test]
fn trap_hands_the_packet_to_the_host() {
    let (verdict, went_on, _) = run(&[gact(Control::Trap), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Trap, false));
}

#[test]
fn continue_goes_on_with_the_next_priority() {
    let (verdict, went_on, rig) = run(&[gact(Control::Continue), gact(Control::Stolen)]);
    assert_eq!((verdict, went_on), (Verdict::Drop(DropReason::Filter), true));
    assert_eq!(runs(&rig), [1, 0]);
    assert_eq!(rig.packets(0, 1), 1, "the filter counts what it matched, whatever it says then");
}

#[test]
fn repeat_runs_an_action_32_times_and_passes() {
    let (verdict, went_on, rig) = run(&[gact(Control::Repeat), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Pass, false));
    assert_eq!(runs(&rig), [32, 0]);
}

/// [DP-6]
#[test]
fn reclassify_starts_again_at_chain_0() {
    let mut rig = Rig::new(&[
        matchall(1, &[gact(Control::Continue)]),
        matchall(2, &[gact(Control::Goto(5))]),
        in_chain(5, matchall(1, &[gact(Control::Reclassify)])),
    ]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Drop(DropReason::ReclassifyLoop));
    assert_eq!((rig.packets(0, 1), rig.packets(0, 2), rig.packets(5, 1)), (9, 9, 8));
}

/// [DP-7]
#[test]
fn goto_goes_on_in_the_chain() {
    let mut rig = Rig::new(&[
        matchall(1, &[gact(Control::Goto(7)), gact(Control::Shot)]),
        in_chain(7, matchall(1, &[gact(Control::Stolen)])),
    ]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Consume);
}

#[test]
fn redirect_sends_the_packet_out_of_the_port() {
    let (verdict, went_on, rig) = run(&[redirect(3), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Redirect(PortId(3)), false));
    assert_eq!(runs(&rig), [1, 0]);
}

#[test]
fn mirror_sends_a_copy_and_says_its_verdict() {
    let (verdict, _, rig) = run(&[mirror(3, Control::Pipe), mirror(4, Control::Stolen), gact(Control::Shot)]);
    assert_eq!(verdict, Verdict::Consume);
    assert_eq!(rig.world.mirrored, [PortId(3), PortId(4)]);
}

/// [AV-6]
#[test]
fn a_copy_that_was_sent_stays_sent_when_the_packet_is_dropped() {
    let (verdict, _, rig) = run(&[mirror(3, Control::Pipe), gact(Control::Shot)]);
    assert_eq!(verdict, Verdict::Drop(DropReason::Filter));
    assert_eq!(rig.world.mirrored, [PortId(3)]);
}

/// [AV-1]
#[test]
fn no_actions_at_all_pass_the_packet() {
    let (verdict, went_on, rig) = run(&[]);
    assert_eq!((verdict, went_on), (Verdict::Pass, false));
    assert_eq!(rig.packets(0, 1), 1);
}

/// [AV-2]
#[test]
fn jump_1_from_the_first_action_is_the_next_one() {
    let (verdict, _, rig) = run(&[gact(Control::Jump(1)), gact(Control::Pipe), gact(Control::Shot)]);
    assert_eq!(verdict, Verdict::Drop(DropReason::Filter));
    assert_eq!(runs(&rig), [1, 1, 1]);
}

/// [AV-2]
#[test]
fn jump_2_from_the_first_action_skips_one() {
    let (verdict, _, rig) = run(&[gact(Control::Jump(2)), gact(Control::Shot), gact(Control::Stolen)]);
    assert_eq!(verdict, Verdict::Consume);
    assert_eq!(runs(&rig), [1, 0, 1]);
}

/// [AV-2]: the number counts from the beginning of the list, not from the action that jumps.
#[test]
fn jump_is_absolute() {
    let list = [gact(Control::Pipe), gact(Control::Jump(3)), gact(Control::Shot), gact(Control::Trap)];
    let (verdict, _, rig) = run(&list);
    assert_eq!(verdict, Verdict::Trap);
    assert_eq!(runs(&rig), [1, 1, 0, 1]);
}

/// [AV-3]
#[test]
fn jump_0_and_jump_beyond_the_end_pass_the_packet() {
    for n in [0, 2, 3, 0x0fff_ffff] {
        let (verdict, went_on, rig) = run(&[gact(Control::Jump(n)), gact(Control::Shot)]);
        assert_eq!((verdict, went_on), (Verdict::Pass, false), "jump {n}");
        assert_eq!(runs(&rig), [1, 0], "jump {n}");
    }
}

/// [AV-4]
#[test]
fn a_jump_to_itself_runs_32_times_and_the_packet_passes() {
    let (verdict, went_on, rig) = run(&[gact(Control::Pipe), gact(Control::Jump(1)), gact(Control::Shot)]);
    assert_eq!((verdict, went_on), (Verdict::Pass, false));
    assert_eq!(runs(&rig), [1, 32, 0]);
}

/// [AV-4]: the budget is a list's own.
#[test]
fn each_list_may_jump_32_times() {
    let list = [gact(Control::Jump(1)), mirror(1, Control::Jump(1))];
    let mut rig = Rig::new(&[matchall(1, &list)]);
    for _ in 0..2 {
        assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
    }
    assert_eq!(rig.world.mirrored.len(), 62);
    assert_eq!(runs(&rig), [2, 62]);
}

#[test]
fn a_list_of_32_actions_runs_to_its_end() {
    let mut list = vec![gact(Control::Pipe); 31];
    list.push(gact(Control::Shot));
    let (verdict, _, rig) = run(&list);
    assert_eq!(verdict, Verdict::Drop(DropReason::Filter));
    assert_eq!(runs(&rig), [1; 32]);
    assert_eq!(request::dump(&rig.block)[0].actions.len(), 32);
}

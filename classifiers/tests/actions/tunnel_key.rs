//! tunnel_key: the tunnel of a packet beside a plain evaluator.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tidegate_classifiers::request::{ActionSpec, TunnelEnds, TunnelKey, TunnelKeySpec, VlanEdit, VlanSpec};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::frames::parts;
use crate::support::{InHand, Rig};

fn any_key() -> impl Strategy<Value = TunnelKey> {
    let ends = prop_oneof![
        any::<(u32, u32)>().prop_map(|(a, b)| TunnelEnds::V4(Ipv4Addr::from(a), Ipv4Addr::from(b))),
        any::<(u128, u128)>().prop_map(|(a, b)| TunnelEnds::V6(Ipv6Addr::from(a), Ipv6Addr::from(b))),
    ];
    (ends, any::<Option<u32>>(), any::<(u16, u8, u8)>(), any::<(bool, bool)>()).prop_map(
        |(ends, id, (dst_port, tos, ttl), (csum, nofrag))| TunnelKey { ends, id, dst_port, tos, ttl, csum, nofrag },
    )
}

/// A tunnel, none, or an edit of the frame.
fn any_step() -> impl Strategy<Value = Option<Option<TunnelKey>>> {
    prop_oneof![3 => any_key().prop_map(|key| Some(Some(key))), 1 => Just(Some(None)), 2 => Just(None)]
}

fn action(step: Option<Option<TunnelKey>>) -> ActionSpec {
    let push = VlanEdit::Push { tpid: 0x8100, id: 5, priority: 0 };
    match step {
        Some(key) => TunnelKeySpec { key, control: Control::Pipe }.into(),
        None => VlanSpec { edit: push, control: Control::Pipe }.into(),
    }
}

proptest! {
    /// [AK-TUNNEL_KEY]: what was said last counts, whatever is done to the bytes.
    #[test]
    fn the_last_tunnel_goes_with_the_packet(parts in parts(), steps in prop::collection::vec(any_step(), 0..8)) {
        let frame = parts.frame();
        let actions: Vec<_> = steps.iter().copied().map(action).collect();
        let rig = Rig::new(&actions);
        let mut in_hand = InHand::new(&frame);
        let (verdict, packet) = rig.walk(0, &mut in_hand, 1, &mut fastrand::Rng::with_seed(1));
        prop_assert_eq!(verdict, Verdict::Pass);
        let last = steps.iter().flatten().last().copied().flatten();
        prop_assert_eq!(packet.tunnel(), last.as_ref());
        let pushed = steps.iter().filter(|step| step.is_none()).count();
        prop_assert_eq!(in_hand.frame.len(), frame.len() + 4 * pushed, "and nothing is put around it");
    }
}

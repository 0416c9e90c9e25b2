//! Random requests that meet: few chains, priorities, handles, keys and indexes.

use proptest::prelude::*;
use proptest::sample::select;

use tidegate_classifiers::flow_key::{DST_MAC, DST_PORT, IP_PROTO, SRC_MAC};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    ActionKind, ActionSpec, ActionUse, CHAIN_MAX, ChainSpec, Cookie, DumpFilter, ETH_P_ALL, FilterKey, FilterSpec,
    FlowerSpec, GactSpec, KindName, KindSpec, MirredSpec, Mode, Random, RandomMode, Target,
};
use tidegate_classifiers::verdict::Control;

use crate::ask::{Ask, Slot};

const IPV4: u16 = 0x0800;

/// One request of any sort, to either block.
pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let of_slot = prop_oneof![4 => Just(Slot::Private), 2 => Just(Slot::Shared)].prop_flat_map(of_slot);
    let hook = (0..2_u16, any::<bool>());
    prop_oneof![
        20 => of_slot,
        2 => (actions_alone(), mode()).prop_map(|(uses, mode)| Ask::AddActions(uses, mode)),
        1 => prop::collection::vec((kind(), index()), 1..4).prop_map(Ask::DeleteActions),
        1 => (kind(), index()).prop_map(|(kind, index)| Ask::GetAction(kind, index)),
        1 => kind().prop_map(Ask::FlushActions),
        1 => (kind(), 1..4_usize).prop_map(|(kind, page)| Ask::DumpActions(kind, page)),
        2 => hook.clone().prop_map(|(port, egress)| Ask::Bind(port, egress)),
        1 => hook.prop_map(|(port, egress)| Ask::Unbind(port, egress)),
    ]
}

/// Requests for filters and chains of one block, to be made at once. Actions have automatic indexes, whose choice is a matter
/// of the moment: nobody asks for them.
pub(crate) fn ask_for_filters() -> impl Strategy<Value = Ask> {
    let slot = Slot::Private;
    let actions = prop_oneof![
        6 => Just(Vec::new()),
        2 => (0..2_u32).prop_map(|chain| vec![gact(Control::Goto(chain))]),
        1 => Just(vec![gact(Control::Pipe), ActionUse::shared(ActionKind::Mirred, 9)]), // refused, after a handle was reserved
    ];
    let kind = prop_oneof![5 => flower(), 2 => Just(KindSpec::Matchall)];
    let key = (0..2_u32, select(vec![1, 1, 1, 2]), 0..3_u32);
    let key = key.prop_map(|(chain, priority, handle)| FilterKey { handle, ..FilterKey::priority(chain, priority) });
    let protocol = select(vec![ETH_P_ALL, ETH_P_ALL, ETH_P_ALL, IPV4]);
    let spec = spec(0..2_u32, select(vec![0, 1, 1, 1, 2]), protocol, 0..3_u32, kind, actions);
    prop_oneof![
        10 => (spec, mode()).prop_map(move |(spec, mode)| Ask::NewFilter(slot, spec, mode)),
        6 => key.clone().prop_map(move |key| Ask::DeleteFilter(slot, key)),
        2 => key.prop_map(move |key| Ask::GetFilter(slot, key)),
        2 => (0..2_u32).prop_map(move |chain| Ask::DeleteFilter(slot, FilterKey::chain(chain))),
        2 => (0..2_u32, template()).prop_map(move |(index, template)| Ask::AddChain(slot, ChainSpec { index, template })),
        2 => (0..2_u32).prop_map(move |chain| Ask::DeleteChain(slot, chain)),
        1 => (0..2_u32).prop_map(move |chain| Ask::GetChain(slot, chain)),
        2 => (1..3_usize).prop_map(move |page| Ask::Dump(slot, DumpFilter::default(), page)),
        1 => (1..3_usize).prop_map(move |page| Ask::DumpChains(slot, page)),
    ]
}

/// Requests for two actions and for filters that hold them, to be made at once.
pub(crate) fn ask_for_actions() -> impl Strategy<Value = Ask> {
    let slot = Slot::Private;
    let actions = prop_oneof![
        1 => Just(Vec::new()),
        4 => verdict(Control::Ok).prop_map(|it| vec![it.numbered(1)]),
        2 => (0..2_u32).prop_map(|chain| vec![gact(Control::Goto(chain)).numbered(2)]),
        2 => verdict(Control::Ok).prop_map(|it| {
            vec![it.numbered(1), gact(Control::Ok).numbered(2), ActionUse::shared(ActionKind::Mirred, 9)]
        }), // refused
    ];
    let kind = prop_oneof![5 => flower(), 1 => Just(KindSpec::Matchall)];
    let spec = spec(Just(0), select(vec![1, 1, 2]), Just(ETH_P_ALL), 0..3_u32, kind, actions);
    let key = (select(vec![1, 1, 2]), 1..3_u32);
    let key = key.prop_map(|(priority, handle)| FilterKey { handle, ..FilterKey::priority(0, priority) });
    let one = select(vec![1, 1, 2]);
    prop_oneof![
        8 => (spec, mode()).prop_map(move |(spec, mode)| Ask::NewFilter(slot, spec, mode)),
        5 => key.prop_map(move |key| Ask::DeleteFilter(slot, key)),
        3 => (verdict(Control::Shot), one.clone(), mode())
            .prop_map(|(it, index, mode)| Ask::AddActions(vec![it.numbered(index)], mode)),
        2 => one.clone().prop_map(|index| Ask::DeleteActions(vec![(ActionKind::Gact, index)])),
        1 => Just(Ask::DeleteActions(vec![(ActionKind::Gact, 1), (ActionKind::Gact, 2)])),
        2 => one.prop_map(|index| Ask::GetAction(ActionKind::Gact, index)),
        1 => Just(Ask::FlushActions(ActionKind::Gact)),
    ]
}

/// A filter, put together.
fn spec(
    chain: impl Strategy<Value = u32>,
    priority: impl Strategy<Value = u32>,
    protocol: impl Strategy<Value = u16>,
    handle: impl Strategy<Value = u32>,
    kind: impl Strategy<Value = KindSpec>,
    actions: impl Strategy<Value = Vec<ActionUse>>,
) -> impl Strategy<Value = FilterSpec> {
    (chain, priority, protocol, handle, kind, actions, select(vec!["", "a", "b"])).prop_map(
        |(chain, priority, protocol, handle, kind, actions, name)| {
            let (actions, name) = (actions.into_iter().collect(), name.into());
            FilterSpec { options: Default::default(), chain, priority, protocol, handle, kind, actions, name }
        },
    )
}

fn of_slot(slot: Slot) -> impl Strategy<Value = Ask> {
    let chain_spec = || (chain(), template()).prop_map(|(index, template)| ChainSpec { index, template });
    prop_oneof![
        16 => (filter(), mode()).prop_map(move |(spec, mode)| Ask::NewFilter(slot, spec, mode)),
        10 => key().prop_map(move |key| Ask::DeleteFilter(slot, key)),
        2 => key().prop_map(move |key| Ask::GetFilter(slot, key)),
        1 => (only(), 0..4_usize).prop_map(move |(only, page)| Ask::Dump(slot, only, page)),
        3 => chain_spec().prop_map(move |spec| Ask::AddChain(slot, spec)),
        1 => chain_spec().prop_map(move |spec| Ask::ChangeChain(slot, spec)),
        3 => chain().prop_map(move |chain| Ask::DeleteChain(slot, chain)),
        1 => chain().prop_map(move |chain| Ask::GetChain(slot, chain)),
        1 => (1..4_usize).prop_map(move |page| Ask::DumpChains(slot, page)),
    ]
}

fn chain() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0), 6 => Just(1), 4 => Just(CHAIN_MAX), 1 => Just(CHAIN_MAX + 1)]
}

fn priority() -> impl Strategy<Value = u32> {
    select(vec![0, 0, 1, 1, 1, 1, 2, 2, 0x8000, 0x8001, 0xffff, 0x1_0000])
}

fn protocol() -> impl Strategy<Value = u16> {
    select(vec![0, 0, ETH_P_ALL, ETH_P_ALL, ETH_P_ALL, ETH_P_ALL, IPV4])
}

fn handle() -> impl Strategy<Value = u32> {
    select(vec![0, 0, 0, 1, 1, 2, 2, 3, u32::MAX])
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Add, Mode::Add, Mode::Replace, Mode::Replace, Mode::Change])
}

fn kind() -> impl Strategy<Value = ActionKind> {
    select(vec![ActionKind::Gact, ActionKind::Gact, ActionKind::Mirred])
}

/// Explicit.
fn index() -> impl Strategy<Value = u32> {
    select(vec![1, 1, 2, 2, 3, u32::MAX])
}

fn filter() -> impl Strategy<Value = FilterSpec> {
    let kind = prop_oneof![12 => flower(), 4 => Just(KindSpec::Matchall), 1 => Just(KindSpec::Unknown)];
    spec(chain(), priority(), protocol(), handle(), kind, action_list())
}

fn key() -> impl Strategy<Value = FilterKey> {
    let kind = select(vec![
        None,
        None,
        None,
        None,
        Some(KindName::Flower),
        Some(KindName::Flower),
        Some(KindName::Matchall),
        Some(KindName::Unknown),
    ]);
    let protocol = prop_oneof![3 => Just(0), 1 => protocol()];
    let place = (chain(), priority(), protocol, handle(), kind)
        .prop_map(|(chain, priority, protocol, handle, kind)| FilterKey { chain, priority, protocol, handle, kind });
    prop_oneof![8 => place, 1 => chain().prop_map(FilterKey::chain)]
}

fn only() -> impl Strategy<Value = DumpFilter> {
    (prop::option::of(chain()), priority(), protocol()).prop_map(|(chain, priority, protocol)| DumpFilter {
        chain,
        priority,
        protocol,
    })
}

/// Keys of four masks, two of them such that one is part of the other; ranges; what is refused.
fn flower() -> impl Strategy<Value = KindSpec> {
    let masks = select(vec![(0, 0), (SRC_MAC.max(), 0), (SRC_MAC.max(), 0), (0xff_0000, 0), (SRC_MAC.max(), 0xff)]);
    let range = prop_oneof![
        14 => Just(None),
        1 => Just(Some((1, 5))),
        1 => Just(Some((3, 9))),
        1 => Just(Some((5, 5))), // refused
    ];
    (masks, select(vec![0x11_2233, 0x11_2244, 0x22_2233]), range).prop_map(|((src, dst), value, range)| {
        let mut flower = FlowerSpec { dst_port_range: range, ..FlowerSpec::default() };
        for (field, mask) in [(SRC_MAC, src), (DST_MAC, dst)].into_iter().filter(|&(_, mask)| mask != 0) {
            flower.mask.set(field, mask);
            flower.value.set(field, value);
        }
        if range.is_some() {
            flower.mask.set(IP_PROTO, IP_PROTO.max());
            flower.value.set(IP_PROTO, 6);
        }
        KindSpec::Flower(Box::new(flower))
    })
}

fn template() -> impl Strategy<Value = Option<KindSpec>> {
    prop_oneof![
        8 => Just(None),
        4 => flower().prop_map(Some),
        2 => any::<bool>().prop_map(|ports| Some(wide(ports))),
        1 => Just(Some(KindSpec::Matchall)),
        1 => Just(Some(KindSpec::Unknown)),
    ]
}

/// All of the source MAC and the protocol, perhaps the destination port.
fn wide(ports: bool) -> KindSpec {
    let mut flower = FlowerSpec::default();
    for field in [SRC_MAC, IP_PROTO, DST_PORT].into_iter().take(if ports { 3 } else { 2 }) {
        flower.mask.set(field, field.max());
    }
    KindSpec::Flower(Box::new(flower))
}

fn gact(control: Control) -> ActionUse {
    ActionSpec::Gact(GactSpec { control, random: None }).into()
}

/// `gact` with one of two verdicts, and perhaps a cookie.
fn verdict(other: Control) -> impl Strategy<Value = ActionUse> {
    (any::<bool>(), cookie()).prop_map(move |(trap, cookie)| {
        let control = if trap { Control::Trap } else { other };
        ActionUse { cookie, ..gact(control) }
    })
}

fn cookie() -> impl Strategy<Value = Option<Cookie>> {
    select(vec![None, None, None, Cookie::new(b"x"), Cookie::new(b"a longer cookie.")])
}

fn any_action() -> impl Strategy<Value = ActionUse> {
    let fallback = |control| Some(Random { mode: RandomMode::Determ, control, one_in: 3 });
    let random = move |control, second| ActionSpec::Gact(GactSpec { control, random: fallback(second) }).into();
    let spec = prop_oneof![
        6 => verdict(Control::Shot),
        4 => chain().prop_map(|chain| gact(Control::Goto(chain))),
        1 => Just(random(Control::Goto(1), Control::Ok)),
        1 => Just(random(Control::Ok, Control::Goto(1))), // refused
        2 => Just(ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(PortId(1)) }).into()),
        1 => Just(ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(PortId(2)), control: Control::Pipe }).into()),
        2 => kind().prop_map(|kind| ActionUse::shared(kind, 0)),
    ];
    let index = prop_oneof![2 => Just(0), 3 => index()];
    (spec, index).prop_map(|(it, index)| it.numbered(index))
}

fn action_list() -> impl Strategy<Value = Vec<ActionUse>> {
    let length = prop_oneof![12 => 0..4_usize, 1 => 32..34_usize];
    length.prop_flat_map(|length| prop::collection::vec(any_action(), length))
}

fn actions_alone() -> impl Strategy<Value = Vec<ActionUse>> {
    prop::collection::vec(any_action(), 1..4)
}

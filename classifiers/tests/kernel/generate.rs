use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    ActionKind, ActionList, ActionSpec, ActionUse, CHAIN_MAX, ChainSpec, ETH_P_ALL, FilterKey, FilterSpec, FlowerSpec,
    FwSpec, GactSpec, KindName, KindSpec, MirredSpec, Mode, Random, RandomMode, Target, U32Key, U32Node, U32Spec,
};
use tidegate_classifiers::verdict::Control;

use crate::request::{Request, Slot};

/// What the kernel has, and what scripts use of it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) kinds: Vec<KindName>,
    pub(crate) actions: BTreeSet<ActionKind>,
}

/// A request of any sort.
pub(crate) fn request(offer: &Offer) -> BoxedStrategy<Request> {
    let slot = prop_oneof![3 => Just(Slot::Private), 1 => Just(Slot::Shared)].boxed();
    let port = 1..3_u16;
    let mut sorts = vec![
        (16, (slot.clone(), filter(offer), mode()).prop_map(|(slot, spec, mode)| new_filter(slot, spec, mode)).boxed()),
        (8, (slot.clone(), key(offer)).prop_map(|(slot, key)| Request::DeleteFilter(slot, key)).boxed()),
        (
            2,
            (slot.clone(), chain())
                .prop_map(|(slot, chain)| Request::DeleteFilter(slot, FilterKey::chain(chain)))
                .boxed(),
        ),
        (2, full_key(offer).prop_map(Request::GetFilter).boxed()),
        (3, (slot.clone(), chain_spec(offer)).prop_map(|(slot, spec)| Request::AddChain(slot, spec)).boxed()),
        (2, (slot.clone(), chain()).prop_map(|(slot, chain)| Request::DeleteChain(slot, chain)).boxed()),
        (1, chain().prop_map(Request::GetChain).boxed()),
        (1, port.clone().prop_map(Request::Bind).boxed()),
        (1, port.prop_map(Request::Unbind).boxed()),
        (3, slot.clone().prop_map(Request::ListFilters).boxed()),
        (2, slot.prop_map(Request::ListChains).boxed()),
    ];
    if !offer.actions.is_empty() {
        let kind = select(Vec::from_iter(offer.actions.iter().copied())).boxed();
        sorts.extend([
            (3, (alone(offer), mode_of_actions()).prop_map(|(it, mode)| Request::AddAction(it, mode)).boxed()),
            (1, vec((kind.clone(), 1..5_u32), 1..3).prop_map(Request::DeleteActions).boxed()),
            (1, kind.clone().prop_map(Request::FlushActions).boxed()),
            (2, kind.prop_map(Request::ListActions).boxed()),
        ]);
    }
    proptest::strategy::Union::new_weighted(sorts).boxed()
}

/// A u32 node that may replace another has a class: without, the kernel takes the class away, but we keep it [FO-7].
fn new_filter(slot: Slot, mut spec: FilterSpec, mode: Mode) -> Request {
    if let KindSpec::U32(U32Spec::Node(node)) = &mut spec.kind
        && mode != Mode::Add
    {
        node.class.get_or_insert(0x1_0003);
    }
    Request::NewFilter(slot, spec, mode)
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Add, Mode::Add, Mode::Add, Mode::Replace, Mode::Replace, Mode::Change])
}

/// tc sends the same for change and replace.
fn mode_of_actions() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Add, Mode::Replace])
}

fn chain() -> impl Strategy<Value = u32> + Clone {
    select(vec![0, 0, 0, 0, 5, 5, 5, 2, CHAIN_MAX, CHAIN_MAX + 1])
}

fn chain_spec(offer: &Offer) -> impl Strategy<Value = ChainSpec> + use<> {
    let mut templates = vec![None; 6];
    templates.push(Some(u32_node(1, 0xff)));
    if offer.kinds.contains(&KindName::Flower) {
        templates.extend([Some(mac_template()), Some(mac_template()), Some(KindSpec::Matchall)]);
    }
    (chain(), select(templates)).prop_map(|(index, template)| ChainSpec { index, template })
}

fn mac_template() -> KindSpec {
    let mut spec = FlowerSpec::default();
    spec.mask.set(flow_key::DST_MAC, flow_key::DST_MAC.max());
    KindSpec::Flower(Box::new(spec))
}

fn priority() -> impl Strategy<Value = u32> + Clone {
    select(vec![0, 0, 0, 1, 1, 1, 2, 2, 10, 0x7fff, 0x8000, 0x8001, 49151, 49152, 0xffff])
}

fn protocol() -> impl Strategy<Value = u16> + Clone {
    select(vec![0x0800, 0x0800, 0x0800, 0x0800, 0x86dd, ETH_P_ALL])
}

/// Handles of u32: of nothing, nodes and tables.
fn u32_handle() -> impl Strategy<Value = u32> + Clone {
    select(vec![
        0,
        0,
        0,
        0x8000_0001,
        0x8000_0800,
        0x8000_0801,
        0x8000_0fff,
        0x8010_0800,
        0x0050_0001,
        0x0050_2003,
        0x0050_0000,
        0x8000_0000,
        0x8010_0000,
        0x0000_0801,
        0x0000_0001,
    ])
}

fn small_handle() -> impl Strategy<Value = u32> + Clone {
    select(vec![0, 0, 0, 1, 1, 2, 3, 7, 0xffff_ffff])
}

fn handle_of(kind: KindName) -> BoxedStrategy<u32> {
    if kind == KindName::U32 { u32_handle().boxed() } else { small_handle().boxed() }
}

fn filter(offer: &Offer) -> BoxedStrategy<FilterSpec> {
    let offer = offer.clone();
    let kind = kind(&offer);
    (chain(), priority(), protocol(), kind)
        .prop_flat_map(move |(chain, priority, protocol, kind)| {
            let is_table = matches!(kind, KindSpec::U32(U32Spec::Table { .. }));
            let bare = is_table || kind == KindSpec::Unknown; // tc refuses the rest by itself
            let handle = match kind.name() {
                _ if is_table => select(vec![0x0050_0000, 0x0050_0000, 0x0060_0000, 0x8000_0000]).boxed(),
                KindName::Unknown => Just(0).boxed(),
                KindName::Fw => select(vec![1_u32, 1, 2, 3]).boxed(),
                kind => handle_of(kind),
            };
            let actions = if bare { Just(Vec::new()).boxed() } else { vec(action(&offer), 0..3).boxed() };
            let actions = if offer.actions.is_empty() { Just(Vec::new()).boxed() } else { actions };
            (Just((chain, priority, protocol, kind)), handle, actions)
        })
        .prop_map(|((chain, priority, protocol, kind), handle, actions)| FilterSpec {
            chain,
            priority,
            // Ports and the like need a protocol that has them; tc refuses others by itself.
            protocol: if matches!(&kind, KindSpec::Flower(spec) if needs_ip(spec)) { 0x0800 } else { protocol },
            handle,
            kind,
            actions: without_twins(actions),
            name: "".into(),
            options: Default::default(),
        })
        .boxed()
}

/// No new index twice in one filter: the kernel would wait for itself, for ever and not to be killed. It reserves the index
/// for the first action, and makes the request again until somebody is done with it. For the same reason automatic ones
/// come last.
fn without_twins(mut actions: Vec<ActionUse>) -> ActionList {
    let mut seen = BTreeSet::new();
    for it in &mut actions {
        if !seen.insert((it.kind, it.index)) {
            it.index = 0;
        }
    }
    actions.sort_by_key(|it| it.index == 0);
    actions.into_iter().collect()
}

fn needs_ip(spec: &FlowerSpec) -> bool {
    spec.mask.get(flow_key::IP_PROTO) != 0
}

fn key(offer: &Offer) -> BoxedStrategy<FilterKey> {
    let kinds = offer.kinds.clone();
    let kind = option::weighted(0.7, select([kinds, vec![KindName::Unknown]].concat()));
    let protocol = select(vec![0, 0, 0x0800, 0x0800, 0x0800, 0x86dd, ETH_P_ALL]);
    (chain(), priority(), protocol, kind)
        .prop_flat_map(|(chain, priority, protocol, kind)| {
            let handle = match kind {
                Some(KindName::Unknown) | None => Just(0).boxed(), // tc must know the kind to read the handle
                Some(kind) => handle_of(kind),
            };
            (Just((chain, priority, protocol, kind)), handle)
        })
        .prop_map(|((chain, priority, protocol, kind), handle)| FilterKey { chain, priority, protocol, handle, kind })
        .boxed()
}

/// tc insists on all of them for get.
fn full_key(offer: &Offer) -> BoxedStrategy<FilterKey> {
    let kind = select(offer.kinds.clone());
    (chain(), priority(), protocol(), kind)
        .prop_flat_map(|(chain, priority, protocol, kind)| {
            (Just((chain, priority, protocol, kind)), handle_of(kind).prop_map(|handle| handle.max(1)))
        })
        .prop_map(|((chain, priority, protocol, kind), handle)| FilterKey {
            chain,
            priority: priority.max(1), // tc wants one
            protocol,
            handle,
            kind: Some(kind),
        })
        .boxed()
}

fn kind(offer: &Offer) -> BoxedStrategy<KindSpec> {
    let mut kinds = vec![(1, Just(KindSpec::Unknown).boxed())];
    for kind in &offer.kinds {
        kinds.push(match kind {
            KindName::U32 => (6, u32_spec().boxed()),
            KindName::Flower => (6, flower().boxed()),
            KindName::Fw => (2, select(vec![u32::MAX, u32::MAX, 0xff]).prop_map(fw).boxed()),
            KindName::Matchall => (3, Just(KindSpec::Matchall).boxed()),
            KindName::Unknown => continue,
        });
    }
    proptest::strategy::Union::new_weighted(kinds).boxed()
}

fn fw(mask: u32) -> KindSpec {
    KindSpec::Fw(FwSpec { mask, indev: None })
}

fn u32_spec() -> impl Strategy<Value = KindSpec> + Clone {
    let class = select(vec![None, Some(0x1_0002)]);
    let table = select(vec![0, 0, 0, 0, 0x0050_0000, 0x0050_2000, 0x8010_0000, 0x8000_0000]);
    let link = select(vec![None, None, None, None, Some(0x0050_0000), Some(0x8000_0000), Some(0x0060_0000)]);
    let node = (0..4_u32, select(vec![0xff, 0xffff_ffff]), table, link, class).prop_map(
        |(value, mask, table, link, class)| {
            let KindSpec::U32(U32Spec::Node(node)) = u32_node(value, mask) else { unreachable!("a node") };
            KindSpec::U32(U32Spec::Node(Box::new(U32Node { table, link, class, ..*node })))
        },
    );
    let table = select(vec![1, 4, 256]).prop_map(|divisor| KindSpec::U32(U32Spec::Table { divisor }));
    prop_oneof![6 => node, 1 => table]
}

/// A u32 filter with a class, for IPv4.
pub(crate) fn u32_filter() -> FilterSpec {
    let KindSpec::U32(U32Spec::Node(node)) = u32_node(1, 0xff) else { unreachable!("a node") };
    FilterSpec {
        chain: 0,
        priority: 0,
        protocol: 0x0800,
        handle: 0,
        kind: KindSpec::U32(U32Spec::Node(Box::new(U32Node { class: Some(0x1_0002), ..*node }))),
        actions: ActionList::default(),
        name: "".into(),
        options: Default::default(),
    }
}

fn u32_node(value: u32, mask: u32) -> KindSpec {
    let key = U32Key { value, mask, offset: 12, next_header: false };
    KindSpec::U32(U32Spec::Node(Box::new(U32Node { keys: vec![key], ..U32Node::default() })))
}

fn flower() -> impl Strategy<Value = KindSpec> + Clone {
    let full = flow_key::DST_MAC.max();
    let mac = select(vec![None, Some((1, full)), Some((2, full)), Some((0x100, full & !0xff))]);
    let port = select(vec![None, None, Some((80, 0xffff)), Some((81, 0xffff)), Some((80, 0xff))]);
    let range = select(vec![None, None, None, Some((80, 90)), Some((85, 95))]);
    (mac, port, range).prop_map(|(mac, port, range)| {
        let mut spec = FlowerSpec::default();
        if let Some((value, mask)) = mac {
            spec.value.set(flow_key::DST_MAC, value);
            spec.mask.set(flow_key::DST_MAC, mask);
        }
        if let Some((value, mask)) = port {
            spec.value.set(flow_key::DST_PORT, value);
            spec.mask.set(flow_key::DST_PORT, mask);
        }
        spec.src_port_range = range;
        if port.is_some() || range.is_some() {
            spec.value.set(flow_key::IP_PROTO, 6);
            spec.mask.set(flow_key::IP_PROTO, 0xff);
        }
        KindSpec::Flower(Box::new(spec))
    })
}

fn index() -> impl Strategy<Value = u32> + Clone {
    select(vec![0, 0, 1, 2, 3, 4])
}

/// An action in a filter.
fn action(offer: &Offer) -> BoxedStrategy<ActionUse> {
    let control = select(vec![
        Control::Ok,
        Control::Pipe,
        Control::Shot,
        Control::Continue,
        Control::Reclassify,
        Control::Trap,
        Control::Jump(1),
        Control::Goto(5),
        Control::Goto(2),
        Control::Goto(CHAIN_MAX),
    ]);
    action_with(offer, control.boxed())
}

/// An action of its own.
fn alone(offer: &Offer) -> BoxedStrategy<ActionUse> {
    action_with(offer, select(vec![Control::Ok, Control::Pipe, Control::Shot, Control::Goto(5)]).boxed())
}

fn action_with(offer: &Offer, control: BoxedStrategy<Control>) -> BoxedStrategy<ActionUse> {
    let port = PortId(2);
    let mut sorts = Vec::new();
    if offer.actions.contains(&ActionKind::Mirred) {
        let mirror = control
            .clone()
            .prop_map(move |control| ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(port), control }));
        sorts.push((4, mirror.boxed()));
        sorts.push((1, Just(ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(port) })).boxed()));
    }
    if offer.actions.contains(&ActionKind::Gact) {
        let second = select(vec![None, None, None, Some(Control::Shot), Some(Control::Goto(5))]);
        let gact = (control, second).prop_map(|(control, second)| {
            let random = second.map(|control| Random { mode: RandomMode::Determ, control, one_in: 3 });
            ActionSpec::Gact(GactSpec { control, random })
        });
        sorts.push((5, gact.boxed()));
    }
    if sorts.is_empty() {
        sorts.push((1, Just(ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(port) })).boxed()));
    }
    let spec = proptest::strategy::Union::new_weighted(sorts);
    (spec, index()).prop_map(|(spec, index)| ActionUse::from(spec).numbered(index)).boxed()
}

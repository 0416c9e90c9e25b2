use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::flow_key::{self, Field};
use tidegate_classifiers::plane::{Binding, Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionKind, ActionSpec, ActionUse, ChainSpec, ETH_P_ALL, FilterKey, FilterSpec, FlowerSpec, KindName,
    KindSpec, MirredSpec, Mode, RandomMode, Target, TargetPorts, U32Node, U32Spec,
};
use tidegate_classifiers::verdict::Control;

use crate::listing;
use crate::tc::Line;

/// The shared block's index.
pub(crate) const SHARED: u32 = 7;

/// Which block a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// That of p0's ingress.
    Private,
    /// The shared one, there while p1 or p2 is bound to it.
    Shared,
}

/// A request, as data.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    NewFilter(Slot, FilterSpec, Mode),
    DeleteFilter(Slot, FilterKey),
    /// From the private block: tc knows no other.
    GetFilter(FilterKey),
    AddChain(Slot, ChainSpec),
    DeleteChain(Slot, u32),
    GetChain(u32),
    AddAction(ActionUse, Mode),
    DeleteActions(Vec<(ActionKind, u32)>),
    FlushActions(ActionKind),
    /// p1 or p2 joins the shared block.
    Bind(u16),
    Unbind(u16),
    ListFilters(Slot),
    ListChains(Slot),
    ListActions(ActionKind),
}

/// What a request says: what it lists, in lines, or the errno of the refusal.
pub(crate) type Answer = Result<Vec<String>, String>;

impl Request {
    /// What it is for tc.
    pub(crate) fn line(&self) -> Line {
        let prints = matches!(
            self,
            Request::GetFilter(_)
                | Request::GetChain(_)
                | Request::ListFilters(_)
                | Request::ListChains(_)
                | Request::ListActions(_)
        );
        Line { command: self.command(), prints }
    }

    fn command(&self) -> String {
        match self {
            Request::NewFilter(slot, spec, mode) => format!("filter {} {}", verb(*mode), filter(*slot, spec)),
            Request::DeleteFilter(slot, key) => format!("filter delete {}", filter_key(*slot, key)),
            Request::GetFilter(key) => format!("filter get {}", filter_key(Slot::Private, key)),
            Request::AddChain(slot, ChainSpec { index, template }) => {
                let template = template.as_ref().map(|kind| format!(" protocol ip {}", matches(kind, 0x0800)));
                format!("chain add {} chain {index}{}", place(*slot), template.unwrap_or_default())
            }
            Request::DeleteChain(slot, chain) => format!("chain delete {} chain {chain}", place(*slot)),
            Request::GetChain(chain) => format!("chain get {} chain {chain}", place(Slot::Private)),
            Request::AddAction(it, mode) => format!("actions {} {}", verb(*mode), action(it)),
            Request::DeleteActions(which) => {
                let each = |(kind, index): &(ActionKind, u32)| format!(" action {} index {index}", kind.as_str());
                format!("actions delete{}", which.iter().map(each).collect::<String>())
            }
            Request::FlushActions(kind) => format!("actions flush action {}", kind.as_str()),
            Request::Bind(port) => format!("qdisc add dev p{port} ingress_block {SHARED} clsact"),
            Request::Unbind(port) => format!("qdisc delete dev p{port} clsact"),
            Request::ListFilters(slot) => format!("filter show {}", place(*slot)),
            Request::ListChains(slot) => format!("chain show {}", place(*slot)),
            Request::ListActions(kind) => format!("actions show action {}", kind.as_str()),
        }
    }

    /// Whether the kernel releases something later because of it.
    pub(crate) fn releases(&self) -> bool {
        match self {
            Request::NewFilter(_, _, mode) => *mode != Mode::Add,
            Request::DeleteFilter(..) | Request::DeleteChain(..) | Request::Unbind(_) => true,
            Request::AddAction(_, mode) => *mode != Mode::Add,
            Request::DeleteActions(_) | Request::FlushActions(_) => true,
            _ => false,
        }
    }
}

/// Ours, with the hooks that the namespace has.
pub(crate) struct Ours {
    plane: Arc<Plane>,
    private: Arc<Block>,
    bindings: BTreeMap<u16, Binding>,
}

impl Ours {
    pub(crate) fn new() -> Ours {
        let plane = Plane::standalone(1);
        Ours { private: plane.private_block(), plane, bindings: BTreeMap::new() }
    }

    pub(crate) fn block(&self, slot: Slot) -> Result<Arc<Block>, RequestError> {
        match slot {
            Slot::Private => Ok(Arc::clone(&self.private)),
            Slot::Shared => self.plane.block(SHARED),
        }
    }

    pub(crate) fn run(&mut self, request: &Request) -> Answer {
        self.try_run(request).map_err(|error| error.errno().to_owned())
    }

    fn try_run(&mut self, request: &Request) -> Result<Vec<String>, RequestError> {
        let plane = &self.plane;
        let done = Vec::new();
        match request {
            Request::NewFilter(slot, spec, mode) => request::new_filter(&self.block(*slot)?, spec, *mode).map(|_| done),
            Request::DeleteFilter(slot, key) => request::delete_filter(&self.block(*slot)?, *key).map(|()| done),
            Request::GetFilter(key) => {
                request::get_filter(&self.private, *key).map(|info| vec![listing::our_filter(&info)])
            }
            Request::AddChain(slot, spec) => request::add_chain(&self.block(*slot)?, spec.clone()).map(|()| done),
            Request::DeleteChain(slot, chain) => request::delete_chain(&self.block(*slot)?, *chain).map(|()| done),
            Request::GetChain(chain) => {
                request::get_chain(&self.private, *chain).map(|it| vec![listing::our_chain(&it)])
            }
            Request::AddAction(it, mode) => request::add_actions(plane, std::slice::from_ref(it), *mode).map(|_| done),
            Request::DeleteActions(which) => request::delete_actions(plane, which).map(|()| done),
            Request::FlushActions(kind) => request::flush_actions(plane, *kind).map(|_| done),
            Request::Bind(port) => {
                let hook = Hook { port: PortId(*port), direction: Direction::Ingress };
                let binding = plane.bind(hook, SHARED, None)?;
                self.bindings.insert(*port, binding);
                Ok(done)
            }
            Request::Unbind(port) => match self.bindings.remove(port) {
                Some(_unbound) => Ok(done),
                None => Err(RequestError::Invalid("not bound")),
            },
            // By tc's rules a block that is not there lists nothing at all, or fails before the kernel is asked [RQ-11].
            Request::ListFilters(slot) => Ok(self.block(*slot).map_or(done, |block| listing::our_filters(&block))),
            Request::ListChains(slot) => Ok(self.block(*slot).map_or(done, |block| listing::our_chains(&block))),
            Request::ListActions(kind) => Ok(listing::our_actions(plane, *kind)),
        }
    }
}

fn verb(mode: Mode) -> &'static str {
    match mode {
        Mode::Add => "add",
        Mode::Replace => "replace",
        Mode::Change => "change",
    }
}

fn place(slot: Slot) -> String {
    match slot {
        Slot::Private => "dev p0 ingress".to_owned(),
        Slot::Shared => format!("block {SHARED}"),
    }
}

/// What follows the verb for a new filter.
pub(crate) fn filter(slot: Slot, spec: &FilterSpec) -> String {
    let key = FilterKey {
        chain: spec.chain,
        priority: spec.priority,
        protocol: spec.protocol,
        handle: spec.handle,
        kind: Some(spec.kind.name()),
    };
    // The mask of fw belongs to the handle, for tc.
    let handle = match &spec.kind {
        KindSpec::Fw(fw) => format!(" handle {:#x}/{:#x}", spec.handle, fw.mask),
        _ => handle(&key),
    };
    let mut text = format!("{}{handle} {}", chain_and_priority(slot, &key), matches(&spec.kind, spec.protocol));
    for it in spec.actions.iter() {
        write!(text, " {}", action(it)).unwrap();
    }
    text
}

fn filter_key(slot: Slot, key: &FilterKey) -> String {
    let mut text = format!("{}{}", chain_and_priority(slot, key), handle(key));
    if let Some(kind) = key.kind {
        write!(text, " {}", kind_word(kind)).unwrap();
    }
    text
}

fn chain_and_priority(slot: Slot, key: &FilterKey) -> String {
    let mut text = format!("{} chain {}", place(slot), key.chain);
    if key.protocol != 0 {
        write!(text, " protocol {}", protocol(key.protocol)).unwrap();
    }
    if key.priority != 0 {
        write!(text, " prio {}", key.priority).unwrap();
    }
    text
}

fn protocol(protocol: u16) -> String {
    if protocol == ETH_P_ALL { "all".to_owned() } else { format!("{protocol:#06x}") }
}

fn handle(key: &FilterKey) -> String {
    match (key.handle, key.kind) {
        (0, _) => String::new(),
        (handle, Some(KindName::U32)) => format!(" handle {}", u32_handle(handle)),
        (handle, _) => format!(" handle {handle:#x}"),
    }
}

/// table:bucket:node [HA-4].
pub(crate) fn u32_handle(handle: u32) -> String {
    format!("{:x}:{:x}:{:x}", handle >> 20, handle >> 12 & 0xff, handle & 0xfff)
}

/// The kernel has no kind of this name.
const UNKNOWN: &str = "nosuch";

fn kind_word(kind: KindName) -> &'static str {
    if kind == KindName::Unknown { UNKNOWN } else { kind.as_str() }
}

fn matches(kind: &KindSpec, protocol: u16) -> String {
    match kind {
        KindSpec::Flower(spec) => format!("flower{}", flower(spec, protocol)),
        KindSpec::Matchall => "matchall classid 1:1".to_owned(), // tc sends no options otherwise, which the kernel refuses
        KindSpec::Fw(_) => "fw classid 1:1".to_owned(),          // without options it would be the old form [FW-2]
        KindSpec::U32(U32Spec::Table { divisor }) => format!("u32 divisor {divisor}"),
        KindSpec::U32(U32Spec::Node(node)) => format!("u32{}", u32_node(node)),
        KindSpec::Unknown => UNKNOWN.to_owned(),
    }
}

fn u32_node(node: &U32Node) -> String {
    let mut text = String::new();
    if node.table != 0 {
        write!(text, " ht {}", u32_handle(node.table)).unwrap();
    }
    for key in &node.keys {
        let base = if key.next_header { "nexthdr+" } else { "" };
        write!(text, " match u32 {:#x} {:#x} at {base}{}", key.value, key.mask, key.offset).unwrap();
    }
    if let Some(link) = node.link {
        write!(text, " link {}", u32_handle(link)).unwrap();
    }
    if let Some(hash) = node.hash {
        write!(text, " hashkey mask {:#010x} at {}", hash.mask, hash.offset).unwrap();
    }
    if let Some(offset) = node.offset {
        write!(text, " offset plus {}", offset.plus).unwrap();
        if let Some(field) = offset.field {
            write!(text, " at {} mask {:04x} shift {}", field.offset, field.mask, field.shift).unwrap();
        }
    }
    if node.eat {
        text += " eat";
    }
    if let Some(class) = node.class {
        write!(text, " classid {:x}:{:x}", class >> 16, class & 0xffff).unwrap();
    }
    text
}

/// Fields with their names in tc, and how they are written.
const FIELDS: [(Field, &str, Form); 24] = [
    (flow_key::DST_MAC, "dst_mac", Form::Mac),
    (flow_key::SRC_MAC, "src_mac", Form::Mac),
    (flow_key::NUM_OF_VLANS, "num_of_vlans", Form::Bare),
    (flow_key::VLAN_ID, "vlan_id", Form::Bare),
    (flow_key::VLAN_PRIO, "vlan_prio", Form::Bare),
    (flow_key::CVLAN_ID, "cvlan_id", Form::Bare),
    (flow_key::CVLAN_PRIO, "cvlan_prio", Form::Bare),
    (flow_key::IP_PROTO, "ip_proto", Form::BareHex),
    (flow_key::IP_TOS, "ip_tos", Form::Hex),
    (flow_key::IP_TTL, "ip_ttl", Form::Hex),
    (flow_key::SRC_IP_LOW, "src_ip", Form::Address),
    (flow_key::DST_IP_LOW, "dst_ip", Form::Address),
    (flow_key::SRC_PORT, "src_port", Form::Port),
    (flow_key::DST_PORT, "dst_port", Form::Port),
    (flow_key::TCP_FLAGS, "tcp_flags", Form::Hex),
    (flow_key::ICMP_TYPE, "type", Form::Number),
    (flow_key::ICMP_CODE, "code", Form::Number),
    (flow_key::ARP_OP, "arp_op", Form::Number),
    (flow_key::ARP_SIP, "arp_sip", Form::Address4),
    (flow_key::ARP_TIP, "arp_tip", Form::Address4),
    (flow_key::ARP_SHA, "arp_sha", Form::Mac),
    (flow_key::ARP_THA, "arp_tha", Form::Mac),
    (flow_key::INDEV, "indev", Form::Interface),
    (flow_key::IP_FLAGS, "ip_flags", Form::Fragment),
];

/// How tc wants a field's value and mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Value alone, decimal.
    Bare,
    /// Value alone, hexadecimal.
    BareHex,
    /// value/mask, decimal.
    Number,
    /// value/mask, hexadecimal.
    Hex,
    /// Decimal value, hexadecimal mask.
    Port,
    Mac,
    /// IPv4 or IPv6 by the ethertype, with a prefix length.
    Address,
    Address4,
    Interface,
    Fragment,
}

/// The words after `flower`: ethertypes first, because what follows depends on them.
fn flower(spec: &FlowerSpec, protocol: u16) -> String {
    let (value, mask) = (&spec.value, &spec.mask);
    let mut text = String::new();
    let tagged = matches!(protocol, 0x8100 | 0x88a8);
    let ethertype = if tagged { value.get(flow_key::ETH_TYPE) } else { protocol.into() };
    let mut first = "vlan_ethtype";
    if mask.get(flow_key::CVLAN_TPID) != 0 && value.get(flow_key::CVLAN_TPID) != 0 {
        write!(text, " vlan_ethtype {:#06x}", value.get(flow_key::CVLAN_TPID)).unwrap();
        first = "cvlan_ethtype";
    }
    if tagged && mask.get(flow_key::ETH_TYPE) != 0 {
        write!(text, " {first} {ethertype:#06x}").unwrap();
    }
    for (field, word, form) in FIELDS {
        let (value, bits) = (value.get(field), mask.get(field));
        let v6 = form == Form::Address && ethertype == 0x86dd;
        if bits == 0 && !v6 {
            continue;
        }
        match form {
            Form::Bare => write!(text, " {word} {value}"),
            Form::BareHex => write!(text, " {word} {value:#x}"),
            Form::Number => write!(text, " {word} {value}/{bits}"),
            Form::Hex => write!(text, " {word} {value:#x}/{bits:#x}"),
            Form::Port if bits == 0xffff => write!(text, " {word} {value}"),
            Form::Port => write!(text, " {word} {value}/{bits:#x}"),
            Form::Mac => write!(text, " {word} {}/{}", mac(value), mac(bits)),
            Form::Address if v6 => match v6_prefix(spec, field) {
                Some((address, length)) => write!(text, " {word} {address}/{length}"),
                None => Ok(()),
            },
            Form::Address | Form::Address4 => {
                let address = std::net::Ipv4Addr::from(u32::try_from(value).expect("32 bits"));
                write!(text, " {word} {address}/{}", bits.count_ones())
            }
            Form::Interface => write!(text, " {word} p{}", value - 1),
            Form::Fragment => write!(text, " ip_flags {}", fragment(value, bits)),
        }
        .unwrap();
    }
    for (word, range) in [("src_port", spec.src_port_range), ("dst_port", spec.dst_port_range)] {
        if let Some((min, max)) = range {
            write!(text, " {word} {min}-{max}").unwrap();
        }
    }
    text
}

fn v6_prefix(spec: &FlowerSpec, low: Field) -> Option<(std::net::Ipv6Addr, u32)> {
    let high = if low == flow_key::SRC_IP_LOW { flow_key::SRC_IP_HIGH } else { flow_key::DST_IP_HIGH };
    let join = |key: &flow_key::FlowKey| u128::from(key.get(high)) << 64 | u128::from(key.get(low));
    let length = join(&spec.mask).count_ones();
    (length > 0).then(|| (join(&spec.value).into(), length))
}

pub(crate) fn mac(bits: u64) -> String {
    let bytes = bits.to_be_bytes();
    let words: Vec<String> = bytes[2..].iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(":")
}

fn fragment(value: u64, mask: u64) -> String {
    let word = |bit, word: &str| match (mask & bit != 0, value & bit != 0) {
        (false, _) => None,
        (true, true) => Some(word.to_owned()),
        (true, false) => Some(format!("no{word}")),
    };
    let words = [word(flow_key::IP_FLAG_FRAG, "frag"), word(flow_key::IP_FLAG_FIRST_FRAG, "firstfrag")];
    words.into_iter().flatten().collect::<Vec<_>>().join("/")
}

fn action(it: &ActionUse) -> String {
    let mut text = match *it.spec.as_ref().expect("tc must have the parameters") {
        ActionSpec::Gact(gact) => {
            let mut text = format!("action gact {}", control(gact.control));
            if let Some(random) = gact.random {
                let mode = if random.mode == RandomMode::Determ { "determ" } else { "netrand" };
                write!(text, " random {mode} {} {}", control(random.control), random.one_in).unwrap();
            }
            text
        }
        ActionSpec::Mirred(MirredSpec::Mirror { to, control: then }) => {
            format!("action mirred egress mirror dev p{} {}", port(to), control(then))
        }
        ActionSpec::Mirred(MirredSpec::Redirect { to }) => format!("action mirred egress redirect dev p{}", port(to)),
        ref other => unreachable!("no {other:?} is generated"),
    };
    if it.index != 0 {
        write!(text, " index {}", it.index).unwrap();
    }
    text
}

/// The number of the one port that is a target here.
pub(crate) fn port(to: Target) -> u16 {
    match to.ports {
        TargetPorts::One(port) => port.0,
        TargetPorts::Block(_) => unreachable!("not generated"),
    }
}

/// As tc reads and prints it.
pub(crate) fn control(control: Control) -> String {
    match control {
        Control::Ok => "pass".to_owned(),
        Control::Reclassify => "reclassify".to_owned(),
        Control::Shot => "drop".to_owned(),
        Control::Pipe => "pipe".to_owned(),
        Control::Stolen => "stolen".to_owned(),
        Control::Queued => "queued".to_owned(),
        Control::Repeat => "repeat".to_owned(),
        Control::Trap => "trap".to_owned(),
        Control::Continue => "continue".to_owned(),
        Control::Jump(count) => format!("jump {count}"),
        Control::Goto(chain) => format!("goto chain {chain}"),
    }
}

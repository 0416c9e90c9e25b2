//! Whatever filters come, change and go, by requests and by transactions: each packet meets what a walk along all of them says, with and
//! without a flow cache, and nothing is left at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::flow_key::{self as fields, FlowKey};
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::naive::Naive;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::request::{
    self, ActionSpec, ETH_P_ALL, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindSpec, MirredSpec, Mode, Target,
};
use tidegate_classifiers::transaction::Transaction;
use tidegate_classifiers::verdict::{Control, Verdict};

/// Bytes that count: what comes behind would only take time.
const LIMIT: usize = 4096;

/// Filters of each chain, one a priority.
const SLOTS: u8 = 64;

/// Chains, the first of which gotos lead away from.
const CHAINS: u8 = 2;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

#[test]
fn fuzz() {
    bolero::check!(name = "filters").with_iterations(200).for_each(|bytes: &[u8]| {
        let mut bytes = Bytes(bytes.get(..LIMIT).unwrap_or(bytes).iter());
        let mut world = World::new();
        while let Some(step) = bytes.0.next() {
            match step % 8 {
                0..=2 => world.put(&mut bytes),
                3 => world.delete(bytes.slot()),
                4 => world.begin_or_end(step / 8 % 4),
                5 => world.many(&mut bytes),
                _ => world.send(&mut bytes),
            }
        }
        world.end();
    });
}

/// Input, and zeros behind it.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// One of `choices`.
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.next()) % choices.len()]
    }

    /// Chain and priority.
    fn slot(&mut self) -> Slot {
        let byte = self.next();
        (u32::from(byte / SLOTS % CHAINS), u32::from(byte % SLOTS) + 1)
    }
}

type Slot = (u32, u32);

/// The filters by chain and priority.
type Filters = BTreeMap<Slot, FilterSpec>;

/// What runs, and what ought to.
struct World {
    plane: Arc<Plane>,
    block: Arc<Block>,
    filters: Filters,
    /// With what the filters are when it is committed.
    open: Option<(Transaction, Filters)>,
    caches: [FlowCache; 2],
}

impl World {
    fn new() -> World {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        let caches = [16, 1024].map(FlowCache::new);
        World { plane, block, filters: Filters::new(), open: None, caches }
    }

    /// Adds a filter, or puts it in the place of the one that is there.
    fn put(&mut self, bytes: &mut Bytes<'_>) {
        let slot = bytes.slot();
        let spec = filter(slot, bytes);
        if self.now().get(&slot).is_some_and(|there| mask(there) != mask(&spec)) {
            self.delete(slot); // a filter keeps its mask
        }
        match &mut self.open {
            None => _ = request::new_filter(&self.block, &spec, Mode::Replace).unwrap(),
            Some((open, _)) => _ = open.new_filter(&self.block, &spec, Mode::Replace).unwrap(),
        }
        self.now().insert(slot, spec);
    }

    fn delete(&mut self, slot: Slot) {
        if self.now().remove(&slot).is_none() {
            return;
        }
        let key = FilterKey::priority(slot.0, slot.1);
        match &mut self.open {
            None => request::delete_filter(&self.block, key).unwrap(),
            Some((open, _)) => open.delete_filter(&self.block, key).unwrap(),
        }
    }

    /// Begins a transaction, or ends the one that is open. While it is open, packets see none of it.
    fn begin_or_end(&mut self, how: u8) {
        match self.open.take() {
            None => self.open = Some((self.plane.begin(), self.filters.clone())),
            Some((open, filters)) if how > 0 => {
                open.commit().unwrap();
                self.filters = filters;
            }
            Some((open, _)) => drop(open),
        }
    }

    /// Filters alike but for an address, or the deletion of every other one.
    fn many(&mut self, bytes: &mut Bytes<'_>) {
        let (first, delete) = (bytes.next(), bytes.next() % 2 == 1);
        let like: Vec<u8> = (0..8).map(|_| bytes.next()).collect();
        for n in 0..20 {
            let place = first / SLOTS * SLOTS + (first % SLOTS + n) % SLOTS;
            if delete {
                if n % 2 == 0 {
                    self.delete(Bytes([place].iter()).slot());
                }
                continue;
            }
            let mut plan = [&[place], &like[..]].concat();
            plan[3] = plan[3].wrapping_add(n);
            self.put(&mut Bytes(plan.iter()));
        }
    }

    /// What requests see.
    fn now(&mut self) -> &mut Filters {
        match &mut self.open {
            Some((_, filters)) => filters,
            None => &mut self.filters,
        }
    }

    /// Some packets in one burst.
    fn send(&mut self, bytes: &mut Bytes<'_>) {
        let packets: Vec<Packet> = (0..1 + bytes.next() % 40).map(|_| packet(bytes)).collect();
        let filters: Vec<FilterSpec> = self.filters.values().cloned().collect();
        let mut naive = Naive::new(&filters);
        let expected: Vec<Verdict> = packets.iter().map(|packet| naive.classify(packet, 1, &mut AllPorts)).collect();
        let (generation, head) = (self.plane.generation(), self.block.head());
        let mut rng = fastrand::Rng::with_seed(1);
        let mut verdicts = |found: Vec<Found<'_>>| -> Vec<Verdict> {
            let mut cx = Context { worker: WorkerId(0), generation, now_ns: 1, rng: &mut rng, egress: &mut AllPorts };
            let each = packets.iter().zip(found);
            each.map(|(packet, found)| self.block.classify_found(&head, found, &mut packet.clone(), &mut cx)).collect()
        };
        assert_eq!(verdicts(vec![Found::default(); packets.len()]), expected, "one by one: {filters:#?}");
        let mut found = vec![Found::default(); packets.len()];
        head.find(&packets, WorkerId(0), generation, &mut found);
        assert_eq!(verdicts(found), expected, "together: {filters:#?}");
        for cache in &mut self.caches {
            let mut found = vec![Found::default(); packets.len()];
            head.find_cached(&packets, WorkerId(0), generation, &mut found, cache);
            assert_eq!(verdicts(found), expected, "by a flow cache: {filters:#?}");
        }
    }

    /// Nothing is left.
    fn end(self) {
        let World { plane, block, open, .. } = self;
        drop(open);
        assert_eq!(request::dump(&block).len(), self.filters.len());
        drop(block);
        plane.reaper().drain();
        assert_eq!(plane.live(), LiveCounts::default());
    }
}

/// A filter of few that there can be, so that they nest and meet.
fn filter((chain, priority): Slot, bytes: &mut Bytes<'_>) -> FilterSpec {
    let protocol = [ETH_P_ALL, IPV4, IPV6, IPV4][priority as usize % 4];
    let kind = bytes.next();
    let mut spec = FlowerSpec::default();
    match protocol {
        IPV4 | IPV6 => {
            let (src, dst) = (bytes.next(), bytes.next());
            for (to, choice) in [(false, src), (true, dst)] {
                let address = address(protocol, choice);
                let len = [0, 8, 15, 16, 24, 25, 31, 32, 48, 64, 96, 128][usize::from(choice / 16) % 12];
                let all = if protocol == IPV4 { 32 } else { 128 };
                let mask = if len == 0 { 0 } else { u128::MAX << (all - len.min(all)) };
                set(&mut spec.value, protocol, to, address & mask);
                set(&mut spec.mask, protocol, to, mask);
            }
            if kind & 1 == 1 {
                spec.value.set(fields::IP_PROTO, 17);
                spec.mask.set(fields::IP_PROTO, fields::IP_PROTO.max());
                let (port, width) = (u16::from(bytes.next() % 8), u16::from(bytes.next() % 4));
                match kind >> 1 & 3 {
                    0 => {}
                    1 => spec.dst_port_range = Some((port + 1, port + 2 + width)),
                    2 => spec.src_port_range = Some((port + 1, port + 2 + width)),
                    _ => {
                        spec.value.set(fields::DST_PORT, (port + 1).into());
                        spec.mask.set(fields::DST_PORT, fields::DST_PORT.max());
                    }
                }
            }
            if kind & 8 == 8 {
                spec.value.set(fields::IP_TTL, (bytes.next() % 3).into());
                spec.mask.set(fields::IP_TTL, 0x3);
            }
        }
        _ => {
            spec.value.set(fields::SRC_MAC, u64::from(bytes.next() % 4));
            spec.mask.set(fields::SRC_MAC, [0, 1, 2, 3, fields::SRC_MAC.max()][usize::from(bytes.next() % 5)]);
        }
    }
    let says = |control| ActionSpec::Gact(GactSpec { control, random: None });
    let number = u16::try_from(chain * u32::from(SLOTS) + priority).unwrap();
    let action = match bytes.next() % 8 {
        0 => says(Control::Continue),
        1 if chain == 0 => says(Control::Goto(1)),
        _ => ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(PortId(number)) }), // says which filter it was
    };
    FilterSpec {
        chain,
        priority,
        protocol,
        handle: 1,
        kind: KindSpec::Flower(Box::new(spec)),
        actions: [action].into_iter().collect(),
        name: "".into(),
        options: Default::default(),
    }
}

/// What filters have to have in common to take each other's place.
fn mask(filter: &FilterSpec) -> Option<(FlowKey, [bool; 2])> {
    match &filter.kind {
        KindSpec::Flower(spec) => {
            Some((spec.mask, [spec.src_port_range, spec.dst_port_range].map(|range| range.is_some())))
        }
        _ => None,
    }
}

/// One of a few.
fn address(protocol: u16, choice: u8) -> u128 {
    let host = u32::from_be_bytes([10, choice & 1, choice >> 1 & 1, choice >> 2 & 3]);
    if protocol == IPV4 { host.into() } else { 0x2001_0db8 << 96 | u128::from(host & 0x10000) << 48 | u128::from(host) }
}

fn set(key: &mut FlowKey, protocol: u16, to: bool, address: u128) {
    let v4 = u32::try_from(address & u128::from(u32::MAX)).unwrap();
    match (protocol == IPV4, to) {
        (true, false) => key.set_src_ipv4(v4.into()),
        (true, true) => key.set_dst_ipv4(v4.into()),
        (false, false) => key.set_src_ipv6(address.into()),
        (false, true) => key.set_dst_ipv6(address.into()),
    }
}

/// UDP, or a part of it.
fn packet(bytes: &mut Bytes<'_>) -> Packet {
    let protocol = bytes.of(&[IPV4, IPV4, IPV6, 0x0806]);
    let (source, sender, receiver, ports) = (bytes.next(), bytes.next(), bytes.next(), bytes.next());
    let mut frame = vec![0; 12];
    frame[11] = source % 4; // the source's last byte
    frame.extend(protocol.to_be_bytes());
    let (from, to) = (address(protocol, sender), address(protocol, receiver));
    match protocol {
        IPV4 => {
            let last = |address: u128| u32::try_from(address).unwrap().to_be_bytes();
            frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, source / 4 % 3, 17, 0, 0]);
            frame.extend([last(from), last(to)].concat());
        }
        _ => {
            frame.extend([0x60, 0, 0, 0, 0, 8, 17, source / 4 % 3]);
            frame.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        }
    }
    frame.extend([0, ports % 10, 0, ports / 16 % 10, 0, 8, 0, 0]);
    Packet::parse(&frame, PortId(0)).unwrap()
}

/// Every redirect works.
struct AllPorts;

impl Egress for AllPorts {
    fn frame(&self) -> &[u8] {
        &[]
    }

    fn ready(&self, _: PortId) -> bool {
        true
    }

    fn mirror(&mut self, _: PortId) -> bool {
        true
    }
}

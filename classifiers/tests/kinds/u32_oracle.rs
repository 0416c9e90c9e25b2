//! Random tables and packets: the same answers as a plain evaluator, which shares no code with u32.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{KindSpec, Mode, U32Field, U32Hash, U32Key, U32Mark, U32Node, U32Offset, U32Spec};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use super::support::{Rig, Sent, filter, node, table};

/// The tables of one priority, 800: among them, as requests made them.
#[derive(Default)]
struct Plain {
    /// Buckets by table id.
    tables: BTreeMap<u32, u32>,
    /// Nodes by handle.
    nodes: BTreeMap<u32, PlainNode>,
}

struct PlainNode {
    spec: U32Node,
    control: Option<Control>,
    runs: u64,
    hits: u64,
}

/// A packet as u32 sees it: without the outer tag.
struct View {
    header: [u8; 14],
    l3: Vec<u8>,
}

impl View {
    fn of(frame: &[u8]) -> View {
        let tagged = frame.len() >= 18 && [[0x81, 0], [0x88, 0xa8]].contains(&[frame[12], frame[13]]);
        let rest = if tagged { &frame[16..] } else { &frame[12..] };
        let mut header = [0; 14];
        header[..12].copy_from_slice(&frame[..12]);
        header[12..].copy_from_slice(&rest[..2]);
        View { header, l3: rest[2..].to_vec() }
    }

    /// `n` bytes at `at`, as a number.
    fn read(&self, at: i64, n: i64) -> Option<u64> {
        if at + n <= -14 {
            return None;
        }
        (at..at + n).try_fold(0, |number, at| {
            let byte = match at {
                0.. => *self.l3.get(usize::try_from(at).unwrap())?,
                -14..0 => self.header[usize::try_from(at + 14).unwrap()],
                _ => 0,
            };
            Some(number << 8 | u64::from(byte))
        })
    }
}

impl Plain {
    /// Nodes of a bucket, ascending.
    fn bucket(&self, table: u32, bucket: u32) -> Vec<u32> {
        let first = table << 20 | bucket << 12;
        self.nodes.range(first..=first | 0xfff).map(|(&handle, _)| handle).collect()
    }

    /// [U3-3] with a stack of what is left to do: `None` if no node decides.
    fn classify(&mut self, sent: &Sent) -> Option<Verdict> {
        enum Step {
            Try(u32, i64, i64),
            Finish(u32),
        }
        let view = View::of(&sent.frame);
        let trying = |handles: Vec<u32>, base, next| handles.into_iter().rev().map(move |h| Step::Try(h, base, next));
        let mut stack: Vec<Step> = trying(self.bucket(0x800, 0), 0, 0).collect();
        let mut depth = 0;
        while let Some(step) = stack.pop() {
            let finished = match step {
                Step::Finish(handle) => self.nodes.get_mut(&handle).unwrap(),
                Step::Try(handle, base, next) => {
                    let spec = {
                        let node = self.nodes.get_mut(&handle).unwrap();
                        node.runs += 1;
                        node.spec.clone()
                    };
                    if sent.mark & spec.mark.mask != spec.mark.value {
                        continue;
                    }
                    let mut equal = true;
                    for key in &spec.keys {
                        let at = base + i64::from(key.offset) + if key.next_header { next } else { 0 };
                        let word = view.read(at, 4)?;
                        if (word ^ u64::from(key.value)) & u64::from(key.mask) != 0 {
                            equal = false;
                            break;
                        }
                    }
                    if !equal {
                        continue;
                    }
                    let Some(link) = spec.link.filter(|&link| link != 0) else {
                        stack.push(Step::Finish(handle));
                        depth += 1; // taken back by Finish
                        continue;
                    };
                    if depth == 8 {
                        return None;
                    }
                    let divisor = self.tables[&(link >> 20)];
                    let hash = spec.hash.unwrap_or_default();
                    let mut bucket = 0;
                    if divisor > 1 {
                        let word = view.read(base + i64::from(hash.offset), 4)?;
                        let masked = word & u64::from(hash.mask);
                        bucket = if hash.mask == 0 { 0 } else { masked / (1 << hash.mask.trailing_zeros()) };
                        bucket %= u64::from(divisor);
                    }
                    let (mut to_base, mut to_next) = (base, next);
                    if let Some(offset) = spec.offset {
                        let mut distance = i64::from(offset.plus);
                        if let Some(field) = offset.field {
                            let value = view.read(base + i64::from(field.offset), 2)? & u64::from(field.mask);
                            distance += i64::try_from(value >> field.shift).unwrap();
                        }
                        to_next = (distance + 3) / 4 * 4;
                    }
                    if spec.eat {
                        to_base += to_next;
                        to_next = 0;
                    }
                    stack.push(Step::Finish(handle));
                    depth += 1;
                    let outside = to_base >= i64::try_from(view.l3.len()).unwrap();
                    if !(outside && (spec.eat || spec.offset.is_some())) {
                        let bucket = u32::try_from(bucket).unwrap();
                        stack.extend(trying(self.bucket(link >> 20, bucket), to_base, to_next));
                    }
                    continue;
                }
            };
            depth -= 1;
            let terminal = finished.control.is_some() || finished.spec.class.is_some();
            if !terminal || finished.spec.indev.is_some_and(|port| port != sent.port) {
                continue;
            }
            finished.hits += 1;
            match finished.control {
                Some(Control::Continue) => {}
                Some(Control::Shot) => return Some(Verdict::Drop(DropReason::Filter)),
                Some(Control::Stolen) => return Some(Verdict::Consume),
                _ => return Some(Verdict::Pass),
            }
        }
        None
    }

    fn links_to(&self, table: u32) -> usize {
        self.nodes.values().filter(|node| node.spec.link == Some(table << 20)).count()
    }

    fn free(&self, table: u32, bucket: u32) -> u32 {
        let handle = |node| table << 20 | bucket << 12 | node;
        (0x800..0x1000).chain(1..0x800).map(handle).find(|handle| !self.nodes.contains_key(handle)).unwrap()
    }
}

/// A request that is wanted. Tables and nodes are picked from those there are.
#[derive(Clone, Debug)]
enum Plan {
    Table { divisor: u32 },
    Node { node: NodePlan, controls: Option<Control> },
    Change { which: Index, link: Option<Option<Index>>, control: Option<Control> },
    Delete { which: Index },
    DeleteTable { which: Index },
}

#[derive(Clone, Debug)]
struct NodePlan {
    table: Index,
    bucket: u32,
    /// Where keys are, and which bits of the packet there count.
    keys: Vec<(i32, u32, bool)>,
    link: Option<Index>,
    /// The packet it is cut from.
    from: Index,
    rest: U32Node,
}

impl NodePlan {
    fn spec(&self, plain: &Plain, packets: &[Sent]) -> U32Node {
        let ids: Vec<_> = plain.tables.keys().copied().collect();
        let table = *self.table.get(&ids);
        let view = View::of(&self.from.get(packets).frame);
        let key = |&(offset, mask, next_header): &(i32, u32, bool)| {
            let value = u32::try_from(view.read(offset.into(), 4).unwrap_or(0)).unwrap();
            U32Key { value, mask, offset, next_header }
        };
        U32Node {
            table: table << 20 | (self.bucket % plain.tables[&table]) << 12,
            keys: self.keys.iter().map(key).collect(),
            link: self.link.as_ref().and_then(|link| target(plain, link)),
            ..self.rest.clone()
        }
    }
}

/// The handle of a table that is not the root.
fn target(plain: &Plain, which: &Index) -> Option<u32> {
    let ids: Vec<_> = plain.tables.keys().copied().filter(|&id| id != 0x800).collect();
    (!ids.is_empty()).then(|| *which.get(&ids) << 20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// [U3-1], [U3-2], [U3-3], [U3-4], [U3-5], [U3-8], [U3-9], [HA-4], [ST-7], [ER-34], [WK-3]
    #[test]
    fn tables_do_what_a_plain_evaluator_does(plans in vec(plan(), 1..40), packets in vec(sent(), 1..12)) {
        let rig = Rig::new();
        let mut plain = Plain::default();
        // The first node makes the priority, with its root table.
        rig.add(&node(1, U32Node::default(), &[])).unwrap();
        plain.tables.insert(0x800, 1);
        plain.nodes.insert(0x8000_0800, PlainNode { spec: U32Node::default(), control: None, runs: 0, hits: 0 });
        for plan in plans {
            step(&rig, &mut plain, &packets, plan)?;
            for sent in &packets {
                prop_assert_eq!(rig.send(sent), plain.classify(sent).unwrap_or(Verdict::Trap));
            }
            let tables = plain.tables.keys().map(|id| (id << 20, 0, 0));
            let nodes = plain.nodes.iter().map(|(&handle, node)| (handle, node.runs, node.hits));
            let mut expected: Vec<_> = tables.chain(nodes).collect();
            expected.sort_unstable();
            let listed: Vec<_> =
                rig.dump().into_iter().map(|info| (info.handle, info.runs, info.hits.packets)).collect();
            prop_assert_eq!(listed, expected);
        }
    }
}

fn step(rig: &Rig, plain: &mut Plain, packets: &[Sent], plan: Plan) -> Result<(), TestCaseError> {
    let nodes: Vec<_> = plain.nodes.keys().copied().collect();
    match plan {
        Plan::Table { divisor } => {
            let handle = rig.add(&table(1, 0, divisor)).unwrap();
            prop_assert!(plain.tables.insert(handle >> 20, divisor).is_none(), "never a duplicate");
        }
        Plan::Node { node: wanted, controls } => {
            let spec = wanted.spec(plain, packets);
            let handle = rig.add(&node(1, spec.clone(), controls.as_slice())).unwrap();
            prop_assert_eq!(handle, plain.free(spec.table >> 20, spec.table >> 12 & 0xff));
            plain.nodes.insert(handle, PlainNode { spec, control: controls, runs: 0, hits: 0 });
        }
        Plan::Change { which, link, control } => {
            let handle = *which.get(&nodes);
            let link = link.map(|link| link.as_ref().and_then(|link| target(plain, link)).unwrap_or(0));
            let wanted = U32Node { keys: vec![U32Key { mask: 1, ..U32Key::default() }], link, ..U32Node::default() };
            let kind = KindSpec::U32(U32Spec::Node(Box::new(wanted)));
            rig.request(&filter(1, handle, kind, control.as_slice()), Mode::Change).unwrap();
            let node = plain.nodes.get_mut(&handle).unwrap();
            node.spec.link = link.or(node.spec.link); // the rest stays
            node.control = control;
        }
        Plan::Delete { which } if nodes.len() > 1 => {
            let handle = *which.get(&nodes);
            rig.delete(1, handle).unwrap();
            plain.nodes.remove(&handle);
        }
        Plan::DeleteTable { which } => {
            let ids: Vec<_> = plain.tables.keys().copied().collect();
            let id = *which.get(&ids);
            let survivors = nodes.iter().filter(|&&handle| handle >> 20 != id).count();
            let error = rig.get(1, id << 20).map(|_| match (id, plain.links_to(id)) {
                (0x800, _) => Some("EINVAL"),
                (_, 0) => None,
                _ => Some("EBUSY"),
            });
            if survivors == 0 {
                return Ok(()); // the priority would go with it
            }
            prop_assert_eq!(rig.delete(1, id << 20).err().map(|error| error.errno()), error.unwrap());
            if id != 0x800 && plain.links_to(id) == 0 {
                plain.tables.remove(&id);
                plain.nodes.retain(|handle, _| handle >> 20 != id);
            }
        }
        Plan::Delete { .. } => {}
    }
    Ok(())
}

fn plan() -> impl Strategy<Value = Plan> {
    let link = prop::option::of(prop::option::weighted(0.8, any::<Index>()));
    prop_oneof![
        2 => select(vec![1_u32, 1, 4, 256]).prop_map(|divisor| Plan::Table { divisor }),
        9 => (node_plan(), control()).prop_map(|(node, controls)| Plan::Node { node, controls }),
        2 => (any::<Index>(), link, control()).prop_map(|(which, link, control)| Plan::Change { which, link, control }),
        1 => any::<Index>().prop_map(|which| Plan::Delete { which }),
        1 => any::<Index>().prop_map(|which| Plan::DeleteTable { which }),
    ]
}

fn node_plan() -> impl Strategy<Value = NodePlan> {
    let mask = select(vec![0_u32, 0xff, 0xff00_0000, 0x0f00_0f00, u32::MAX]);
    let key = (prop_oneof![4 => 0..12_i32, 1 => -18..0_i32, 1 => 12..30_i32], mask, prop::bool::weighted(0.3));
    let link = prop::option::weighted(0.5, any::<Index>());
    (any::<Index>(), 0..256_u32, vec(key, 0..3), link, any::<Index>(), rest())
        .prop_map(|(table, bucket, keys, link, from, rest)| NodePlan { table, bucket, keys, link, from, rest })
}

/// What does not need to know what is there.
fn rest() -> impl Strategy<Value = U32Node> {
    let mark = select(vec![(0, 0), (0, 0), (1, 1), (0, 1), (2, 1)]).prop_map(|(value, mask)| U32Mark { value, mask });
    let hash = (-4..12_i16, select(vec![0_u32, 0x0300_0000, 0x00ff_0000, 0x18, u32::MAX]))
        .prop_map(|(offset, mask)| U32Hash { offset, mask });
    let field = (-2..12_i16, select(vec![0x0f00_u16, 0x0003, u16::MAX]), select(vec![0_u8, 6, 8, 15]))
        .prop_map(|(offset, mask, shift)| U32Field { offset, mask, shift });
    let offset = (0..6_u16, prop::option::of(field)).prop_map(|(plus, field)| U32Offset { plus, field });
    let indev = select(vec![None, None, None, Some(PortId(1))]);
    (
        mark,
        prop::option::of(hash),
        prop::option::of(offset),
        any::<bool>(),
        indev,
        prop::option::weighted(0.2, 1..9_u32),
    )
        .prop_map(|(mark, hash, offset, eat, indev, class)| U32Node {
            mark,
            hash,
            offset,
            eat,
            indev,
            class,
            ..U32Node::default()
        })
}

fn control() -> impl Strategy<Value = Option<Control>> {
    select(vec![
        None,
        None,
        Some(Control::Continue),
        Some(Control::Continue),
        Some(Control::Shot),
        Some(Control::Stolen),
    ])
}

/// Frames of few values, tagged now and then, and often short.
fn sent() -> impl Strategy<Value = Sent> {
    let tags = select(vec![&[][..], &[], &[0x81, 0, 0, 1], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2]]);
    (vec(0..3_u8, 12), tags, vec(select(vec![0_u8, 1, 2, 4, 5]), 0..40), 0..3_u32, 0..2_u16).prop_map(
        |(addresses, tags, l3, mark, port)| Sent {
            frame: [&addresses, tags, &[0x88, 0xb5], &l3].concat(),
            mark,
            port: PortId(port),
        },
    )
}

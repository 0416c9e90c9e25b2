//! The slow, obvious answer that every fast path must agree with.
//!
//! It reads the specifications as they were given, in the order they were added, and follows the rules word by word.
//! It shares no code with the fast path. `random netrand` is not modelled: it says its first verdict. Nor are kinds of actions that have
//! oracles of their own, in tests/actions.

use crate::counters::Hits;
use crate::flow_key::{self as fields, Field};
use crate::packet::Packet;
use crate::plane::Direction;
use crate::port::{Egress, PortId};
use crate::request::{
    ActionSpec, ETH_P_ALL, FilterSpec, FlowerSpec, KindSpec, MirredSpec, RandomMode, Target, TargetPorts,
};
use crate::verdict::{Control, DropReason, Verdict};

/// An evaluator over plain filters, whose chains, priorities and protocols are all written out.
#[derive(Debug)]
pub struct Naive<'a> {
    filters: &'a [FilterSpec],
    tallies: Vec<Tally>,
}

/// What one filter and its actions did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The filter.
    pub filter: Hits,
    /// Its actions, in order.
    pub actions: Vec<Hits>,
}

/// What an action list comes to.
enum Answer {
    NotMatched,
    Decided(Verdict),
    Restart { chain: u32 },
}

/// What an action says.
enum Said {
    Control(Control),
    Decided(Verdict),
}

impl<'a> Naive<'a> {
    /// An evaluator of `filters`, in the order in which they were added.
    pub fn new(filters: &'a [FilterSpec]) -> Naive<'a> {
        let tally = |filter: &FilterSpec| Tally {
            filter: Hits::default(),
            actions: vec![Hits::default(); filter.actions.len()],
        };
        Naive { filters, tallies: filters.iter().map(tally).collect() }
    }

    /// What each filter did so far.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// What becomes of `packet` at `now_ns`.
    pub fn classify(&mut self, packet: &Packet, now_ns: u64, egress: &mut impl Egress) -> Verdict {
        let mut chain = 0;
        for _ in 0..17 {
            match self.walk(chain, packet, now_ns, egress) {
                Answer::NotMatched => return Verdict::Pass,
                Answer::Decided(verdict) => return verdict,
                Answer::Restart { chain: next } => chain = next,
            }
        }
        Verdict::Drop(DropReason::ReclassifyLoop) // the 17th restart [DP-8]
    }

    fn walk(&mut self, chain: u32, packet: &Packet, now_ns: u64, egress: &mut impl Egress) -> Answer {
        let mut members: Vec<usize> = (0..self.filters.len()).filter(|&i| self.filters[i].chain == chain).collect();
        members.sort_by_key(|&i| self.filters[i].priority); // stable: within a priority as they were added
        for proto in members.chunk_by(|&a, &b| self.filters[a].priority == self.filters[b].priority) {
            let protocol = self.filters[proto[0]].protocol;
            if protocol != ETH_P_ALL && protocol != packet.protocol() {
                continue;
            }
            let Some(found) = self.find(proto, packet) else { continue };
            match self.act(found, packet, now_ns, egress) {
                Answer::NotMatched => {}
                answer => return answer,
            }
        }
        Answer::NotMatched
    }

    /// The filter of `proto` that matches: groups in order of their first filter, then filters as they were added.
    fn find(&self, proto: &[usize], packet: &Packet) -> Option<usize> {
        let group = |i: usize| match &self.filters[i].kind {
            KindSpec::Flower(flower) => proto.iter().position(|&j| match &self.filters[j].kind {
                KindSpec::Flower(other) => look_alike(flower, other, self.filters[i].protocol),
                _ => false,
            }),
            _ => None,
        };
        let matching = proto.iter().copied().filter(|&i| match &self.filters[i].kind {
            KindSpec::Flower(flower) => matches(flower, packet),
            _ => true,
        });
        matching.min_by_key(|&i| group(i)) // the first of equals
    }

    fn act(&mut self, filter: usize, packet: &Packet, now_ns: u64, egress: &mut impl Egress) -> Answer {
        count(&mut self.tallies[filter].filter, packet, now_ns);
        let len = self.filters[filter].actions.len();
        let mut action = 0;
        let mut jumps = 0;
        while action < len {
            let mut said = self.perform(filter, action, packet, now_ns, egress);
            let mut runs = 1;
            while matches!(said, Said::Control(Control::Repeat)) && runs < 32 {
                said = self.perform(filter, action, packet, now_ns, egress);
                runs += 1;
            }
            let control = match said {
                Said::Decided(verdict) => return Answer::Decided(verdict),
                Said::Control(control) => control,
            };
            match control {
                Control::Pipe => action += 1,
                Control::Jump(n) => {
                    jumps += 1;
                    if n == 0 || n as usize > len || jumps == 32 {
                        return Answer::Decided(Verdict::Pass);
                    }
                    action = n as usize;
                }
                Control::Ok | Control::Repeat => return Answer::Decided(Verdict::Pass),
                Control::Shot => return Answer::Decided(Verdict::Drop(DropReason::Filter)),
                Control::Stolen | Control::Queued => return Answer::Decided(Verdict::Consume),
                Control::Trap => return Answer::Decided(Verdict::Trap),
                Control::Continue => return Answer::NotMatched,
                Control::Reclassify => return Answer::Restart { chain: 0 },
                Control::Goto(chain) => return Answer::Restart { chain },
            }
        }
        Answer::Decided(Verdict::Pass)
    }

    fn perform(
        &mut self,
        filter: usize,
        action: usize,
        packet: &Packet,
        now_ns: u64,
        egress: &mut impl Egress,
    ) -> Said {
        let tally = &mut self.tallies[filter].actions[action];
        count(tally, packet, now_ns);
        let spec = self.filters[filter].actions[action].spec.as_ref();
        match *spec.unwrap_or_else(|| unreachable!("no shared actions here")) {
            ActionSpec::Gact(gact) => {
                let control = match gact.random {
                    // Each run is counted, so the count says which run this is.
                    Some(random)
                        if random.mode == RandomMode::Determ
                            && tally.packets.is_multiple_of(u64::from(random.one_in.max(1))) =>
                    {
                        random.control
                    }
                    _ => gact.control,
                };
                if control == Control::Shot {
                    tally.drops += 1;
                }
                Said::Control(control)
            }
            ActionSpec::Mirred(MirredSpec::Mirror { to, control }) => {
                for port in ports(egress, to) {
                    tally.overlimits += u64::from(!send_copy(egress, to.direction, port));
                }
                Said::Control(control)
            }
            ActionSpec::Mirred(MirredSpec::Redirect { to }) => {
                let mut ports = ports(egress, to);
                let last = ports.pop();
                for port in ports {
                    tally.overlimits += u64::from(!send_copy(egress, to.direction, port));
                }
                Said::Decided(match last.filter(|port| egress.ready(*port)) {
                    Some(port) if to.direction == Direction::Egress => Verdict::Redirect(port),
                    Some(port) => Verdict::RedirectInto(port),
                    None => {
                        tally.overlimits += 1;
                        Verdict::Drop(DropReason::RedirectDown)
                    }
                })
            }
            ref other => unreachable!("no {} here", other.kind().as_str()),
        }
    }
}

fn ports(egress: &impl Egress, to: Target) -> Vec<PortId> {
    match to.ports {
        TargetPorts::One(port) => vec![port],
        TargetPorts::Block(index) => {
            let after = |port: &PortId| egress.member(index, Some(*port));
            std::iter::successors(egress.member(index, None), after).collect()
        }
    }
}

fn send_copy(egress: &mut impl Egress, direction: Direction, port: PortId) -> bool {
    egress.ready(port)
        && match direction {
            Direction::Egress => egress.mirror(port),
            Direction::Ingress => egress.mirror_into(port),
        }
}

fn count(hits: &mut Hits, packet: &Packet, now_ns: u64) {
    hits.packets += 1;
    hits.bytes += u64::from(packet.l3_len());
    hits.last_used_ns = now_ns;
}

/// Whether two filters of a proto are in one mask group.
fn look_alike(a: &FlowerSpec, b: &FlowerSpec, protocol: u16) -> bool {
    let ethertype_is_implied = ![ETH_P_ALL, 0x8100, 0x88a8].contains(&protocol);
    let same = |field: &Field| {
        (ethertype_is_implied && *field == fields::ETH_TYPE) || a.mask.get(*field) == b.mask.get(*field)
    };
    FIELDS.iter().all(same)
        && a.src_port_range.is_some() == b.src_port_range.is_some()
        && a.dst_port_range.is_some() == b.dst_port_range.is_some()
}

fn matches(flower: &FlowerSpec, packet: &Packet) -> bool {
    let equal = |field: &Field| {
        let mask = flower.mask.get(*field);
        packet.key().get(*field) & mask == flower.value.get(*field) & mask
    };
    let inside = |range: Option<(u16, u16)>, port: Field| match range {
        None => true,
        Some((min, max)) => (u64::from(min)..=u64::from(max)).contains(&packet.key().get(port)),
    };
    FIELDS.iter().all(equal)
        && inside(flower.src_port_range, fields::SRC_PORT)
        && inside(flower.dst_port_range, fields::DST_PORT)
}

const FIELDS: [Field; 29] = [
    fields::ETH_TYPE,
    fields::DST_MAC,
    fields::IP_PROTO,
    fields::IP_TOS,
    fields::SRC_MAC,
    fields::VLAN_ID,
    fields::VLAN_PRIO,
    fields::VLAN_TPID,
    fields::CVLAN_ID,
    fields::CVLAN_PRIO,
    fields::CVLAN_TPID,
    fields::SRC_IP_HIGH,
    fields::SRC_IP_LOW,
    fields::DST_IP_HIGH,
    fields::DST_IP_LOW,
    fields::SRC_PORT,
    fields::DST_PORT,
    fields::TCP_FLAGS,
    fields::IP_TTL,
    fields::IP_FLAGS,
    fields::ICMP_TYPE,
    fields::ICMP_CODE,
    fields::ARP_OP,
    fields::NUM_OF_VLANS,
    fields::INDEV,
    fields::ARP_SHA,
    fields::ARP_THA,
    fields::ARP_SIP,
    fields::ARP_TIP,
];

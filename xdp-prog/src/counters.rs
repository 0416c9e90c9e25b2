//! Frames by what became of them.

use libbpf_rs::{MapCore, MapFlags};

/// Frames since the gate was attached, by what became of them; together all that the gate saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateCounters {
    /// Sent to the socket of their queue. The kernel may still drop them there, for want of a frame or of room in the
    /// RX ring; the socket's own statistics tell.
    pub redirected: u64,
    /// Passed to the host by [`arp`](crate::PassList::arp).
    pub host_arp: u64,
    /// Passed to the host by [`nd`](crate::PassList::nd).
    pub host_nd: u64,
    /// Passed to the host by protocol, address or port.
    pub host_listed: u64,
    /// Sent to the host by the gateway through a [`HostPath`](crate::HostPath), seen again in generic mode.
    pub host_returned: u64,
    /// Came while no socket was on their queue: passed or dropped, as [`OnExit`](crate::OnExit) says.
    pub unread: u64,
}

type Field = fn(&mut GateCounters) -> &mut u64;

/// `enum gate_outcome`, in its order, which is the map's.
const OUTCOMES: [(&str, Field); 6] = [
    ("GATE_REDIRECTED", |counters| &mut counters.redirected),
    ("GATE_HOST_ARP", |counters| &mut counters.host_arp),
    ("GATE_HOST_ND", |counters| &mut counters.host_nd),
    ("GATE_HOST_LISTED", |counters| &mut counters.host_listed),
    ("GATE_HOST_RETURNED", |counters| &mut counters.host_returned),
    ("GATE_UNREAD", |counters| &mut counters.unread),
];

impl GateCounters {
    /// Sums the map over its CPUs.
    pub(crate) fn read(map: &impl MapCore) -> libbpf_rs::Result<GateCounters> {
        let mut counters = GateCounters::default();
        for (outcome, (_, field)) in (0_u32..).zip(OUTCOMES) {
            for value in map.lookup_percpu(&outcome.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default() {
                *field(&mut counters) += value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            }
        }
        Ok(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::OUTCOMES;

    #[test]
    fn outcomes_are_those_of_the_header_in_its_order() {
        let header = include_str!("gate.h");
        let (_, list) = header.split_once("enum gate_outcome {").unwrap();
        let (list, _) = list.split_once("};").unwrap();
        let named: Vec<&str> =
            list.lines().filter_map(|line| line.trim().split_once(',')).map(|(name, _)| name).collect();
        let mirrored: Vec<&str> = OUTCOMES.iter().map(|(name, _)| *name).chain(["GATE_OUTCOMES"]).collect();
        assert_eq!(named, mirrored);
    }
}

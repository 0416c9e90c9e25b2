//! What happened when: packets by the slot of time in which they were due.

use serde::{Deserialize, Serialize};

/// A slot, in ns.
const SLOT_NS: u64 = 20_000_000;

/// Slots one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    slots: Vec<Slot>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Packets sent that must arrive.
    pub(crate) sent: u32,
    /// Those that did.
    pub(crate) arrived: u32,
    /// Latency of the slowest, in ns.
    pub(crate) worst_ns: u64,
}

impl Timeline {
    /// For packets that are due within `span_ns`.
    pub(crate) fn new(span_ns: u64) -> Timeline {
        let slots = usize::try_from(span_ns / SLOT_NS + 1).unwrap_or(usize::MAX);
        Timeline { slots: vec![Slot::default(); slots] }
    }

    pub(crate) fn sent(&mut self, due_ns: u64) {
        if let Some(slot) = self.at(due_ns) {
            slot.sent += 1;
        }
    }

    pub(crate) fn arrived(&mut self, due_ns: u64, latency_ns: u64) {
        if let Some(slot) = self.at(due_ns) {
            slot.arrived += 1;
            slot.worst_ns = slot.worst_ns.max(latency_ns);
        }
    }

    /// When each slot begins, in seconds, and what was in it; slots in which nothing was due are left out.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (f64, Slot)> + Clone {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.sent > 0);
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        used.map(|(number, slot)| ((number as u64 * SLOT_NS) as f64 / 1e9, *slot))
    }

    fn at(&mut self, due_ns: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(due_ns / SLOT_NS).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_in_the_slot_in_which_it_was_due() {
        let mut timeline = Timeline::new(3 * SLOT_NS);
        [0, SLOT_NS - 1, 2 * SLOT_NS].into_iter().for_each(|due| timeline.sent(due));
        timeline.arrived(0, 7);
        timeline.arrived(2 * SLOT_NS, 5);
        timeline.arrived(99 * SLOT_NS, 5); // later than all of it: nobody's slot
        let slots: Vec<_> = timeline.slots().collect();
        assert_eq!(
            slots,
            [(0.0, Slot { sent: 2, arrived: 1, worst_ns: 7 }), (0.04, Slot { sent: 1, arrived: 1, worst_ns: 5 })]
        );
    }
}

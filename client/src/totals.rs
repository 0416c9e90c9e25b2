//! Totals: what happened to the packets of a port.

use tidegate_classifiers::verdict::DropReason;

/// Plain numbers: a sum over slots, or what a worker collects during a burst.
pub type Totals = PortCounters<u64>;

/// What happened to the packets of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(bound(deserialize = "T: serde::Deserialize<'de> + Default"))]
pub struct PortCounters<T> {
    /// Packets received here.
    pub rx_packets: T,
    /// Their bytes.
    pub rx_bytes: T,
    /// Packets received here and put on some port's TX ring, by `forward_to` or a redirect.
    pub forwarded_packets: T,
    /// Their bytes.
    pub forwarded_bytes: T,
    /// Packets received here and handed to the host's stack.
    pub passed: T,
    /// Packets received here and taken by an action.
    pub consumed: T,
    /// Packets received here and dropped, by [`DropReason::index`].
    #[serde(with = "by_name")]
    pub dropped: [T; DropReason::ALL.len()],
    /// Copies made of packets received here.
    pub mirrored: T,
    /// Copies that were wanted but not sent: no free frame, TX ring full, longer than the target's MTU allows.
    pub mirror_failed: T,
    /// Packets put on this port's TX ring: forwarded ones and copies, wherever received.
    pub tx_packets: T,
    /// Their bytes.
    pub tx_bytes: T,
    /// Packets that the kernel dropped at this port's sockets for other reasons than those below; as these, a second old at
    /// most.
    pub kernel_rx_dropped: T,
    /// Packets lost because an RX ring was full.
    pub kernel_rx_ring_full: T,
    /// Times that a fill ring was found empty.
    pub kernel_fill_ring_empty: T,
    /// Descriptors that the kernel refused.
    pub kernel_invalid: T,
}

/// Every counter of a `&PortCounters` or a `&mut PortCounters`, in one order: a counter that is forgotten here does not compile.
macro_rules! each {
    ($counters:expr) => {{
        let PortCounters {
            rx_packets,
            rx_bytes,
            forwarded_packets,
            forwarded_bytes,
            passed,
            consumed,
            dropped,
            mirrored,
            mirror_failed,
            tx_packets,
            tx_bytes,
            kernel_rx_dropped,
            kernel_rx_ring_full,
            kernel_fill_ring_empty,
            kernel_invalid,
        } = $counters;
        [rx_packets, rx_bytes, forwarded_packets, forwarded_bytes, passed, consumed]
            .into_iter()
            .chain(dropped)
            .chain([mirrored, mirror_failed, tx_packets, tx_bytes])
            .chain([kernel_rx_dropped, kernel_rx_ring_full, kernel_fill_ring_empty, kernel_invalid])
    }};
}

impl<T> PortCounters<T> {
    /// Every counter. Same order as [`Self::each_mut`].
    pub fn each(&self) -> impl Iterator<Item = &T> {
        each!(self)
    }

    /// The same, to be changed.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        each!(self)
    }
}

impl Totals {
    /// Packets dropped for any reason.
    pub fn dropped_packets(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Packets received less those whose fate was counted: received - forwarded - passed - dropped - consumed.
    /// 0 whenever the packet equation holds, as it does at any moment traffic stands still.
    pub fn balance(&self) -> i64 {
        let settled = self.forwarded_packets + self.passed + self.dropped_packets() + self.consumed;
        self.rx_packets.wrapping_sub(settled).cast_signed()
    }
}

/// Drops as `{"filter": 3, "runt": 0, ...}`.
mod by_name {
    use std::collections::BTreeMap;

    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tidegate_classifiers::verdict::DropReason;

    const REASONS: usize = DropReason::ALL.len();

    pub(super) fn serialize<T: Serialize, S: Serializer>(dropped: &[T; REASONS], to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(REASONS))?;
        for (reason, count) in DropReason::ALL.iter().zip(dropped) {
            map.serialize_entry(reason.name(), count)?;
        }
        map.end()
    }

    /// Reasons that are not named were never counted; names of another version are passed over.
    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<[T; REASONS], D::Error>
    where
        T: Deserialize<'de> + Default,
        D: Deserializer<'de>,
    {
        let mut named = BTreeMap::<String, T>::deserialize(from)?;
        Ok(DropReason::ALL.map(|reason| named.remove(reason.name()).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_is_what_the_packet_equation_misses() {
        let mut totals = Totals { rx_packets: 10, forwarded_packets: 4, passed: 3, consumed: 1, ..Totals::default() };
        totals.dropped[DropReason::Filter.index()] = 1;
        assert_eq!(totals.balance(), 1);
        totals.dropped[DropReason::Runt.index()] = 1;
        assert_eq!(totals.balance(), 0);
        totals.passed += 1;
        assert_eq!(totals.balance(), -1);
    }

    #[test]
    fn mirrored_copies_are_outside_the_equation() {
        let totals = Totals { mirrored: 5, mirror_failed: 2, tx_packets: 7, ..Totals::default() };
        assert_eq!(totals.balance(), 0);
    }

    #[test]
    fn drops_are_written_by_the_name_of_their_reason() {
        let mut totals = Totals::default();
        totals.dropped[DropReason::TxRingFull.index()] = 3;
        let json = serde_json::to_value(totals).unwrap();
        assert_eq!(json["dropped"]["tx_ring_full"], 3);
        assert_eq!(json["dropped"].as_object().unwrap().len(), DropReason::ALL.len());
        assert_eq!(serde_json::from_value::<Totals>(json).unwrap(), totals);
    }
}

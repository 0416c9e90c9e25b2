//! Outline: the bits of a key that the filters of an index look at. Packets that are alike in them have one answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;

use super::dimension::Family;
use super::rule::{Key, Mask, Term};
use super::shared::Target;
use crate::flow_key::{self as fields, WORDS};

/// What filters look at, by the family of the packet. It never changes; where there is more to look at, there is another one.
#[derive(Debug)]
pub(crate) struct Outline {
    /// No other outline of any index ever has it.
    id: u64,
    bits: [Key; Family::ALL.len()],
    terms: [Terms; Family::ALL.len()],
}

/// The words that count.
pub(super) type Terms = SmallVec<[Term; WORDS]>;

impl Target for Outline {}

impl Outline {
    /// Of no filters.
    pub(super) fn empty() -> Outline {
        Outline::of(Default::default())
    }

    fn of(bits: [Key; Family::ALL.len()]) -> Outline {
        static NEXT: AtomicU64 = AtomicU64::new(1); // not shuttle's: whose number it is does not matter
        let terms = |key: &Key| {
            let words = key.iter().enumerate().filter(|(_, mask)| **mask != 0);
            words.map(|(word, &mask)| Term { word, mask }).collect()
        };
        Outline { id: NEXT.fetch_add(1, Relaxed), terms: bits.each_ref().map(terms), bits }
    }

    /// With what filters of `mask` and of this value look at; nothing if that is nothing new.
    pub(super) fn with(&self, mask: &Mask, value: &Key) -> Option<Outline> {
        let only = Family::of_filters(mask, value);
        let mut key = *mask.key();
        for (ranged, port) in mask.shape().1.into_iter().zip([fields::SRC_PORT, fields::DST_PORT]) {
            if ranged {
                key.set(port, port.max());
            }
        }
        let mut bits = self.bits;
        for family in Family::ALL.into_iter().filter(|family| only.is_none_or(|only| only == *family)) {
            let mut key = key;
            if family != Family::Other {
                key.set(fields::ETH_TYPE, 0); // it is the family's
            }
            bits[family as usize].iter_mut().zip(key.words()).for_each(|(bits, key)| *bits |= key);
        }
        (bits != self.bits).then(|| Outline::of(bits))
    }

    #[inline]
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The bits of `key`, of a packet of `family`, that count.
    #[inline(always)]
    pub(super) fn masked(&self, family: Family, key: &Key) -> Key {
        let bits = &self.bits[family as usize];
        std::array::from_fn(|word| key[word] & bits[word])
    }

    /// What counts of a packet of `family`.
    #[inline]
    pub(super) fn terms(&self, family: Family) -> &Terms {
        &self.terms[family as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::rule::Rule;
    use crate::request::FlowerSpec;
    use crate::wire::ethertype::IPV4;

    #[test]
    fn it_grows_by_what_is_new_in_the_families_of_the_filter() {
        let with = |outline: &Outline, rule: &Rule| outline.with(rule.mask(), rule.value().words());
        let mut tcp = FlowerSpec::default();
        tcp.value.set(fields::ETH_TYPE, IPV4.into());
        tcp.mask.set(fields::ETH_TYPE, 0xffff);
        tcp.mask.set(fields::IP_PROTO, 0xff);
        let mut ranged = FlowerSpec { dst_port_range: Some((1, 2)), ..FlowerSpec::default() };
        ranged.mask.set(fields::ETH_TYPE, 0); // of any family
        let (tcp, ranged) = (Rule::new(&tcp), Rule::new(&ranged));

        let none = Outline::empty();
        let one = with(&none, &tcp).unwrap();
        assert_eq!(one.terms(Family::V4).as_slice(), [Term { word: fields::IP_PROTO.word, mask: 0xff }]);
        assert!(one.terms(Family::V6).is_empty() && one.terms(Family::Other).is_empty());
        assert!(with(&one, &tcp).is_none());

        let two = with(&one, &ranged).unwrap();
        let port = Term { word: fields::DST_PORT.word, mask: fields::DST_PORT.max() << fields::DST_PORT.shift };
        assert_eq!(two.terms(Family::V4).last(), Some(&port));
        assert_eq!(two.terms(Family::Other).as_slice(), [port]);
        assert!(none.id() != one.id() && one.id() != two.id());
        let mut packet = crate::flow_key::FlowKey::EMPTY;
        [fields::ETH_TYPE, fields::IP_PROTO, fields::DST_IP_LOW]
            .into_iter()
            .for_each(|field| packet.set(field, u64::MAX));
        let masked = one.masked(Family::V4, packet.words());
        assert_eq!((masked[fields::IP_PROTO.word], masked.iter().sum::<u64>()), (0xff, 0xff));
    }

    #[test]
    fn the_ethertype_counts_where_the_family_does_not_say_it() {
        let mut arp = FlowerSpec::default();
        arp.value.set(fields::ETH_TYPE, 0x0806);
        arp.mask.set(fields::ETH_TYPE, 0xffff);
        let arp = Rule::new(&arp);
        let outline = Outline::empty().with(arp.mask(), arp.value().words()).unwrap();
        assert_eq!(outline.terms(Family::Other).as_slice(), [Term { word: fields::ETH_TYPE.word, mask: 0xffff }]);
        assert!(outline.terms(Family::V4).is_empty());
    }
}

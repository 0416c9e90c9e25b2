//! The ledger: where every frame of a UMEM is, one byte each.

use tidegate_classifiers::port::PortId;

/// Most queues a ledger can tell apart: two places each, and two more in a byte.
pub(super) const QUEUES_MAX: usize = (256 - 2) / 2;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u8);

impl Place {
    /// On the free list.
    pub(super) const FREE: Place = Place(0);
    /// In somebody's hand, as a [`super::Frame`].
    pub(super) const HAND: Place = Place(1);

    /// On the receiving side of `port`: fill ring, driver, RX ring. Ports below [`QUEUES_MAX`].
    pub(super) const fn receiving(port: PortId) -> Place {
        Place(2 + 2 * low_byte(port))
    }

    /// On the sending side of `port`: TX ring, driver, completion ring. Ports below [`QUEUES_MAX`].
    pub(super) const fn sending(port: PortId) -> Place {
        Place(3 + 2 * low_byte(port))
    }
}

const fn low_byte(port: PortId) -> u8 {
    port.0.to_le_bytes()[0]
}

/// Where every frame is, and how many are in each place; both change in one step, so that the sum stays the total
/// (invariant 1).
#[derive(Debug)]
pub(super) struct Ledger {
    places: Box<[Place]>,
    counts: Box<[u32; 256]>,
    /// Descriptors refused, by the place that their frame should have been at.
    violations: Box<[u64; 256]>,
    chunk_shift: u32,
}

impl Ledger {
    /// A ledger of `frames` free frames, with chunks of `chunk_size` bytes: a power of two.
    pub(super) fn new(frames: u32, chunk_size: u32) -> Self {
        let mut counts = Box::new([0; 256]);
        counts[usize::from(Place::FREE.0)] = frames;
        Ledger {
            places: vec![Place::FREE; frames as usize].into(),
            counts,
            violations: Box::new([0; 256]),
            chunk_shift: chunk_size.trailing_zeros(),
        }
    }

    /// Moves the frame that `addr`, an offset into the UMEM, points into. `false` if there is no such frame or it is
    /// not at `from`: then nothing has changed but the count of violations.
    #[inline]
    pub(super) fn transfer(&mut self, addr: usize, from: Place, to: Place) -> bool {
        match self.places.get_mut(addr >> self.chunk_shift) {
            Some(place) if *place == from => {
                *place = to;
                self.counts[usize::from(from.0)] -= 1;
                self.counts[usize::from(to.0)] += 1;
                true
            }
            _ => {
                self.refuse(from);
                false
            }
        }
    }

    /// Counts a descriptor from a ring of `from` that is wrong.
    #[cold]
    pub(super) fn refuse(&mut self, from: Place) {
        self.violations[usize::from(from.0)] += 1;
    }

    /// Whether `length` bytes from `addr` on lie in one chunk, and are any.
    #[inline]
    pub(super) fn inside_chunk(&self, addr: usize, length: usize) -> bool {
        let chunk_size = 1 << self.chunk_shift;
        length > 0 && length <= chunk_size - (addr & (chunk_size - 1))
    }

    /// Number of the frame that `addr` points into.
    #[inline]
    pub(super) fn index(&self, addr: usize) -> usize {
        addr >> self.chunk_shift
    }

    /// Frames at `place`.
    #[inline]
    pub(super) fn count(&self, place: Place) -> u32 {
        self.counts[usize::from(place.0)]
    }

    /// Numbers of the frames at `place`; looks at all of them.
    pub(super) fn frames_at(&self, place: Place) -> impl Iterator<Item = usize> {
        self.places.iter().enumerate().filter(move |&(_, &at)| at == place).map(|(index, _)| index)
    }

    /// Frames on the receiving and on the sending sides of all ports.
    pub(super) fn with_the_kernel(&self) -> (u32, u32) {
        let sides = self.counts[2..].chunks_exact(2);
        sides.fold((0, 0), |(receiving, sending), side| (receiving + side[0], sending + side[1]))
    }

    /// Descriptors refused from the rings of `from`.
    pub(super) fn violations(&self, from: Place) -> u64 {
        self.violations[usize::from(from.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const FRAMES: u32 = 8;
    const CHUNK: u32 = 2048;

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![
            Just(Place::FREE),
            Just(Place::HAND),
            (0..3u16).prop_map(|port| Place::receiving(PortId(port))),
            (0..3u16).prop_map(|port| Place::sending(PortId(port))),
        ]
    }

    #[test]
    fn places_of_all_queues_differ() {
        let ports = (0..QUEUES_MAX).map(|port| PortId(u16::try_from(port).unwrap()));
        let mut places: Vec<u8> = ports.flat_map(|port| [Place::receiving(port).0, Place::sending(port).0]).collect();
        places.extend([Place::FREE.0, Place::HAND.0]);
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 2 * QUEUES_MAX + 2);
    }

    proptest! {
        /// Against a map from frame to place: right descriptors move frames, wrong ones (out of range, at another
        /// place, given twice) change nothing but the count of violations, and no frame is ever lost or doubled.
        #[test]
        fn the_ledger_agrees_with_a_map(
            moves in prop::collection::vec((0..(FRAMES + 3) * CHUNK, place(), place()), 0..400),
        ) {
            let mut ledger = Ledger::new(FRAMES, CHUNK);
            let mut model: BTreeMap<u32, Place> = (0..FRAMES).map(|frame| (frame, Place::FREE)).collect();
            let mut violations = BTreeMap::<u8, u64>::new();
            for (addr, from, to) in moves {
                let right = model.get(&(addr / CHUNK)) == Some(&from);
                prop_assert_eq!(ledger.transfer(addr as usize, from, to), right);
                if right {
                    model.insert(addr / CHUNK, to);
                } else {
                    *violations.entry(from.0).or_default() += 1;
                }
                prop_assert_eq!(ledger.violations(from), violations.get(&from.0).copied().unwrap_or(0));
                for at in model.values() {
                    let count = model.values().filter(|other| *other == at).count();
                    prop_assert_eq!(ledger.count(*at) as usize, count);
                    prop_assert_eq!(ledger.frames_at(*at).count(), count);
                }
                let (receiving, sending) = ledger.with_the_kernel();
                let here = ledger.count(Place::FREE) + ledger.count(Place::HAND);
                prop_assert_eq!(here + receiving + sending, FRAMES);
            }
        }

        /// Against the bytes themselves: first and last lie in the same chunk.
        #[test]
        fn only_what_lies_in_one_chunk_is_inside(
            addr in 0..(FRAMES * CHUNK) as usize,
            length in prop_oneof![0..4200usize, Just(u32::MAX as usize)],
        ) {
            let ledger = Ledger::new(FRAMES, CHUNK);
            let inside = length > 0 && addr / CHUNK as usize == (addr + length - 1) / CHUNK as usize;
            prop_assert_eq!(ledger.inside_chunk(addr, length), inside);
        }
    }
}

//! Packet memory: the mapping, the free list and the ledger, kept in step.

use std::error::Error;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_classifiers::port::PortId;
use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};

use super::ledger::{Ledger, Place};
use super::{Frame, RingsOptions, XskError};
use crate::rings::{BURST_MAX, Census};

/// Bytes of a huge page.
pub(super) const HUGE_PAGE: u64 = 2 << 20;

/// One UMEM. Every frame is free, in hand, or with the kernel for a port.
#[derive(Debug)]
pub(super) struct Umem {
    id: u32,
    memory: xsk_rs::Umem,
    /// Every frame as it was made: its data where a packet begins, its length 0.
    blank: Box<[FrameDesc]>,
    /// A stack: what was used last is still in the cache.
    free: Vec<FrameDesc>,
    ledger: Ledger,
    /// Where rings write the descriptors they give out.
    scratch: Box<[FrameDesc; BURST_MAX]>,
}

impl Umem {
    pub(super) fn new(options: &RingsOptions) -> Result<Umem, XskError> {
        static IDS: AtomicU32 = AtomicU32::new(0);

        let RingsOptions { chunk_size, huge_pages, ring_size, .. } = *options;
        let unfit = |_| XskError::Sizes { chunk_size, ring_size };
        let entries = |count| QueueSize::new(count).map_err(|e| unfit(e.to_string()));
        let (ring, fill) = (entries(ring_size)?, entries(2 * ring_size)?);
        let config = FrameSize::new(chunk_size).map_err(|e| unfit(e.to_string())).and_then(|size| {
            let mut config = UmemConfig::builder();
            config.frame_size(size).fill_queue_size(fill).comp_queue_size(ring);
            config.build().map_err(|e| unfit(e.to_string()))
        })?;
        if chunk_size > 4096 {
            return Err(unfit(String::new()));
        }

        // Half a huge page cannot be unmapped.
        let per_page = if huge_pages { u32::try_from(HUGE_PAGE).unwrap_or(u32::MAX) / chunk_size } else { 1 };
        let frames = options.frames.next_multiple_of(per_page);
        let count = NonZeroU32::new(frames).ok_or(XskError::Frames { frames, queues: 0 })?;
        let bytes = u64::from(frames) * u64::from(chunk_size);
        let (memory, blank) = xsk_rs::Umem::new(config, count, huge_pages)
            .map_err(|error| XskError::memory(bytes, huge_pages, os_error(&error)))?;
        Ok(Umem {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            memory,
            free: blank.clone(),
            blank: blank.into(),
            ledger: Ledger::new(frames, chunk_size),
            scratch: Box::new([FrameDesc::default(); BURST_MAX]),
        })
    }

    /// The mapping, to bind sockets to.
    pub(super) fn memory(&self) -> &xsk_rs::Umem {
        &self.memory
    }

    /// Frames in all.
    pub(super) fn frames(&self) -> u32 {
        u32::try_from(self.blank.len()).unwrap_or(u32::MAX) // it was made from a u32
    }

    /// Frames at `place`.
    #[inline]
    pub(super) fn count(&self, place: Place) -> u32 {
        self.ledger.count(place)
    }

    /// Descriptors refused from the rings of `from`.
    pub(super) fn violations(&self, from: Place) -> u64 {
        self.ledger.violations(from)
    }

    pub(super) fn census(&self) -> Census {
        let (receiving, sending) = self.ledger.with_the_kernel();
        let free = self.ledger.count(Place::FREE) as usize;
        debug_assert_eq!(free, self.free.len(), "the free list and the ledger agree");
        debug_assert_eq!(
            self.ledger.count(Place::FREE) + self.ledger.count(Place::HAND) + receiving + sending,
            self.frames(),
            "frames are conserved (invariant 1)"
        );
        Census { total: self.blank.len(), free, receiving: receiving as usize, sending: sending as usize }
    }

    #[inline]
    pub(super) fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.check(frame);
        // SAFETY: the frame is of this UMEM, its address and length were checked when the token was made
        // (`receive`) or come from this module (`write`), and while the token exists nobody else touches the chunk.
        unsafe { self.memory.data(&frame.desc) }.contents()
    }

    #[inline]
    pub(super) fn edit<T>(&mut self, frame: &mut Frame, edit: impl FnOnce(&mut [u8]) -> T) -> T {
        self.check(frame);
        // SAFETY: as in `bytes`; while the bytes are borrowed, so are the token and the whole UMEM: there is no other view of
        // this chunk.
        let mut data = unsafe { self.memory.data_mut(&mut frame.desc) };
        edit(data.contents_mut())
    }

    /// Makes the packet in `frame` `len` bytes long. `false`, and nothing is changed, if its chunk has no room for that many, or
    /// for no bytes at all: the kernel takes no such descriptor.
    pub(super) fn resize(&mut self, frame: &mut Frame, len: usize) -> bool {
        self.check(frame);
        if len == 0 || !self.ledger.inside_chunk(frame.desc.addr(), len) {
            return false;
        }
        // SAFETY: as in `edit`.
        let mut data = unsafe { self.memory.data_mut(&mut frame.desc) };
        data.cursor().set_pos(len);
        true
    }

    /// A free frame holding `bytes`; `None` if there is none, or `bytes` does not fit or is empty.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<Frame> {
        let desc = self.store(bytes)?;
        Some(self.take(desc))
    }

    /// A free frame holding the bytes of `frame`; `None` if there is none.
    pub(super) fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        let desc = self.store(self.bytes(frame))?;
        Some(self.take(desc))
    }

    #[inline]
    pub(super) fn release(&mut self, frame: Frame) {
        self.check(&frame);
        self.give_back(frame.desc, Place::HAND);
    }

    /// Makes tokens of what an RX ring gives out. `consume` writes descriptors and says how many.
    #[inline]
    pub(super) fn receive(
        &mut self,
        from: Place,
        limit: usize,
        consume: impl FnOnce(&mut [FrameDesc]) -> usize,
        mut each: impl FnMut(Frame),
    ) {
        let received = consume(&mut self.scratch[..limit.min(BURST_MAX)]);
        for place in 0..received {
            let desc = self.scratch[place];
            if !self.ledger.transfer(desc.addr(), from, Place::HAND) {
                continue;
            }
            // Multi-buffer packets were not asked for, so nothing may be continued.
            if self.ledger.inside_chunk(desc.addr(), desc.lengths().data()) && desc.options() == 0 {
                each(Frame { desc, umem: self.id });
            } else {
                self.ledger.refuse(from);
                self.give_back(desc, Place::HAND);
            }
        }
    }

    /// Notes that `frame` is on its way to a TX ring.
    #[inline]
    pub(super) fn hand_over(&mut self, frame: Frame, to: Place) -> FrameDesc {
        self.check(&frame);
        let handed = self.ledger.transfer(frame.desc.addr(), Place::HAND, to);
        debug_assert!(handed, "a token's frame is in hand");
        frame.desc
    }

    /// Frees what a completion ring gives out, all of it. `consume` writes descriptors and says how many.
    #[inline]
    pub(super) fn reap(&mut self, from: Place, mut consume: impl FnMut(&mut [FrameDesc]) -> usize) {
        loop {
            let completed = consume(&mut self.scratch[..]);
            for place in 0..completed {
                self.give_back(self.scratch[place], from);
            }
            if completed < BURST_MAX {
                return;
            }
        }
    }

    /// Lends up to `want` free frames to a fill ring. `produce` says how many it took: all or none.
    #[inline]
    pub(super) fn refill(&mut self, to: Place, want: usize, produce: impl FnOnce(&[FrameDesc]) -> usize) {
        let keep = self.free.len() - want.min(self.free.len());
        if produce(&self.free[keep..]) == 0 {
            return;
        }
        for desc in &self.free[keep..] {
            let lent = self.ledger.transfer(desc.addr(), Place::FREE, to);
            debug_assert!(lent, "what is on the free list is free");
        }
        self.free.truncate(keep);
    }

    /// Takes back every frame that the kernel held for `port`, which it must have let go of.
    pub(super) fn reclaim(&mut self, port: PortId) {
        for place in [Place::receiving(port), Place::sending(port)] {
            let frames: Vec<usize> = self.ledger.frames_at(place).collect();
            for index in frames {
                self.give_back(self.blank[index], place);
            }
        }
    }

    #[inline]
    fn give_back(&mut self, desc: FrameDesc, from: Place) {
        if self.ledger.transfer(desc.addr(), from, Place::FREE) {
            self.free.push(desc);
        }
    }

    /// Writes `bytes` into the frame on top of the free list.
    fn store(&self, bytes: &[u8]) -> Option<FrameDesc> {
        let mut desc = self.blank[self.ledger.index(self.free.last()?.addr())];
        // SAFETY: the frame is of this UMEM and on the free list, so nobody has a token or a descriptor for it; and
        // only `&mut self` methods come here, one at a time.
        let mut data = unsafe { self.memory.data_mut(&mut desc) };
        data.cursor().write_all(bytes).ok()?;
        (!bytes.is_empty()).then_some(desc)
    }

    /// The token for the frame on top of the free list, which [`Umem::store`] has just described.
    fn take(&mut self, desc: FrameDesc) -> Frame {
        self.free.pop();
        let taken = self.ledger.transfer(desc.addr(), Place::FREE, Place::HAND);
        debug_assert!(taken, "what is on the free list is free");
        Frame { desc, umem: self.id }
    }

    #[inline]
    fn check(&self, frame: &Frame) {
        assert_eq!(frame.umem, self.id, "a frame is of use only to the rings it came from");
    }
}

/// What the system said, at the root of an error of xsk-rs.
pub(super) fn os_error(error: &dyn Error) -> io::Error {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => {
            source.raw_os_error().map_or_else(|| io::Error::other(source.to_string()), io::Error::from_raw_os_error)
        }
        None => io::Error::other(error.to_string()),
    }
}

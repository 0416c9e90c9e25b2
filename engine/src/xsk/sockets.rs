//! The control side of a UMEM: its sockets are opened and closed here, beside the worker that owns the rings.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate_classifiers::port::PortId;

use super::ledger::QUEUES_MAX;
use super::queue::{Bind, Queue, SpareSocket, put_behind};
use super::{LINGER, QueueOptions, XskError, ZeroCopy};

/// How often to try a queue that may be taken by a socket of a process that has just died: the kernel releases it in a work
/// item. A second, where nothing else happens.
const ATTEMPTS: u32 = 100;

/// The same where it may be a socket that was just closed here: it is not another gateway's then. Usually the kernel has released
/// the queue by now; on a machine with six times the work that it can do, it took up to six seconds, and in two of five full test
/// runs more than thirty, which is not understood.
const ATTEMPTS_AFTER_CLOSE: u32 = 6000;

/// How long a close counts as just now.
const JUST_CLOSED: Duration = Duration::from_secs(30);

/// Opens and closes the sockets of one UMEM. A queue that is opened goes to the worker's `XskRings`, and comes back to be
/// closed.
#[derive(Debug)]
pub struct Sockets {
    memory: xsk_rs::Umem,
    bind: Bind,
    ring_size: u32,
    /// A third of the frames that each queue has.
    part: u32,
    /// Frames of the UMEM.
    frames: u32,
    open: Vec<Open>,
    /// Ports that were closed in zero-copy mode, and until when the driver may use their frames.
    resting: Vec<(PortId, Instant)>,
    memory_socket: Option<MemorySocket>,
    last_close: Option<Instant>,
    /// For the last one: made while there is the privilege to.
    spare: SpareSocket,
}

/// A socket that is open.
#[derive(Debug)]
struct Open {
    port: PortId,
    queue: u32,
    zero_copy: bool,
    /// Of our own: that of the queue is its worker's.
    socket: OwnedFd,
}

/// The socket by which others share the memory. libxdp takes the first one's descriptor for that, and keeps it open until
/// the UMEM is deleted: whatever socket of the UMEM is put behind this number does as well.
#[derive(Clone, Copy, Debug)]
struct MemorySocket {
    descriptor: RawFd,
    port: PortId,
}

impl Sockets {
    pub(super) fn new(
        memory: xsk_rs::Umem,
        bind: Bind,
        ring_size: u32,
        part: u32,
        frames: u32,
    ) -> Result<Sockets, XskError> {
        Ok(Sockets {
            memory,
            bind,
            ring_size,
            part,
            frames,
            open: Vec::new(),
            resting: Vec::new(),
            memory_socket: None,
            last_close: None,
            spare: SpareSocket::new().map_err(XskError::Descriptor)?,
        })
    }

    /// Binds a socket of this UMEM to a queue. It sees packets once the XDP program has it in its map.
    ///
    /// # Errors
    /// See [`XskError`]; nothing stays behind.
    pub fn open(&mut self, options: &QueueOptions<'_>) -> Result<Queue, XskError> {
        let port = options.port;
        if usize::from(port.0) >= QUEUES_MAX || self.open.iter().any(|open| open.port == port) {
            return Err(XskError::Port(port));
        }
        self.check_mode(options)?;
        self.check_room(port)?;
        let first = self.open.is_empty();
        if first && self.memory_socket.is_some() {
            return Err(XskError::Gone);
        }
        let ours = self.last_close.is_some_and(|closed| closed.elapsed() < JUST_CLOSED);
        let attempts = if ours { ATTEMPTS_AFTER_CLOSE } else { ATTEMPTS };
        let queue = Queue::bind(options, self.ring_size, self.part, self.bind, &self.memory, attempts)?;
        let socket = queue.fd().try_clone_to_owned().map_err(XskError::Descriptor)?;
        if first {
            self.memory_socket = Some(MemorySocket { descriptor: queue.descriptor(), port });
        }
        self.open.push(Open { port, queue: options.queue, zero_copy: queue.zero_copy(), socket });
        Ok(queue)
    }

    /// Closes the socket of a queue that the rings gave back: from now on the kernel neither receives nor sends for it. Take
    /// it off the XDP program's map before, and have the rings reclaim its frames after.
    pub fn close(&mut self, port: PortId, queue: Queue) {
        drop(queue);
        let Some(place) = self.open.iter().position(|open| open.port == port) else { return };
        let closed = self.open.remove(place);
        self.last_close = Some(Instant::now());
        if let Some(memory) = &mut self.memory_socket
            && memory.port == port
        {
            // What is there now is open until another socket takes its place, and with it the queue stays bound.
            match self.open.first() {
                Some(other) => {
                    memory.port = other.port;
                    put_behind(memory.descriptor, other.socket.as_fd());
                }
                None => put_behind(memory.descriptor, self.spare.socket()),
            }
        }
        if closed.zero_copy {
            self.resting.push((port, Instant::now() + 2 * LINGER));
        }
    }

    /// Queues that are open: port, queue, and whether the driver uses the UMEM itself.
    pub fn queues(&self) -> impl Iterator<Item = (PortId, u32, bool)> {
        self.open.iter().map(|open| (open.port, open.queue, open.zero_copy))
    }

    /// The socket of `port`, for the XDP program's map.
    pub fn socket(&self, port: PortId) -> Option<BorrowedFd<'_>> {
        self.open.iter().find(|open| open.port == port).map(|open| open.socket.as_fd())
    }

    /// The kernel has the sockets of a UMEM in one mode.
    fn check_mode(&self, options: &QueueOptions<'_>) -> Result<(), XskError> {
        let interface = || options.interface.to_owned();
        match (options.zero_copy, self.bind) {
            (ZeroCopy::Require, Bind::Copy) => Err(XskError::Copies { interface: interface() }),
            (ZeroCopy::Never, Bind::ZeroCopy) => Err(XskError::NoCopies { interface: interface() }),
            _ => Ok(()),
        }
    }

    /// Frames cannot be made later. Waits for those that a driver is about to let go of.
    fn check_room(&mut self, port: PortId) -> Result<(), XskError> {
        loop {
            let now = Instant::now();
            self.resting.retain(|(_, until)| now < *until);
            let queues = u32::try_from(self.open.len() + self.resting.len()).unwrap_or(u32::MAX);
            let (needed, rests) = (3 * self.part * (queues + 1), self.resting.iter().any(|(other, _)| *other == port));
            if needed <= self.frames && !rests {
                return Ok(());
            }
            match self.resting.iter().map(|(_, until)| *until).min() {
                Some(until) => sleep(until - now + Duration::from_millis(1)),
                None => return Err(XskError::Room { frames: self.frames, needed }),
            }
        }
    }
}

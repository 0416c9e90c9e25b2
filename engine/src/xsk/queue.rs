//! One AF_XDP socket: the four rings of a queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

use super::ledger::Place;
use super::tap::TapQueue;
use super::umem::{Umem, os_error};
use super::{Frame, QueueOptions, XskError};
use crate::rings::{Burst, KernelCounters};

/// Time between two attempts to bind to a queue that another socket has.
const ATTEMPTS_APART: Duration = Duration::from_millis(10);

/// One queue of one port, bound to a socket of its own.
#[derive(Debug)]
pub struct Queue {
    interface: String,
    id: u32,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    /// Frames that go to the TX ring at the next flush.
    unsent: Vec<FrameDesc>,
    receiving: Place,
    sending: Place,
    /// Most frames on the receiving side.
    receiving_max: u32,
    /// Most frames on the sending side: never more than a ring holds, so neither the TX nor the completion ring
    /// overflows.
    sending_max: u32,
    ring_size: u32,
    zero_copy: bool,
    tap: Option<TapQueue>,
}

/// What to ask the kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    ZeroCopy,
    Copy,
}

impl Queue {
    /// Binds a socket whose share of the frames is three times `part`, which is `ring_size` at most. A queue that another
    /// socket has is tried so often. Only the flags of the first one on a UMEM count: the kernel has the others inherit them.
    pub(super) fn bind(
        options: &QueueOptions<'_>,
        ring_size: u32,
        part: u32,
        bind: Bind,
        memory: &xsk_rs::Umem,
        mut attempts: u32,
    ) -> Result<Queue, XskError> {
        let refused = |source| XskError::bind(options, bind, source);
        let name: Interface = options.interface.parse().map_err(|_| refused(io::ErrorKind::InvalidInput.into()))?;
        let size = QueueSize::new(ring_size).map_err(|error| refused(io::Error::other(error)))?;
        let mode = match bind {
            Bind::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            Bind::Copy => BindFlags::XDP_COPY,
        };
        let config = SocketConfig::builder()
            .rx_queue_size(size)
            .tx_queue_size(size)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let (tx, rx, rings) = loop {
            // SAFETY: the socket loads no XDP program.
            match unsafe { Socket::new(config, memory, &name, options.queue) } {
                Ok(socket) => break socket,
                Err(error) => match os_error(&error) {
                    busy if busy.raw_os_error() == Some(libc::EBUSY) && attempts > 1 => {
                        attempts -= 1;
                        sleep(ATTEMPTS_APART);
                    }
                    source => return Err(refused(source)),
                },
            }
        };
        // libxdp opens sockets that children inherit, and a queue is taken for as long as a child holds its socket.
        // SAFETY: the descriptor is that of the socket, which is open.
        let _ = fcntl(unsafe { BorrowedFd::borrow_raw(rx.fd().as_raw_fd()) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        // Rings of their own come with the first socket of a UMEM on a queue.
        let (fill, completion) = rings.ok_or_else(|| refused(io::Error::from_raw_os_error(libc::EBUSY)))?;
        let zero_copy = zero_copy(rx.fd().as_raw_fd()).map_err(refused)?;
        if zero_copy != (bind == Bind::ZeroCopy) {
            return Err(refused(io::ErrorKind::Unsupported.into()));
        }
        Ok(Queue {
            interface: options.interface.to_owned(),
            id: options.queue,
            rx,
            tx,
            fill,
            completion,
            unsent: Vec::with_capacity(part as usize),
            receiving: Place::receiving(options.port),
            sending: Place::sending(options.port),
            receiving_max: 2 * part,
            sending_max: part,
            ring_size,
            zero_copy,
            tap: None,
        })
    }

    /// The interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Which queue of the interface.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The socket, for the XDP program's map.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `rx` keeps the socket, and with it the descriptor, open.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// The number of the socket's descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }

    /// Whether the driver uses the UMEM itself, in the kernel's own word (`XDP_OPTIONS`).
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// What the kernel counted, and what the ledger refused, since the socket was bound. `None` if the kernel does not
    /// say.
    pub(super) fn counters(&self, umem: &Umem) -> Option<KernelCounters> {
        let counted = self.rx.fd().xdp_statistics().ok()?;
        let refused = umem.violations(self.receiving) + umem.violations(self.sending);
        Some(KernelCounters {
            rx_dropped: counted.rx_dropped(),
            rx_ring_full: counted.rx_ring_full(),
            fill_ring_empty: counted.rx_fill_ring_empty_descs(),
            invalid: counted.rx_invalid_descs() + counted.tx_invalid_descs() + refused,
        })
    }

    /// Where [`Rings::to_host`](crate::rings::Rings::to_host) writes the packets of this port.
    pub fn set_tap(&mut self, tap: TapQueue) {
        self.tap = Some(tap);
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    #[inline]
    pub(super) fn to_host(&self, packet: &[u8]) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.send(packet))
    }

    #[inline]
    pub(super) fn receive(&mut self, umem: &mut Umem, limit: usize, burst: &mut Burst<Frame>) {
        // SAFETY: the ring is of this UMEM; what it gives out is checked before it is used.
        let consume = |descs: &mut [FrameDesc]| unsafe { self.rx.consume(descs) };
        umem.receive(self.receiving, limit, consume, |frame| burst.push(frame));
    }

    #[inline]
    pub(super) fn send(&mut self, umem: &mut Umem, frame: Frame) -> Result<(), Frame> {
        if umem.count(self.sending) >= self.sending_max {
            self.reap(umem);
            if umem.count(self.sending) >= self.sending_max {
                return Err(frame);
            }
        }
        self.unsent.push(umem.hand_over(frame, self.sending));
        Ok(())
    }

    /// Moves sent frames to the TX ring, has the kernel take them, and frees those that are complete. Says whether some
    /// are left on the TX ring that the kernel must be kicked for again.
    #[inline]
    pub(super) fn transmit(&mut self, umem: &mut Umem) -> bool {
        if umem.count(self.sending) == 0 {
            return false;
        }
        if !self.unsent.is_empty() {
            // SAFETY: the frames are of this UMEM, and their tokens were given up in `send`.
            let sent = unsafe { self.tx.produce(&self.unsent) };
            debug_assert_eq!(sent, self.unsent.len(), "no more frames are sent than the ring holds");
            if sent > 0 {
                self.unsent.clear();
            }
        }
        let backlog = self.kick();
        self.reap(umem);
        backlog
    }

    /// Has the kernel take what is on the TX ring. In copy mode it takes a few frames a kick (32 unless told otherwise),
    /// so this kicks for as long as that helps. Says whether frames are left.
    fn kick(&mut self) -> bool {
        let mut room = self.tx.nb_free_exact();
        while room < self.ring_size && self.tx.needs_wakeup() {
            // Full queues and ports that are down or gone are no errors here: what is left stays on the ring.
            let _ = self.tx.wakeup();
            let before = room;
            room = self.tx.nb_free_exact();
            if room == before {
                return true;
            }
        }
        false
    }

    fn reap(&mut self, umem: &mut Umem) {
        // SAFETY: the ring is of this UMEM; what it gives out is checked before it is used.
        umem.reap(self.sending, |descs| unsafe { self.completion.consume(descs) });
    }

    /// Whether nothing waits to be received, and all that was sent is complete.
    pub(super) fn is_idle(&mut self, umem: &Umem) -> bool {
        umem.count(self.sending) == 0 && self.rx.nb_avail_exact() == 0
    }

    /// Tops the fill ring up.
    #[inline]
    pub(super) fn refill(&mut self, umem: &mut Umem) {
        let want = self.receiving_max.saturating_sub(umem.count(self.receiving));
        if want > 0 {
            let want = want.min(self.fill.nb_free(want)) as usize;
            // SAFETY: the frames are of this UMEM, and come from its free list.
            umem.refill(self.receiving, want, |descs| unsafe { self.fill.produce(descs) });
        }
        if self.fill.needs_wakeup() {
            self.wake_receiver();
        }
    }

    /// Tells the driver that the fill ring has frames again. Copy mode never asks for that.
    fn wake_receiver(&self) {
        // SAFETY: no memory is passed.
        unsafe {
            libc::recvfrom(
                self.rx.fd().as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }
}

/// An AF_XDP socket that is bound to nothing, made while there is the privilege to.
#[derive(Debug)]
pub(super) struct SpareSocket(OwnedFd);

impl SpareSocket {
    pub(super) fn new() -> io::Result<SpareSocket> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(SpareSocket(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// It.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has the number `descriptor` stand for `socket`, and closes what it stood for.
pub(super) fn put_behind(descriptor: RawFd, socket: BorrowedFd<'_>) {
    // SAFETY: the number is libxdp's descriptor of a UMEM that is not deleted. All that libxdp does with it is to ask for the
    // rings' offsets, which are the same for every AF_XDP socket, to have other sockets share its memory, and to close it.
    unsafe { libc::dup3(socket.as_raw_fd(), descriptor, libc::O_CLOEXEC) };
}

/// Whether the kernel bound `socket` in zero-copy mode.
fn zero_copy(socket: i32) -> io::Result<bool> {
    let mut options = libc::xdp_options { flags: 0 };
    let mut length: libc::socklen_t = 4; // one number
    // SAFETY: `options` and `length` outlive the call, and the kernel writes `length` bytes, all that `options` has.
    let failed = unsafe {
        libc::getsockopt(socket, libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut length)
    };
    if failed == 0 { Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0) } else { Err(io::Error::last_os_error()) }
}

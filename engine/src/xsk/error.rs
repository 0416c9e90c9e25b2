//! Why the rings cannot be had, and what to do about it.

use std::{fs, io};

use tidegate_classifiers::port::PortId;

use super::QueueOptions;
use super::queue::Bind;
use super::umem::HUGE_PAGE;

/// Why [`super::XskRings::new`] failed.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// Sizes that AF_XDP does not have.
    #[error(
        "chunks of {chunk_size} bytes and rings of {ring_size} entries cannot be had; chunks are 2048 or 4096 bytes, \
         rings a power of two"
    )]
    Sizes {
        /// Bytes of a chunk.
        chunk_size: u32,
        /// Entries of a ring.
        ring_size: u32,
    },
    /// Not one frame for each direction of each queue.
    #[error("{frames} frames are too few for {queues} queues; leave `frames` out for as many as the rings hold")]
    Frames {
        /// Frames asked for.
        frames: u32,
        /// Queues that share them.
        queues: usize,
    },
    /// A port id above 126, or one twice.
    #[error("port {} is beyond 126, or named twice", .0.0)]
    Port(PortId),
    /// No huge pages.
    #[error(
        "no huge pages for packet memory: {wanted} of 2 MiB are needed, {free} are free; \
         `sysctl vm.nr_hugepages={wanted}` or more makes them, or set huge_pages = false"
    )]
    HugePages {
        /// Pages needed.
        wanted: u64,
        /// Pages free.
        free: u64,
    },
    /// No memory, or not allowed to lock it.
    #[error(
        "cannot make packet memory of {bytes} bytes: {source}; CAP_IPC_LOCK or a higher memlock limit may be missing"
    )]
    Memory {
        /// Bytes.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// No descriptor to be had.
    #[error("cannot open a descriptor: {0}")]
    Descriptor(io::Error),
    /// Not allowed to.
    #[error("not allowed to use AF_XDP; run as root, or with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF")]
    Privileges,
    /// No such interface in this network namespace.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// No such queue, or the kernel has no better word for its refusal.
    #[error("interface {interface} has no queue {queue} for AF_XDP; `ethtool -l {interface}` shows how many it has")]
    NoQueue {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// The queue has a socket already.
    #[error("queue {queue} of {interface} is taken by another AF_XDP socket; is another gateway running?")]
    Busy {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// No zero-copy.
    #[error(
        "{interface} refuses zero-copy on queue {queue}: {source}; the driver has none, or not for these chunks; \
         leave `mode` out to let the kernel copy"
    )]
    ZeroCopy {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Ports that cannot share packet memory.
    #[error("{required} is to be zero-copy and {forbidden} is not; ports that share packet memory go together")]
    Mixed {
        /// Interface that must be zero-copy.
        required: String,
        /// Interface that must not.
        forbidden: String,
    },
    /// A port that comes while the others have their memory without zero-copy.
    #[error("{interface} is to be zero-copy, and the ports that run are not; restart the gateway, or leave `mode` out")]
    Copies {
        /// Interface.
        interface: String,
    },
    /// The other way round.
    #[error("{interface} cannot be zero-copy, and the ports that run are; restart the gateway")]
    NoCopies {
        /// Interface.
        interface: String,
    },
    /// A port that comes while all others are gone.
    #[error("no port is left of those that packet memory was made for; restart the worker")]
    Gone,
    /// No frames for another queue.
    #[error(
        "packet memory has no room for another port: {needed} frames are needed, there are {frames}; \
         set workers.frames to {needed} or more, and restart the gateway"
    )]
    Room {
        /// Frames there are.
        frames: u32,
        /// Frames needed.
        needed: u32,
    },
    /// Anything else.
    #[error("cannot bind to queue {queue} of {interface}: {source}")]
    Bind {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
        /// What the system said.
        source: io::Error,
    },
}

impl XskError {
    /// Whether another UMEM, made for the ports that are there, would do.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, XskError::Gone | XskError::Copies { .. } | XskError::NoCopies { .. } | XskError::ZeroCopy { .. })
    }

    /// A UMEM of `bytes` was refused.
    pub(super) fn memory(bytes: u64, huge_pages: bool, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => XskError::Privileges,
            Some(libc::ENOMEM) if huge_pages => {
                XskError::HugePages { wanted: bytes.div_ceil(HUGE_PAGE), free: free_huge_pages() }
            }
            _ => XskError::Memory { bytes, source },
        }
    }

    /// A socket was refused.
    pub(super) fn bind(options: &QueueOptions<'_>, bind: Bind, source: io::Error) -> Self {
        let (interface, queue) = (options.interface.to_owned(), options.queue);
        match (source.raw_os_error(), bind) {
            (Some(libc::EBUSY), _) => XskError::Busy { interface, queue },
            (Some(libc::EPERM), _) => XskError::Privileges,
            (Some(libc::ENODEV | libc::ENXIO), _) => XskError::NoInterface(interface),
            (_, Bind::ZeroCopy) => XskError::ZeroCopy { interface, queue, source },
            (Some(libc::EINVAL), Bind::Copy) => XskError::NoQueue { interface, queue },
            (_, Bind::Copy) => XskError::Bind { interface, queue, source },
        }
    }
}

/// Huge pages of the default size that nobody uses.
fn free_huge_pages() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

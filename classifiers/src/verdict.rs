//! What becomes of a packet.

use crate::port::PortId;

/// The end of classification for one packet at one hook [DP-13].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next stage: the port's `forward_to`.
    Pass,
    /// Dropped and counted.
    Drop(DropReason),
    /// Taken by an action (`stolen`, `queued`): gone, without being a drop.
    Consume,
    /// Handed to the host's stack, whatever the port's `forward_to` says.
    Trap,
    /// Out of this port.
    Redirect(PortId),
    /// To be received by this port, as if it came in there.
    RedirectInto(PortId),
}

/// Why a packet was dropped. Every drop has exactly one, counted per worker and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// A filter's verdict was `drop`.
    Filter,
    /// More than 16 restarts by `goto` and `reclassify` [DP-8].
    ReclassifyLoop,
    /// A `goto` without a chain behind it [DP-10].
    ChainNotFound,
    /// A redirect whose target is down, without carrier, or gone.
    RedirectDown,
    /// The port that `forward_to` names is down, without carrier, or gone.
    PortDown,
    /// The transmit ring of the target was full.
    TxRingFull,
    /// Longer than the target's MTU allows.
    TooLong,
    /// The host's stack did not take it.
    HostRefused,
    /// Shorter than an Ethernet header.
    Runt,
    /// An action could not edit it: it is cut off, or its frame has no room.
    Edit,
}

impl DropReason {
    /// Every reason, in the order of [`DropReason::index`].
    pub const ALL: [DropReason; 10] = [
        DropReason::Filter,
        DropReason::ReclassifyLoop,
        DropReason::ChainNotFound,
        DropReason::RedirectDown,
        DropReason::PortDown,
        DropReason::TxRingFull,
        DropReason::TooLong,
        DropReason::HostRefused,
        DropReason::Runt,
        DropReason::Edit,
    ];

    /// Place in [`DropReason::ALL`], and in arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word for tables, JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Filter => "filter",
            DropReason::ReclassifyLoop => "reclassify_loop",
            DropReason::ChainNotFound => "chain_not_found",
            DropReason::RedirectDown => "redirect_down",
            DropReason::PortDown => "port_down",
            DropReason::TxRingFull => "tx_ring_full",
            DropReason::TooLong => "too_long",
            DropReason::HostRefused => "host_refused",
            DropReason::Runt => "runt",
            DropReason::Edit => "edit",
        }
    }
}

/// What an action says after it ran: the control verdicts of section 20.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `ok`, `pass`: stop, the packet passes.
    Ok,
    /// Restart at the hook's chain 0.
    Reclassify,
    /// `drop`, `shot`: stop, the packet is dropped.
    Shot,
    /// Next action; after the last one, the packet passes.
    Pipe,
    /// Stop, the packet is consumed.
    Stolen,
    /// Stop, the packet is consumed.
    Queued,
    /// Run this action again, at most 32 times.
    Repeat,
    /// Stop, the packet is handed to the host.
    Trap,
    /// Stop this list: not matched, on to the next filter or proto.
    Continue,
    /// Restart the list, skipping this many actions from its beginning [AV-2].
    Jump(u32),
    /// Continue with the first proto of this chain [DP-7].
    Goto(u32),
}

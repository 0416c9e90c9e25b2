//! mirred: copies, or the packet itself, to ports [AK-MIRRED].

use std::ops::ControlFlow;

use crate::classify::Walk;
use crate::counters::Counters;
use crate::plane::Direction;
use crate::port::{Egress, PortId};
use crate::verdict::{Control, DropReason, Verdict};

/// Mirror or redirect [AK-MIRRED].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirredSpec {
    /// Sends a copy, then says `control` (default `Pipe`).
    Mirror {
        /// Where the copy goes.
        to: Target,
        /// What follows.
        control: Control,
    },
    /// Gives the packet away.
    Redirect {
        /// Where it goes.
        to: Target,
    },
}

/// Where a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Out of the ports, or into them as if received there.
    pub direction: Direction,
    /// Which.
    pub ports: TargetPorts,
}

/// Which ports a packet is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPorts {
    /// This one.
    One(PortId),
    /// Every port of the shared block with this index, but for the one that received the packet.
    Block(u32),
}

impl Target {
    /// Out of `port`.
    pub const fn port(port: PortId) -> Target {
        Target { direction: Direction::Egress, ports: TargetPorts::One(port) }
    }
}

/// Sends the copies, or decides where the packet goes. What a target does not take is counted in `stats`.
#[inline]
pub(super) fn run<E: Egress>(
    spec: MirredSpec,
    stats: &Counters,
    cx: &mut Walk<'_, '_, E>,
) -> ControlFlow<Verdict, Control> {
    match spec {
        MirredSpec::Mirror { to, control } => {
            for_each_port(to, cx, |port, cx| mirror(to.direction, port, stats, cx));
            ControlFlow::Continue(control)
        }
        MirredSpec::Redirect { to } => {
            // To all but the last a copy, to the last the packet itself.
            let mut last = None;
            for_each_port(to, cx, |port, cx| {
                if let Some(before) = last.replace(port) {
                    mirror(to.direction, before, stats, cx);
                }
            });
            ControlFlow::Break(redirect(to.direction, last, stats, cx))
        }
    }
}

/// Calls `f` with every port of `to`.
#[inline]
fn for_each_port<E: Egress>(to: Target, cx: &mut Walk<'_, '_, E>, mut f: impl FnMut(PortId, &mut Walk<'_, '_, E>)) {
    match to.ports {
        TargetPorts::One(port) => f(port, cx),
        TargetPorts::Block(index) => {
            let mut next = cx.egress.member(index, None);
            while let Some(port) = next {
                f(port, cx);
                next = cx.egress.member(index, Some(port));
            }
        }
    }
}

#[inline]
fn mirror<E: Egress>(direction: Direction, port: PortId, stats: &Counters, cx: &mut Walk<'_, '_, E>) {
    let sent = cx.egress.ready(port)
        && match direction {
            Direction::Egress => cx.egress.mirror(port),
            Direction::Ingress => cx.egress.mirror_into(port),
        };
    if !sent {
        stats.overlimit_one(cx.worker);
    }
}

#[inline]
fn redirect<E: Egress>(
    direction: Direction,
    port: Option<PortId>,
    stats: &Counters,
    cx: &mut Walk<'_, '_, E>,
) -> Verdict {
    match (port.filter(|port| cx.egress.ready(*port)), direction) {
        (Some(port), Direction::Egress) => Verdict::Redirect(port),
        (Some(port), Direction::Ingress) => Verdict::RedirectInto(port),
        (None, _) => {
            stats.overlimit_one(cx.worker);
            Verdict::Drop(DropReason::RedirectDown)
        }
    }
}

//! mirred: a copy, or the packet itself, to a port [AK-MIRRED].

use std::ops::ControlFlow;

use crate::classify::Walk;
use crate::counters::Counters;
use crate::port::Egress;
use crate::request::MirredSpec;
use crate::verdict::{Control, DropReason, Verdict};

/// Sends the copy, or decides where the packet goes. What the target does not take is counted in `stats`.
#[inline]
pub(super) fn run<E: Egress>(
    spec: MirredSpec,
    stats: &Counters,
    cx: &mut Walk<'_, '_, E>,
) -> ControlFlow<Verdict, Control> {
    match spec {
        MirredSpec::Mirror { port, control } => {
            if !(cx.egress.ready(port) && cx.egress.mirror(port)) {
                stats.overlimit_one(cx.worker);
            }
            ControlFlow::Continue(control)
        }
        MirredSpec::Redirect { port } => ControlFlow::Break(if cx.egress.ready(port) {
            Verdict::Redirect(port)
        } else {
            stats.overlimit_one(cx.worker);
            Verdict::Drop(DropReason::RedirectDown)
        }),
    }
}

//! mirred: a copy, or the packet itself, to a port [AK-MIRRED].

use std::ops::ControlFlow;

use crate::classify::Context;
use crate::counters::Counters;
use crate::port::Egress;
use crate::request::MirredSpec;
use crate::verdict::{Control, DropReason, Verdict};

/// Egress mirror or redirect to a port.
#[derive(Debug)]
pub(crate) struct Mirred {
    spec: MirredSpec,
}

impl Mirred {
    pub(crate) fn new(spec: MirredSpec) -> Mirred {
        Mirred { spec }
    }

    pub(crate) fn spec(&self) -> MirredSpec {
        self.spec
    }

    /// Sends the copy, or decides where the packet goes. What the target does not take is counted in `stats`.
    #[inline]
    pub(crate) fn run<E: Egress>(&self, stats: &Counters, cx: &mut Context<'_, E>) -> ControlFlow<Verdict, Control> {
        match self.spec {
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
}

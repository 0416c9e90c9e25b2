//! ActionSpec: what an action is asked to do, whichever its kind.

use super::gact::GactSpec;
use super::mirred::{MirredSpec, TargetPorts};
use super::police::{Police, PoliceSpec};
use crate::port::PortId;
use crate::verdict::Control;

/// An action kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// A verdict.
    Gact,
    /// A copy, or the packet itself, to a port.
    Mirred,
    /// A limit to a rate.
    Police,
}

impl ActionKind {
    /// Every kind.
    pub const ALL: [ActionKind; 3] = [ActionKind::Gact, ActionKind::Mirred, ActionKind::Police];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            ActionKind::Gact => "gact",
            ActionKind::Mirred => "mirred",
            ActionKind::Police => "police",
        }
    }
}

/// An action that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionSpec {
    /// A verdict, possibly by chance.
    Gact(GactSpec),
    /// A copy or the packet itself to a port.
    Mirred(MirredSpec),
    /// A limit to a rate.
    Police(Box<Police>),
}

impl ActionSpec {
    /// The action's kind.
    pub const fn kind(&self) -> ActionKind {
        match self {
            ActionSpec::Gact(_) => ActionKind::Gact,
            ActionSpec::Mirred(_) => ActionKind::Mirred,
            ActionSpec::Police(_) => ActionKind::Police,
        }
    }

    /// Whether packets are sent to `port`.
    pub fn names_port(&self, port: PortId) -> bool {
        matches!(
            self,
            ActionSpec::Mirred(MirredSpec::Mirror { to, .. } | MirredSpec::Redirect { to })
                if to.ports == TargetPorts::One(port)
        )
    }

    /// The control verdicts it may say; only the first one may be a goto [AC-10].
    pub fn controls(&self) -> impl Iterator<Item = Control> + use<> {
        let (first, second) = match self {
            &ActionSpec::Gact(GactSpec { control, random }) => (Some(control), random.map(|random| random.control)),
            &ActionSpec::Mirred(MirredSpec::Mirror { control, .. }) => (Some(control), None),
            ActionSpec::Mirred(MirredSpec::Redirect { .. }) => (None, None),
            ActionSpec::Police(police) => (Some(police.exceed), Some(police.conform)),
        };
        first.into_iter().chain(second)
    }
}

impl From<PoliceSpec> for ActionSpec {
    fn from(spec: PoliceSpec) -> ActionSpec {
        ActionSpec::Police(Box::new(Police::new(spec)))
    }
}

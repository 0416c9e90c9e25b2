//! ActionSpec: what an action is asked to do, whichever its kind.

use super::csum::CsumSpec;
use super::gact::GactSpec;
use super::mirred::{MirredSpec, TargetPorts};
use super::nat::NatSpec;
use super::pedit::PeditSpec;
use super::police::{Police, PoliceSpec};
use super::sample::SampleSpec;
use super::skbedit::SkbeditSpec;
use super::tunnel_key::TunnelKeySpec;
use super::vlan::VlanSpec;
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
    /// A tag more, less, or another one.
    Vlan,
    /// Another mark.
    Skbedit,
    /// Checksums made anew.
    Csum,
    /// Words of the packet, changed in their bits.
    Pedit,
    /// Another IPv4 prefix.
    Nat,
    /// Packets shown to who listens.
    Sample,
    /// The tunnel that goes with a packet.
    TunnelKey,
}

impl ActionKind {
    /// Every kind.
    pub const ALL: [ActionKind; 10] = [
        ActionKind::Gact,
        ActionKind::Mirred,
        ActionKind::Police,
        ActionKind::Vlan,
        ActionKind::Skbedit,
        ActionKind::Csum,
        ActionKind::Pedit,
        ActionKind::Nat,
        ActionKind::Sample,
        ActionKind::TunnelKey,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            ActionKind::Gact => "gact",
            ActionKind::Mirred => "mirred",
            ActionKind::Police => "police",
            ActionKind::Vlan => "vlan",
            ActionKind::Skbedit => "skbedit",
            ActionKind::Csum => "csum",
            ActionKind::Pedit => "pedit",
            ActionKind::Nat => "nat",
            ActionKind::Sample => "sample",
            ActionKind::TunnelKey => "tunnel_key",
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
    /// A tag more, less, or another one.
    Vlan(Box<VlanSpec>),
    /// Another mark.
    Skbedit(Box<SkbeditSpec>),
    /// Checksums made anew.
    Csum(Box<CsumSpec>),
    /// Words of the packet, changed in their bits.
    Pedit(Box<PeditSpec>),
    /// Another IPv4 prefix.
    Nat(Box<NatSpec>),
    /// Packets shown to who listens.
    Sample(Box<SampleSpec>),
    /// The tunnel that goes with a packet.
    TunnelKey(Box<TunnelKeySpec>),
}

impl ActionSpec {
    /// The action's kind.
    pub const fn kind(&self) -> ActionKind {
        match self {
            ActionSpec::Gact(_) => ActionKind::Gact,
            ActionSpec::Mirred(_) => ActionKind::Mirred,
            ActionSpec::Police(_) => ActionKind::Police,
            ActionSpec::Vlan(_) => ActionKind::Vlan,
            ActionSpec::Skbedit(_) => ActionKind::Skbedit,
            ActionSpec::Csum(_) => ActionKind::Csum,
            ActionSpec::Pedit(_) => ActionKind::Pedit,
            ActionSpec::Nat(_) => ActionKind::Nat,
            ActionSpec::Sample(_) => ActionKind::Sample,
            ActionSpec::TunnelKey(_) => ActionKind::TunnelKey,
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
            ActionSpec::Vlan(spec) => (Some(spec.control), None),
            ActionSpec::Skbedit(spec) => (Some(spec.control), None),
            ActionSpec::Csum(spec) => (Some(spec.control), None),
            ActionSpec::Pedit(spec) => (Some(spec.control), None),
            ActionSpec::Nat(spec) => (Some(spec.control), None),
            ActionSpec::Sample(spec) => (Some(spec.control), None),
            ActionSpec::TunnelKey(spec) => (Some(spec.control), None),
        };
        first.into_iter().chain(second)
    }
}

impl From<PoliceSpec> for ActionSpec {
    fn from(spec: PoliceSpec) -> ActionSpec {
        ActionSpec::Police(Box::new(Police::new(spec)))
    }
}

impl From<VlanSpec> for ActionSpec {
    fn from(spec: VlanSpec) -> ActionSpec {
        ActionSpec::Vlan(Box::new(spec))
    }
}

impl From<SkbeditSpec> for ActionSpec {
    fn from(spec: SkbeditSpec) -> ActionSpec {
        ActionSpec::Skbedit(Box::new(spec))
    }
}

impl From<CsumSpec> for ActionSpec {
    fn from(spec: CsumSpec) -> ActionSpec {
        ActionSpec::Csum(Box::new(spec))
    }
}

impl From<PeditSpec> for ActionSpec {
    fn from(spec: PeditSpec) -> ActionSpec {
        ActionSpec::Pedit(Box::new(spec))
    }
}

impl From<NatSpec> for ActionSpec {
    fn from(spec: NatSpec) -> ActionSpec {
        ActionSpec::Nat(Box::new(spec))
    }
}

impl From<SampleSpec> for ActionSpec {
    fn from(spec: SampleSpec) -> ActionSpec {
        ActionSpec::Sample(Box::new(spec))
    }
}

impl From<TunnelKeySpec> for ActionSpec {
    fn from(spec: TunnelKeySpec) -> ActionSpec {
        ActionSpec::TunnelKey(Box::new(spec))
    }
}

//! The words of actions that edit packets: `vlan push 10`, `skbedit mark 7`, `csum ip tcp`, `nat egress 10.0.0.0/8 192.0.2.1`. Behind
//! each may come `then CONTROL`; without it, as with `pipe`, the next action runs.

use std::net::Ipv4Addr;

use tidegate_classifiers::request::{ActionSpec, CsumSpec, CsumTargets, NatSpec, SkbeditSpec, VlanEdit, VlanSpec};

use super::{Words, show_then};
use crate::error::Wrong;
use crate::words::{choice, instead, prefix_v4, quote, show_prefix};

const TPIDS: [(&str, u16); 2] = [("802.1Q", 0x8100), ("802.1ad", 0x88a8)];

/// Checksums, in the order of [`CsumTargets::ALL`].
const TARGETS: [&str; 7] = ["ip", "icmp", "igmp", "tcp", "udp", "udplite", "sctp"];

/// What comes after `vlan`.
pub(super) fn read_vlan(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let example = "vlan push 10";
    let what = words.word(example)?;
    let edit = match what {
        "pop" => VlanEdit::Pop,
        "push" | "modify" => {
            #[expect(clippy::cast_possible_truncation, reason = "at most 4094")]
            let id = words.number(example, 0, 4094)? as u16;
            let (mut tpid, mut priority) = (TPIDS[0].1, None);
            while let Some(option) = words.option(&["protocol", "priority"]) {
                match option {
                    "protocol" => tpid = choice(words.word("vlan push 10 protocol 802.1ad")?, &TPIDS)?,
                    #[expect(clippy::cast_possible_truncation, reason = "at most 7")]
                    _ => priority = Some(words.number("vlan push 10 priority 3", 0, 7)? as u8),
                }
            }
            match what {
                "push" => VlanEdit::Push { tpid, id, priority: priority.unwrap_or(0) },
                _ => VlanEdit::Modify { tpid, id, priority },
            }
        }
        other => {
            let known = ["pop", "push", "modify"].into_iter();
            return Err(Wrong::new(format!("{} is not known", quote(other))).hint(instead(other, known)));
        }
    };
    Ok(VlanSpec { edit, control: words.then()? }.into())
}

/// The inverse, with `vlan`.
pub(super) fn show_vlan(spec: &VlanSpec) -> String {
    let tag = |what: &str, tpid: u16, id: u16, priority: Option<u8>| {
        let protocol =
            TPIDS[1..].iter().filter(|(_, known)| *known == tpid).map(|(name, _)| format!(" protocol {name}"));
        let priority = priority.map(|priority| format!(" priority {priority}"));
        format!("vlan {what} {id}{}{}", protocol.collect::<String>(), priority.unwrap_or_default())
    };
    let edit = match spec.edit {
        VlanEdit::Pop => "vlan pop".to_owned(),
        VlanEdit::Push { tpid, id, priority } => tag("push", tpid, id, Some(priority).filter(|priority| *priority > 0)),
        VlanEdit::Modify { tpid, id, priority } => tag("modify", tpid, id, priority),
    };
    edit + &show_then(spec.control)
}

/// What comes after `skbedit`.
pub(super) fn read_skbedit(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let example = "skbedit mark 7";
    match words.word(example)? {
        "mark" => {}
        other => {
            return Err(
                Wrong::new(format!("{} is nothing to edit", quote(other))).hint("a packet here has a mark only")
            );
        }
    }
    let text = words.word(example)?;
    let (mark, mask) = text.split_once('/').map_or((text, None), |(mark, mask)| (mark, Some(mask)));
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let wrong = || Wrong::new(format!("{} is no mark", quote(text))).hint("write it as 7, 0x10 or 0x10/0xf0");
    let mask = mask.map(|mask| number(mask).ok_or_else(wrong)).transpose()?;
    Ok(SkbeditSpec { mark: number(mark).ok_or_else(wrong)?, mask, control: words.then()? }.into())
}

/// The inverse, with `skbedit`.
pub(super) fn show_skbedit(spec: &SkbeditSpec) -> String {
    let mask = spec.mask.map(|mask| format!("/{mask:#x}")).unwrap_or_default();
    format!("skbedit mark {:#x}{mask}{}", spec.mark, show_then(spec.control))
}

/// What comes after `csum`.
pub(super) fn read_csum(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let mut targets = CsumTargets::default();
    while let Some(name) = words.rest.clone().next().filter(|word| *word != "then") {
        words.rest.next();
        let known: [_; 7] = std::array::from_fn(|i| (TARGETS[i], CsumTargets::ALL[i]));
        targets = targets.with(choice(name, &known)?);
    }
    if targets == CsumTargets::default() {
        return Err(
            Wrong::new(format!("{} names no checksum", quote(words.text))).hint("write it as \"csum ip tcp udp\"")
        );
    }
    Ok(CsumSpec { targets, control: words.then()? }.into())
}

/// The inverse, with `csum`.
pub(super) fn show_csum(spec: &CsumSpec) -> String {
    let targets = CsumTargets::ALL.into_iter().zip(TARGETS).filter(|(target, _)| spec.targets.has(*target));
    let names: String = targets.map(|(_, name)| format!(" {name}")).collect();
    format!("csum{names}{}", show_then(spec.control))
}

/// What comes after `nat`.
pub(super) fn read_nat(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let example = "nat egress 10.0.0.0/24 192.0.2.0";
    let egress = match words.word(example)? {
        "egress" => true,
        "ingress" => false,
        other => {
            let hint = "egress changes source addresses, ingress destination addresses";
            return Err(Wrong::new(format!("{} is no direction", quote(other))).hint(hint));
        }
    };
    let (old, mask) = prefix_v4(words.word(example)?).map_err(|wrong| wrong.hint("nat knows IPv4 alone"))?;
    let mask = u32::from(mask);
    let new = words.word(example)?;
    let new: Ipv4Addr = new.parse().map_err(|_| {
        Wrong::new(format!("{} is not an IPv4 address", quote(new)))
            .hint("it gets as many bits of it as the prefix has")
    })?;
    if mask.leading_ones() != mask.count_ones() {
        return Err(Wrong::new("nat needs a prefix").hint("write it as 10.0.0.0/24"));
    }
    Ok(NatSpec { egress, old, mask, new, control: words.then()? }.into())
}

/// The inverse, with `nat`.
pub(super) fn show_nat(spec: &NatSpec) -> String {
    let direction = if spec.egress { "egress" } else { "ingress" };
    let old = show_prefix(spec.old.into(), Ipv4Addr::from(spec.mask).into());
    format!("nat {direction} {old} {}{}", spec.new, show_then(spec.control))
}

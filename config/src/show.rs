//! Specifications as the words of the file: the inverse of reading them.

use tidegate_classifiers::request::{ActionSpec, ETH_P_ALL, GactSpec, MirredSpec, Random, RandomMode};
use tidegate_classifiers::verdict::Control;

/// An ethertype's name, such as `ip` or `all`; hexadecimal if it has none.
pub fn protocol(ethertype: u16) -> String {
    match ethertype {
        ETH_P_ALL => "all".into(),
        0x0800 => "ip".into(),
        0x0806 => "arp".into(),
        0x8035 => "rarp".into(),
        0x8100 => "802.1Q".into(),
        0x86dd => "ipv6".into(),
        0x88a8 => "802.1ad".into(),
        other => format!("{other:#06x}"),
    }
}

/// An action, such as `mirror lan then drop`. `ports` are the names by [`tidegate_classifiers::port::PortId`].
pub fn action(spec: &ActionSpec, ports: &[&str]) -> String {
    let port = |id: tidegate_classifiers::port::PortId| ports.get(usize::from(id.0)).copied().unwrap_or("*");
    match *spec {
        ActionSpec::Gact(GactSpec { control: first, random: None }) => control(first),
        ActionSpec::Gact(GactSpec { control: first, random: Some(Random { mode, control: second, one_in }) }) => {
            let mode = match mode {
                RandomMode::Netrand => "netrand",
                RandomMode::Determ => "determ",
            };
            format!("{} random {mode} {} {one_in}", control(first), control(second))
        }
        ActionSpec::Mirred(MirredSpec::Mirror { port: to, control: Control::Pipe }) => format!("mirror {}", port(to)),
        ActionSpec::Mirred(MirredSpec::Mirror { port: to, control: then }) => {
            format!("mirror {} then {}", port(to), control(then))
        }
        ActionSpec::Mirred(MirredSpec::Redirect { port: to }) => format!("redirect {}", port(to)),
    }
}

fn control(control: Control) -> String {
    match control {
        Control::Ok => "pass".into(),
        Control::Reclassify => "reclassify".into(),
        Control::Shot => "drop".into(),
        Control::Pipe => "pipe".into(),
        Control::Stolen => "stolen".into(),
        Control::Queued => "queued".into(),
        Control::Repeat => "repeat".into(),
        Control::Trap => "trap".into(),
        Control::Continue => "continue".into(),
        Control::Jump(to) => format!("jump {to}"),
        Control::Goto(chain) => format!("goto {chain}"),
    }
}

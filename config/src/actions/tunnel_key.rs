//! `tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2 id 7`, `tunnel_key unset`. `then CONTROL` may follow; without it, as with
//! `pipe`, the next action runs.

use std::net::IpAddr;

use tidegate_classifiers::request::{ActionSpec, TunnelEnds, TunnelKey, TunnelKeySpec};

use super::{Words, show_then};
use crate::error::Wrong;
use crate::words::{address, instead, quote};

const EXAMPLE: &str = "tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2 id 7";

const OPTIONS: [&str; 8] = ["src_ip", "dst_ip", "id", "dst_port", "tos", "ttl", "nocsum", "nofrag"];

/// What comes after `tunnel_key`.
pub(super) fn read(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let key = match words.word(EXAMPLE)? {
        "set" => Some(read_key(words)?),
        "unset" => None,
        other => {
            let hint = instead(other, ["set", "unset"].into_iter());
            return Err(Wrong::new(format!("{} is not known", quote(other))).hint(hint));
        }
    };
    Ok(TunnelKeySpec { key, control: words.then()? }.into())
}

fn read_key(words: &mut Words<'_>) -> Result<TunnelKey, Wrong> {
    let (mut source, mut destination, mut id) = (None, None, None);
    let (mut dst_port, mut tos, mut ttl, mut csum, mut nofrag) = (0, 0, 0, true, false);
    while let Some(option) = words.option(&OPTIONS) {
        match option {
            "src_ip" => source = Some(address(words.word(EXAMPLE)?)?),
            "dst_ip" => destination = Some(address(words.word(EXAMPLE)?)?),
            "id" => id = Some(words.number(EXAMPLE, 0, u32::MAX)?),
            "dst_port" => dst_port = number(words, u16::MAX)?,
            "tos" => tos = number(words, u8::MAX)?,
            "ttl" => ttl = number(words, u8::MAX)?,
            "nocsum" => csum = false,
            _ => nofrag = true,
        }
    }
    let ends = match (source, destination) {
        (Some(IpAddr::V4(source)), Some(IpAddr::V4(destination))) => TunnelEnds::V4(source, destination),
        (Some(IpAddr::V6(source)), Some(IpAddr::V6(destination))) => TunnelEnds::V6(source, destination),
        _ => {
            let wrong = Wrong::new(format!("{} is between nobody", quote(words.text)));
            return Err(wrong.hint("src_ip and dst_ip must be there, both of IPv4 or both of IPv6"));
        }
    };
    Ok(TunnelKey { ends, id, dst_port, tos, ttl, csum, nofrag })
}

fn number<T: TryFrom<u32> + Into<u32>>(words: &mut Words<'_>, max: T) -> Result<T, Wrong> {
    let number = words.number(EXAMPLE, 0, max.into())?;
    T::try_from(number).map_err(|_| Wrong::new(format!("{number} is out of range")))
}

/// The inverse of [`read`], with `tunnel_key`.
pub(super) fn show(spec: &TunnelKeySpec) -> String {
    let then = show_then(spec.control);
    let Some(key) = spec.key else { return format!("tunnel_key unset{then}") };
    let (source, destination): (IpAddr, IpAddr) = match key.ends {
        TunnelEnds::V4(source, destination) => (source.into(), destination.into()),
        TunnelEnds::V6(source, destination) => (source.into(), destination.into()),
    };
    let mut text = format!("tunnel_key set src_ip {source} dst_ip {destination}");
    let numbers = [("dst_port", key.dst_port.into()), ("tos", key.tos.into()), ("ttl", key.ttl.into())];
    let numbers = numbers.into_iter().filter(|(_, number)| *number > 0);
    for (name, number) in key.id.map(|id| ("id", id)).into_iter().chain(numbers) {
        text.extend([" ", name, " ", &number.to_string()]);
    }
    for (name, said) in [(" nocsum", !key.csum), (" nofrag", key.nofrag)] {
        text.push_str(if said { name } else { "" });
    }
    text + &then
}

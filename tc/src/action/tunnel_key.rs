//! tunnel_key: `tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2 id 7 dst_port 4789`.

use std::net::IpAddr;

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, TunnelEnds, TunnelKey, TunnelKeySpec};
use tidegate_classifiers::verdict::Control;

use super::{index_follows, print_control, print_holders, verdict_or};
use crate::arguments::{Failure, Words, decimal, hex, stands_for};
use crate::printer::Printer;

/// What goes into the headers of one kind of tunnel.
const OPTIONS: [&str; 3] = ["geneve_opts", "vxlan_opts", "erspan_opts"];

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let (mut what, mut source, mut destination, mut id) = (None, None, None, None);
    let (mut dst_port, mut tos, mut ttl, mut csum, mut nofrag) = (0, 0, 0, true, false);
    while let Some(word) = words.peek() {
        let known = ["unset", "set", "src_ip", "dst_ip", "id", "dst_port", "tos", "ttl", "csum", "nocsum", "nofrag"];
        let Some(name) = known.into_iter().chain(OPTIONS).find(|name| stands_for(word, name)) else { break };
        words.next();
        match name {
            "set" | "unset" => {
                if what.replace(name).is_some() {
                    return Err(Failure::new(format!("unexpected \"{word}\" - action already specified")));
                }
            }
            "src_ip" => source = Some(address(words)?),
            "dst_ip" => destination = Some(address(words)?),
            "id" => id = Some(value(words, name, decimal)?),
            "dst_port" => dst_port = value(words, name, |text| u16::try_from(decimal(text)?).ok())?,
            "tos" => tos = value(words, name, byte)?,
            "ttl" => ttl = value(words, name, byte)?,
            "csum" => csum = true,
            "nocsum" => csum = false,
            "nofrag" => nofrag = true,
            _ => return Err(Failure::new(format!("tunnel_key {name}: nothing here would put them around a packet"))),
        }
    }
    let control = verdict_or(words, Control::Pipe)?;
    let ends = match (source, destination) {
        (Some(IpAddr::V4(source)), Some(IpAddr::V4(destination))) => Some(TunnelEnds::V4(source, destination)),
        (Some(IpAddr::V6(source)), Some(IpAddr::V6(destination))) => Some(TunnelEnds::V6(source, destination)),
        _ => None,
    };
    let key = match what {
        Some("set") => {
            let ends = ends.ok_or_else(|| Failure::new("set needs tunnel_key parameters: src_ip and dst_ip"))?;
            Some(TunnelKey { ends, id, dst_port, tos, ttl, csum, nofrag })
        }
        Some(_) => None,
        None if index_follows(words, table) => return Ok(None),
        None => return Err(Failure::new("tunnel_key: set or unset must be given")),
    };
    Ok(Some(TunnelKeySpec { key, control }.into()))
}

/// As in tc, no address at all ends the program, and does so with another code.
fn address(words: &mut Words<'_>) -> Result<IpAddr, Failure> {
    let text = words.value()?;
    text.parse().map_err(|_| Failure {
        text: format!("Error: any valid prefix is expected rather than \"{text}\"."),
        code: Some(1),
    })
}

fn value<T>(words: &mut Words<'_>, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    read(words.value()?).ok_or_else(|| Failure::new(format!("Illegal \"{name}\"")))
}

/// Decimal if it can be, else hexadecimal.
fn byte(text: &str) -> Option<u8> {
    [decimal, hex].into_iter().find_map(|read| u8::try_from(read(text)?).ok())
}

pub(super) fn print(spec: &TunnelKeySpec, action: &Value, printer: &mut Printer) {
    printer.field("kind", "tunnel_key", format_args!("tunnel_key "));
    match spec.key {
        None => printer.field("mode", "unset", format_args!(" unset")),
        Some(key) => {
            printer.field("mode", "set", format_args!(" set"));
            print_key(&key, printer);
        }
    }
    print_control(" ", spec.control, "", printer);
    printer.line();
    print_holders("\t index ", action, printer);
}

fn print_key(key: &TunnelKey, printer: &mut Printer) {
    let (source, destination) = match key.ends {
        TunnelEnds::V4(source, destination) => (source.to_string(), destination.to_string()),
        TunnelEnds::V6(source, destination) => (source.to_string(), destination.to_string()),
    };
    let mut line = |name: &str, value: Value, shown: &str| {
        printer.line();
        printer.field(name, value, format_args!("\t{shown}"));
    };
    line("src_ip", source.as_str().into(), &format!("src_ip {source}"));
    line("dst_ip", destination.as_str().into(), &format!("dst_ip {destination}"));
    if let Some(id) = key.id {
        line("key_id", id.into(), &format!("key_id {id}"));
    }
    if key.dst_port > 0 {
        line("dst_port", key.dst_port.into(), &format!("dst_port {}", key.dst_port));
    }
    let csum = if key.csum { "csum" } else { "nocsum" };
    line("flag", csum.into(), csum);
    if key.tos > 0 {
        line("tos", key.tos.into(), &format!("tos {:#x}", key.tos));
    }
    if key.ttl > 0 {
        line("ttl", key.ttl.into(), &format!("ttl {}", key.ttl));
    }
    if key.nofrag {
        line("nofrag", true.into(), "nofrag");
    }
}

/// From a listing of tc.
pub(super) fn import(listed: &Value) -> Result<String, String> {
    if let Some(key) = OPTIONS.into_iter().find(|key| listed.get(key).is_some()) {
        return Err(format!("tunnel_key {key}: nothing here would put them around a packet"));
    }
    let mut text = format!("tunnel_key {}", listed["mode"].as_str().unwrap_or_default());
    for (key, name) in [("src_ip", "src_ip"), ("dst_ip", "dst_ip"), ("key_id", "id"), ("dst_port", "dst_port")] {
        match &listed[key] {
            Value::Null => {}
            Value::String(address) => text.extend([" ", name, " ", address]),
            number => text.extend([" ", name, " ", &number.to_string()]),
        }
    }
    for name in ["tos", "ttl"] {
        text.extend(listed[name].as_u64().map(|number| format!(" {name} {number}")));
    }
    for (name, said) in [(" nocsum", listed["flag"] == "nocsum"), (" nofrag", listed["nofrag"] == true)] {
        text.push_str(if said { name } else { "" });
    }
    Ok(text)
}

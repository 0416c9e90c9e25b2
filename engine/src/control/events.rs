//! What happened, in the words of the file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tidegate_classifiers::event::{self, BlockId, Event};
use tidegate_classifiers::request::{self, ActionInfo};
use tidegate_client::wire::{Mode, Notice};
use tidegate_config::{Names, hex, show};

use super::Service;
use crate::samples::Heard;

/// `notice` as a message.
pub(super) fn notice(notice: &event::Notice, service: &Service) -> Notice {
    let event = match notice {
        event::Notice::Lost(count) => return Notice::Lost { count: *count },
        event::Notice::Event(event) => &**event,
    };
    let (now_ns, on) = (service.now_ns(), block(event).and_then(|block| service.directory.name_of(block)));
    service.directory.with_ports(|ports| match event {
        Event::ChainAdded { chain, .. } => Notice::ChainAdded { on, chain: *chain },
        Event::ChainDeleted { chain, .. } => Notice::ChainDeleted { on, chain: *chain },
        Event::FilterAdded { mode, filter, .. } => {
            Notice::FilterAdded { on, mode: mode_name(*mode), filter: show::filter(filter, ports, now_ns) }
        }
        Event::FilterDeleted { filter, .. } => {
            Notice::FilterDeleted { on, filter: show::filter(filter, ports, now_ns) }
        }
        Event::ProtoDeleted { proto, .. } => Notice::ProtoDeleted { on, proto: show::proto(proto) },
        Event::ActionsAdded { mode, actions } => {
            Notice::ActionsAdded { mode: mode_name(*mode), actions: shown(actions, ports, now_ns) }
        }
        Event::ActionsDeleted { actions } => Notice::ActionsDeleted { actions: shown(actions, ports, now_ns) },
        Event::ActionsFlushed { kind, count } => Notice::ActionsFlushed { kind: kind.as_str().into(), count: *count },
    })
}

/// What a listener to samples heard, as a message.
pub(super) fn heard(heard: &Heard, service: &Service) -> Notice {
    let sample = match heard {
        Heard::Lost(count) => return Notice::Lost { count: *count },
        Heard::Sample(sample) => sample,
    };
    let ago = Duration::from_nanos(service.now_ns().saturating_sub(sample.at_ns));
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago);
    let on = service.directory.with_ports(|ports| ports.name(sample.port.0.into()).map(str::to_owned));
    Notice::Sample {
        port: on,
        group: sample.group,
        rate: sample.rate,
        time_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
        length: sample.length,
        bytes: hex::show(&sample.bytes),
    }
}

fn block(event: &Event) -> Option<BlockId> {
    match event {
        Event::ChainAdded { block, .. }
        | Event::ChainDeleted { block, .. }
        | Event::FilterAdded { block, .. }
        | Event::FilterDeleted { block, .. }
        | Event::ProtoDeleted { block, .. } => Some(*block),
        Event::ActionsAdded { .. } | Event::ActionsDeleted { .. } | Event::ActionsFlushed { .. } => None,
    }
}

fn shown(actions: &[ActionInfo], ports: &Names, now_ns: u64) -> Vec<Value> {
    actions.iter().map(|action| show::action(action, ports, now_ns)).collect()
}

fn mode_name(mode: request::Mode) -> Mode {
    match mode {
        request::Mode::Add => Mode::Add,
        request::Mode::Replace => Mode::Replace,
        request::Mode::Change => Mode::Change,
    }
}

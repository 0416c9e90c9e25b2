//! tc monitor: what happens, as it happens.

use serde_json::{Map, Value, json};
use tidegate_client::wire::{BlockName, Mode, Notice};

use crate::filter::{self, Listed, Which};
use crate::printer::Printer;
use crate::{action, chain};

/// What happened.
pub(crate) fn print(notice: &Notice, printer: &mut Printer) {
    let everywhere = Which::default();
    match notice {
        Notice::ChainAdded { on, chain } => {
            chain::print(&placed(on.as_ref(), json!({ "chain": chain })), &everywhere, Listed::Event("added"), printer);
        }
        Notice::ChainDeleted { on, chain } => {
            chain::print(
                &placed(on.as_ref(), json!({ "chain": chain })),
                &everywhere,
                Listed::Event("deleted"),
                printer,
            );
        }
        Notice::FilterAdded { on, mode, filter } => {
            filter::print(&placed(on.as_ref(), filter.clone()), &everywhere, Listed::Event(word(*mode)), printer);
        }
        Notice::FilterDeleted { on, filter } => {
            filter::print(&placed(on.as_ref(), filter.clone()), &everywhere, Listed::Event("deleted"), printer);
        }
        Notice::ProtoDeleted { on, proto } => {
            filter::print(&placed(on.as_ref(), proto.clone()), &everywhere, Listed::Event("deleted"), printer);
        }
        Notice::ActionsAdded { mode, actions } => {
            let what = if *mode == Mode::Add { "Added action " } else { "Replaced action " };
            printer.text(format_args!("{what}"));
            action::print_table(actions.len(), 1, actions, printer);
        }
        Notice::ActionsDeleted { actions } => {
            printer.text(format_args!("Deleted action "));
            action::print_table(actions.len(), 1, actions, printer);
        }
        Notice::ActionsFlushed { kind, count } => {
            printer.text(format_args!("Flushed table {kind} ({count} entries)"));
            printer.line();
        }
        Notice::Sample { .. } => {} // comes to who asks for that
        Notice::Lost { count } => {
            printer.text(format_args!("{count} events were lost: this listener was too slow"));
            printer.line();
        }
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Add => "added",
        Mode::Replace => "replaced",
        Mode::Change => "changed",
    }
}

/// `table`, and which block it is in.
fn placed(on: Option<&BlockName>, table: Value) -> Value {
    let mut fields: Map<String, Value> = on.map(|on| ("on".to_owned(), on.to_value())).into_iter().collect();
    if let Value::Object(table) = table {
        fields.extend(table);
    }
    fields.into()
}

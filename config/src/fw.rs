//! Matches of kind fw: the packet's mark.

use serde_json::{Map, Value as Json};
use tidegate_classifiers::request::FwSpec;

use crate::actions::port_id;
use crate::error::Problems;
use crate::names::Names;
use crate::table::Table;
use crate::words::{self, Masked};

/// Reads the match of a filter: the mark, which is its handle, and the rest. `None` if the mark is missing or wrong: that
/// is reported.
pub(crate) fn read(mut table: Table, ports: &Names, problems: &mut Problems) -> Option<(u32, FwSpec)> {
    let mark = table.take("mark");
    if mark.is_none() {
        table.missing("mark", "say which packets: mark = 1 or mark = \"0x10/0xf0\"");
    }
    let mark = mark.and_then(|node| {
        let read = words::masked_u32(&node).map_err(|wrong| wrong.of("mark"));
        problems.accept(node.place, read)
    });
    let indev = table.read("indev", problems, |node| ports.find(node.text()?).map(port_id));
    table.finish(problems);
    mark.map(|(mark, mask)| (mark, FwSpec { mask, indev }))
}

/// The keys of a match, such that [`read`] makes it again.
pub(crate) fn show(mark: u32, spec: &FwSpec, ports: &Names) -> Map<String, Json> {
    let masked = Masked { value: mark.into(), mask: spec.mask.into() };
    let mark = words::show_masked(masked, u32::MAX.into(), &[]);
    let indev = spec.indev.map(|port| ports.name(port.0.into()).unwrap_or("*").into());
    [("mark".to_owned(), mark)].into_iter().chain(indev.map(|port| ("indev".to_owned(), port))).collect()
}

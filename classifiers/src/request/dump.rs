//! Dump: listings of filters, page by page.

use std::fmt;
use std::num::ParseIntError;
use std::ops::ControlFlow;
use std::str::FromStr;

use super::{Cx, DumpFilter, FilterInfo, Record};
use crate::block::Block;
use crate::chain::Chain;
use crate::error::RequestError;
use crate::ledger::By;
use crate::proto::ProtoRef;
use crate::sync::Arc;

/// Where a listing of filters goes on. It names what was listed last, and holds nothing between pages: chain, priority and
/// filter may be gone then, and the listing goes on with the first that comes after them [WK-7], [WK-8].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Identity of the first chain that is not listed to its end, or a lower one than that of any such chain.
    chain: u64,
    /// In this very chain: the same of priorities.
    priority: u64,
    /// In the proto of this very priority, if its header was listed: the position of its last filter listed.
    within: Option<Option<u64>>,
}

/// For who keeps it outside of the program: any text that reads as a cursor is one.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.", self.chain, self.priority)?;
        match self.within {
            None => Ok(()),
            Some(None) => f.write_str("-"),
            Some(Some(position)) => position.fmt(f),
        }
    }
}

impl FromStr for Cursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Cursor, ParseIntError> {
        let (chain, rest) = text.split_once('.').unwrap_or((text, ""));
        let (priority, within) = rest.split_once('.').unwrap_or((rest, ""));
        let within = match within {
            "" => None,
            "-" => Some(None),
            position => Some(Some(position.parse::<u32>()?.into())), // as handles have
        };
        Ok(Cursor { chain: chain.parse()?, priority: priority.parse()?, within })
    }
}

/// All filters with what they did: chains in order of creation, priorities ascending, filters in their kind's order [WK-3].
pub fn dump(block: &Arc<Block>) -> Vec<FilterInfo> {
    all_filters(None, block)
}

pub(crate) fn all_filters(by: By<'_>, block: &Arc<Block>) -> Vec<FilterInfo> {
    let (mut all, mut cursor) = (Vec::new(), Cursor::default());
    while let Ok(page) = page(by, block, &DumpFilter::default(), &mut cursor, 256)
        && !page.is_empty()
    {
        all.extend(page.into_iter().filter_map(|record| match record {
            Record::Filter(info) => Some(info),
            Record::Proto(_) => None,
        }));
    }
    all
}

/// Up to `max` more records; none at the end. What is there during the whole listing is listed exactly once, what comes or goes
/// meanwhile at most once [WK-6].
///
/// # Errors
/// `TooSmall` if `max` is 0 [WK-10].
pub fn dump_page(
    block: &Arc<Block>,
    filter: &DumpFilter,
    cursor: &mut Cursor,
    max: usize,
) -> Result<Vec<Record>, RequestError> {
    page(None, block, filter, cursor, max)
}

pub(crate) fn page(
    by: By<'_>,
    block: &Arc<Block>,
    filter: &DumpFilter,
    cursor: &mut Cursor,
    max: usize,
) -> Result<Vec<Record>, RequestError> {
    if max == 0 {
        return Err(RequestError::TooSmall("a single record")); // [ER-38]
    }
    let cx = Cx::new(block.plane(), true).on_behalf(by);
    let mut page = Vec::new();
    while page.len() < max {
        let Some(chain) = block.core().next(cursor.chain, by) else { break };
        if chain.id() != cursor.chain {
            *cursor = Cursor { chain: chain.id(), ..Cursor::default() };
        }
        let wanted = filter.chain.is_none_or(|index| index == chain.index());
        if !wanted || dump_chain(&cx, &chain, filter, cursor, max, &mut page) {
            *cursor = Cursor { chain: chain.id() + 1, ..Cursor::default() };
        }
    }
    Ok(page)
}

/// Returns whether the chain is listed to its end. What of it is on a page is what was in its list at one moment, but for what is
/// being destroyed.
fn dump_chain<'c>(
    cx: &'c Cx<'c>,
    chain: &Chain,
    filter: &DumpFilter,
    cursor: &mut Cursor,
    max: usize,
    page: &mut Vec<Record>,
) -> bool {
    let listed = chain.protos().load().try_for_each_from(cursor.priority, cx.by(), |proto| {
        if page.len() >= max {
            return ControlFlow::Break(());
        }
        let priority = u64::from(proto.priority());
        if priority != cursor.priority {
            (cursor.priority, cursor.within) = (priority, None);
        }
        let wanted = (filter.priority == 0 || filter.priority == proto.priority())
            && (filter.protocol == 0 || filter.protocol == proto.protocol());
        let proto = if wanted { ProtoRef::try_take(proto, cx) } else { None };
        if proto.is_none_or(|proto| dump_proto(cx, &proto, cursor, max, page)) {
            (cursor.priority, cursor.within) = (priority + 1, None);
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(())
    });
    listed.is_continue()
}

/// Returns whether the proto is listed to its end.
fn dump_proto(cx: &Cx<'_>, proto: &ProtoRef<'_>, cursor: &mut Cursor, max: usize, page: &mut Vec<Record>) -> bool {
    let mut position = match cursor.within {
        Some(position) => position,
        None if !proto.kind().has_filters(cx.by()) => return true, // not yet there for clients
        None => {
            page.push(Record::Proto(proto.info())); // [WK-4]
            cursor.within = Some(None);
            None
        }
    };
    loop {
        let room = max - page.len();
        let filters = proto.kind().page(cx.by(), position, room);
        let last = filters.len() < room;
        for (at, filter) in filters {
            page.push(Record::Filter(proto.filter_info(&filter)));
            position = Some(at);
            cursor.within = Some(position);
        }
        if last {
            return true;
        }
        if page.len() >= max {
            return false;
        }
    }
}

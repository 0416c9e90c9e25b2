//! Node: what one u32 filter looks for, and where it leads.

use super::bytes::Bytes;
use super::table::Table;
use crate::counters::Counters;
use crate::error::RequestError;
use crate::packet::Packet;
use crate::request::U32Node;
use crate::sync::Arc;

/// Most keys of a node [U3-2].
const KEYS_MAX: usize = 255;

/// The first shift of an offset that is too much [U3-6].
const SHIFT_END: u8 = 16;

/// What one u32 filter looks for, and where it leads [U3-2]. Never changes; a replacement is another node, which takes over
/// keys and counters.
#[derive(Debug)]
pub(crate) struct Node {
    spec: U32Node,
    link: Option<Arc<Table>>,
    /// Whether it can end the search [U3-5].
    terminal: bool,
    /// How often it was looked at; the filter's hits say how often with success [ST-7].
    runs: Counters,
}

/// From where a table's keys count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes behind L3 that are eaten.
    base: i64,
    /// Bytes from there to the next header.
    next_header: i64,
}

/// What [`Node::follow`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On in this bucket of the linked table.
    To(usize, Place),
    /// The linked table would begin behind the packet: as if it were exhausted.
    Nowhere,
}

impl Node {
    /// A node as `spec` wants it, which [`validate`] found good, with the table it links to.
    pub(crate) fn new(spec: U32Node, link: Option<Arc<Table>>, has_actions: bool, runs: Counters) -> Node {
        let terminal = has_actions || spec.class.is_some();
        Node { spec, link, terminal, runs }
    }

    pub(crate) fn spec(&self) -> &U32Node {
        &self.spec
    }

    pub(crate) fn link(&self) -> Option<&Arc<Table>> {
        self.link.as_ref()
    }

    pub(crate) fn runs(&self) -> &Counters {
        &self.runs
    }

    /// Whether mark and keys are met; nothing if a key lies beyond the packet's end [U3-4].
    #[inline]
    pub(crate) fn matches(&self, packet: &Packet, bytes: Bytes<'_>, from: Place) -> Option<bool> {
        let spec = &self.spec;
        if packet.mark() & spec.mark.mask != spec.mark.value {
            return Some(false);
        }
        for key in &spec.keys {
            let header = if key.next_header { from.next_header } else { 0 };
            let word = bytes.word(from.base + header + i64::from(key.offset))?;
            if (word ^ key.value) & key.mask != 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    /// The bucket of `table` that the packet selects, and from where its keys count; nothing if what decides it lies beyond
    /// the packet's end [U3-4].
    #[inline]
    pub(crate) fn follow(&self, table: &Table, bytes: Bytes<'_>, from: Place) -> Option<Way> {
        let spec = &self.spec;
        let bucket = match table.divisor() {
            1 => 0,
            divisor => {
                let hash = spec.hash.unwrap_or_default();
                hash.bucket(bytes.word(from.base + i64::from(hash.offset))?, divisor)
            }
        };
        let mut to = from;
        if let Some(offset) = spec.offset {
            let mut header = i64::from(offset.plus) + 3; // rounded up to 4 bytes
            if let Some(field) = offset.field {
                let value = bytes.half(from.base + i64::from(field.offset))? & field.mask;
                header += i64::from(value >> field.shift);
            }
            to.next_header = header & !3;
        }
        if spec.eat {
            to = Place { base: to.base + to.next_header, next_header: 0 };
        }
        let moved = spec.eat || spec.offset.is_some();
        let beyond = moved && usize::try_from(to.base).is_ok_and(|base| base >= bytes.len());
        Some(if beyond { Way::Nowhere } else { Way::To(bucket as usize, to) })
    }

    /// Whether the filter may act on the packet, which it matches and whose link, if any, led nowhere.
    #[inline]
    pub(crate) fn ends_here(&self, packet: &Packet) -> bool {
        self.terminal && packet.is_from(self.spec.indev)
    }
}

/// Whether a node can be as `spec` wants it, apart from its tables.
pub(crate) fn validate(spec: &U32Node) -> Result<(), RequestError> {
    if spec.keys.len() > KEYS_MAX {
        return Err(RequestError::Invalid("more than 255 keys"));
    }
    let field = spec.offset.and_then(|offset| offset.field);
    if field.is_some_and(|field| field.shift >= SHIFT_END) {
        return Err(RequestError::Invalid("an offset is shifted by less than 16 bits"));
    }
    Ok(())
}

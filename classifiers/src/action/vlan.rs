//! vlan: a tag more, less, or another one [AK-VLAN].

use crate::action::headers::outer_tag;
use crate::classify::Walk;
use crate::error::RequestError;
use crate::port::Egress;
use crate::verdict::Control;
use crate::wire::vlan;

/// What is done to the outer VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanSpec {
    /// What.
    pub edit: VlanEdit,
    /// Verdict after it.
    pub control: Control,
}

/// An edit of the outer VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanEdit {
    /// Takes it off; nothing if there is none.
    Pop,
    /// Puts one in front of what there is.
    Push {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// At most 4094.
        id: u16,
        /// At most 7.
        priority: u8,
    },
    /// Changes it; nothing if there is none. Its drop-eligible bit stays.
    Modify {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// At most 4094.
        id: u16,
        /// At most 7; stays as it is if it is not given.
        priority: Option<u8>,
    },
}

/// Where a tag's TPID is, its TCI, and what follows the tag.
const TPID: usize = 12;
const TCI: usize = TPID + 2;
const BEHIND: usize = TPID + vlan::LEN;

impl VlanSpec {
    /// Whether there can be such tags [ER-33].
    pub(super) fn validate(&self) -> Result<(), RequestError> {
        let (tpid, id, priority) = match self.edit {
            VlanEdit::Pop => return Ok(()),
            VlanEdit::Push { tpid, id, priority } => (tpid, id, Some(priority)),
            VlanEdit::Modify { tpid, id, priority } => (tpid, id, priority),
        };
        if !vlan::is_tpid(tpid) {
            return Err(RequestError::UnsupportedProtocol("a tag is of 802.1Q or 802.1ad"));
        }
        if id >= 4095 {
            return Err(RequestError::OutOfRange("a VLAN id above 4094"));
        }
        if priority > Some(7) {
            return Err(RequestError::OutOfRange("a VLAN priority above 7"));
        }
        Ok(())
    }

    /// Edits the packet in hand. `None`: it cannot be done.
    pub(super) fn edit<E: Egress>(&self, cx: &mut Walk<'_, '_, E>) -> Option<()> {
        let tagged = outer_tag(cx.egress.frame())?;
        let len = cx.egress.frame().len();
        match self.edit {
            VlanEdit::Pop | VlanEdit::Modify { .. } if !tagged => Some(()),
            VlanEdit::Pop => {
                cx.egress.edit(|frame| frame.copy_within(BEHIND.., TPID));
                cx.egress.resize(len - vlan::LEN).then_some(())
            }
            VlanEdit::Push { tpid, id, priority } => {
                if !cx.egress.resize(len + vlan::LEN) {
                    return None;
                }
                cx.egress.edit(|frame| {
                    frame.copy_within(TPID..len, BEHIND);
                    write(frame, tpid, u16::from(priority) << 13 | id);
                });
                Some(())
            }
            VlanEdit::Modify { tpid, id, priority } => {
                cx.egress.edit(|frame| {
                    let old = u16::from_be_bytes([frame[TCI], frame[TCI + 1]]);
                    let priority = priority.map_or(old & 0xe000, |priority| u16::from(priority) << 13);
                    write(frame, tpid, priority | old & 0x1000 | id);
                });
                Some(())
            }
        }
    }
}

fn write(frame: &mut [u8], tpid: u16, tci: u16) {
    frame[TPID..TCI].copy_from_slice(&tpid.to_be_bytes());
    frame[TCI..BEHIND].copy_from_slice(&tci.to_be_bytes());
}

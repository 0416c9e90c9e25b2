//! skbedit: another mark [AK-SKBEDIT].

use crate::packet::Packet;
use crate::verdict::Control;

/// What is done to what goes with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkbeditSpec {
    /// The mark.
    pub mark: u32,
    /// Which of its bits are set; all, if it is not given.
    pub mask: Option<u32>,
    /// Verdict after it.
    pub control: Control,
}

impl SkbeditSpec {
    #[inline]
    pub(super) fn edit(&self, packet: &mut Packet) {
        let mask = self.mask.unwrap_or(u32::MAX);
        packet.set_mark(packet.mark() & !mask | self.mark & mask);
    }
}

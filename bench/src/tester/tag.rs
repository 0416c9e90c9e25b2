//! The tag in a packet's payload: whose packet it is, when it was due, and what must become of it.
//!
//! ```text
//!  magic 2 | run 2 | fate 1 bit, flow 31 | sequence 4 | due 8 | balance 2        bytes, big end first
//! ```
//!
//! The balance makes the words of every tag add up to the same. So a tag that was damaged shows, and the checksum of the
//! datagram around it is right whatever the tag says.

/// Bytes of a tag.
pub(crate) const LEN: usize = 22;

const MAGIC: u16 = 0x7467;
/// The bit of a packet that must be dropped.
const FATE: u32 = 1 << 31;

/// What one packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Number of the trial: a packet of another one came too late for it.
    pub(crate) run: u16,
    /// Number of the flow, below 2^31.
    pub(crate) flow: u32,
    /// Number of the packet in its flow, from 0.
    pub(crate) sequence: u32,
    /// When the schedule has it sent, in ns since the trial began.
    pub(crate) due_ns: u64,
    /// What must become of it.
    pub(crate) fate: Fate,
}

/// What must become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives.
    Pass,
    /// Nobody sees it again.
    Drop,
}

/// Why there is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTag {
    /// The packet is somebody else's.
    Foreign,
    /// It was one.
    Damaged,
}

impl Tag {
    /// As it stands in a payload.
    pub(crate) fn bytes(&self) -> [u8; LEN] {
        let fate = if self.fate == Fate::Drop { FATE } else { 0 };
        let mut bytes = [0; LEN];
        bytes[0..2].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.run.to_be_bytes());
        bytes[4..8].copy_from_slice(&(fate | self.flow).to_be_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.due_ns.to_be_bytes());
        let balance = !sum(&bytes);
        bytes[20..22].copy_from_slice(&balance.to_be_bytes());
        bytes
    }

    /// The tag at the beginning of `payload`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn read(payload: &[u8]) -> Result<Tag, NoTag> {
        let bytes: &[u8; LEN] = payload.first_chunk().ok_or(NoTag::Foreign)?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let double = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        match (word(0) == MAGIC, sum(bytes) == u16::MAX) {
            (true, true) => Ok(Tag {
                run: word(2),
                flow: double(4) & !FATE,
                sequence: double(8),
                due_ns: u64::from(double(12)) << 32 | u64::from(double(16)),
                fate: if double(4) & FATE == 0 { Fate::Pass } else { Fate::Drop },
            }),
            (false, false) => Err(NoTag::Foreign),
            _ => Err(NoTag::Damaged),
        }
    }
}

/// The sum of the words in one's complement, as in checksums of the Internet.
fn sum(bytes: &[u8; LEN]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter().map(|&word| u32::from(u16::from_be_bytes(word)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "eleven words carry once, or twice by one")]
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags() -> impl Iterator<Item = Tag> {
        let mut rng = fastrand::Rng::with_seed(1);
        let ends = [0, u32::MAX].map(|all| Tag {
            run: u16::try_from(all & 0xffff).unwrap(),
            flow: all & !FATE,
            sequence: all,
            due_ns: u64::from(all) << 32 | u64::from(all),
            fate: if all == 0 { Fate::Pass } else { Fate::Drop },
        });
        let random = (0..1000).map(move |_| Tag {
            run: rng.u16(..),
            flow: rng.u32(..FATE),
            sequence: rng.u32(..),
            due_ns: rng.u64(..),
            fate: if rng.bool() { Fate::Pass } else { Fate::Drop },
        });
        ends.into_iter().chain(random)
    }

    #[test]
    fn what_is_written_is_read() {
        for tag in tags() {
            let mut payload = tag.bytes().to_vec();
            payload.extend([1; 40]);
            assert_eq!(Tag::read(&payload), Ok(tag));
        }
    }

    #[test]
    fn one_bit_that_changed_is_seen() {
        for tag in tags().take(20) {
            for bit in 0..8 * LEN {
                let mut bytes = tag.bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let found = Tag::read(&bytes).unwrap_err();
                assert_eq!(found, if bit < 16 { NoTag::Foreign } else { NoTag::Damaged }, "{tag:?}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_payload_that_is_short_or_another_is_foreign() {
        for payload in [&[][..], &[0; LEN], &[0xff; LEN - 1], &[0x55; 100]] {
            assert_eq!(Tag::read(payload), Err(NoTag::Foreign));
        }
    }
}

//! Bytes: a packet as u32 keys address it.

use crate::packet::Packet;

/// Bytes of an Ethernet header.
const ETHERNET: i64 = 14;

/// Where the ethertype in front of the L3 header begins.
const ETHERTYPE: i64 = -2;

/// A frame addressed from its L3 header on, as Linux shows it to u32: the outer VLAN tag is not there, so that the
/// addresses lie at -14 and -8 and the L3 header's own ethertype at -2, tagged or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    frame: &'a [u8],
    /// Where L3 begins.
    l3: usize,
}

impl<'a> Bytes<'a> {
    /// `frame`, of which `packet` is the parse.
    #[inline]
    pub(crate) fn new(frame: &'a [u8], packet: &Packet) -> Self {
        Bytes { frame, l3: (packet.len() - packet.l3_len()) as usize }
    }

    /// From the L3 header to the end.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.frame.len().saturating_sub(self.l3)
    }

    /// The 32 bits at `at`; nothing if they lie beyond the packet's end.
    #[inline]
    pub(crate) fn word(&self, at: i64) -> Option<u32> {
        self.get(at).map(u32::from_be_bytes)
    }

    /// The 16 bits at `at`.
    #[inline]
    pub(crate) fn half(&self, at: i64) -> Option<u16> {
        self.get(at).map(u16::from_be_bytes)
    }

    #[inline]
    fn get<const N: usize>(&self, at: i64) -> Option<[u8; N]> {
        if at < ETHERTYPE {
            return self.get_from_addresses(at);
        }
        let start = usize::try_from(at + i64::try_from(self.l3).ok()?).ok()?;
        self.frame.get(start..)?.first_chunk().copied()
    }

    /// For words that begin within or before the addresses. tc aligns words to 4 bytes from L3 on, so that the first one
    /// begins two bytes before the frame: what is not there reads as 0.
    fn get_from_addresses<const N: usize>(&self, at: i64) -> Option<[u8; N]> {
        let end = at + i64::try_from(N).ok()?;
        let mut bytes = [0; N];
        for (at, byte) in (at..end).zip(&mut bytes) {
            let from = if at < ETHERTYPE { ETHERNET } else { i64::try_from(self.l3).ok()? };
            if let Ok(place) = usize::try_from(at + from) {
                *byte = *self.frame.get(place)?;
            }
        }
        (end > -ETHERNET).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortId;

    /// Addresses 1 to 12, then the tags, ethertype 0x88b5, and 10, 20, 30, 40, 50.
    fn frame(tags: &[u8]) -> Vec<u8> {
        [&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], tags, &[0x88, 0xb5, 10, 20, 30, 40, 50]].concat()
    }

    fn word(frame: &[u8], at: i64) -> Option<[u8; 4]> {
        let packet = Packet::parse(frame, PortId(0)).unwrap();
        Bytes::new(frame, &packet).word(at).map(u32::to_be_bytes)
    }

    /// [U3-2]
    #[test]
    fn a_tag_is_as_if_it_were_not_there() {
        for tags in [&[][..], &[0x81, 0, 0, 7]] {
            let frame = frame(tags);
            assert_eq!(word(&frame, 0), Some([10, 20, 30, 40]));
            assert_eq!(word(&frame, -2), Some([0x88, 0xb5, 10, 20]));
            assert_eq!(word(&frame, -3), Some([12, 0x88, 0xb5, 10]));
            assert_eq!(word(&frame, -4), Some([11, 12, 0x88, 0xb5]));
            assert_eq!(word(&frame, -14), Some([1, 2, 3, 4]));
        }
        assert_eq!(
            word(&frame(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]), 0),
            Some([0, 8, 0x88, 0xb5]),
            "the inner tag is L3"
        );
    }

    /// [U3-4]
    #[test]
    fn beyond_either_end_there_is_nothing() {
        let frame = frame(&[]);
        assert_eq!(word(&frame, 1), Some([20, 30, 40, 50]));
        for at in [2, 3, 5, 6, 1000, i64::from(i32::MAX), -18, -19, i64::from(i32::MIN)] {
            assert_eq!(word(&frame, at), None, "at {at}");
        }
        assert_eq!(word(&frame, -16), Some([0, 0, 1, 2]), "tc reaches the first address at -14 with this word");
    }
}

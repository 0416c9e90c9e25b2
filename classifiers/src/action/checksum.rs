//! Checksums of the Internet: of bytes [RFC 1071], and after a change of four of them [RFC 1624].

/// The sum of the 16-bit words of `bytes`, beside what was summed up before.
pub(super) fn sum(before: u32, bytes: &[u8]) -> u32 {
    let (words, last) = bytes.as_chunks::<2>();
    let words = words.iter().fold(before, |sum, word| add(sum, u16::from_be_bytes(*word)));
    last.iter().fold(words, |sum, byte| add(sum, u16::from(*byte) << 8))
}

/// Adds a word.
pub(super) fn add(sum: u32, word: u16) -> u32 {
    let sum = sum + u32::from(word);
    (sum & 0xffff) + (sum >> 16)
}

/// The checksum for a sum.
pub(super) fn finish(sum: u32) -> [u8; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "a sum has carried over all that is above 16 bits")]
    let sum = sum as u16;
    (!sum).to_be_bytes()
}

/// Changes the checksum in `field` as four of the bytes that it covers have changed.
pub(super) fn update(field: &mut [u8; 2], old: [u8; 4], new: [u8; 4]) {
    let before = sum(0, &field.map(|byte| !byte));
    let without = sum(before, &old.map(|byte| !byte));
    *field = finish(sum(without, &new));
}

/// CRC-32c, as SCTP has it, of `bytes` in parts.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = table();
    let all = parts.iter().flat_map(|part| part.iter());
    !all.fold(!0, |crc: u32, byte| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82f6_3b78 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfcs_hold() {
        assert_eq!(finish(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), (!0xddf2_u16).to_be_bytes());
        let mut field = 0xdd2f_u16.to_be_bytes(); // RFC 1624, section 4: 0x5555 becomes 0x3285
        update(&mut field, [0x55, 0x55, 0, 0], [0x32, 0x85, 0, 0]);
        assert_eq!(field, [0, 0]);
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }
}

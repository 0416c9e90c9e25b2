//! Pcap: packets in the form that tcpdump and Wireshark read.

use std::io::{self, Write};

/// Most bytes of a packet, as programs that read it expect.
const SNAP_LEN: u32 = 262_144;
/// Packets begin with an Ethernet header.
const ETHERNET: u32 = 1;

/// Writes what comes first.
///
/// # Errors
/// As `out`.
pub fn write_header(out: &mut impl Write) -> io::Result<()> {
    let version = 2 | 4 << 16;
    for word in [0xa1b2_c3d4, version, 0, 0, SNAP_LEN, ETHERNET] {
        out.write_all(&u32::to_le_bytes(word))?;
    }
    Ok(())
}

/// Writes a packet of `length` bytes, seen `time_us` us after 1970, of which `bytes` is the beginning.
///
/// # Errors
/// As `out`; `InvalidInput` if this cannot be said.
pub fn write_packet(out: &mut impl Write, time_us: u64, length: u32, bytes: &[u8]) -> io::Result<()> {
    let word = |number: u64| u32::try_from(number).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e));
    let kept = u32::try_from(bytes.len()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    for word in [word(time_us / 1_000_000)?, word(time_us % 1_000_000)?, kept, length] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte as in draft-ietf-opsawg-pcap.
    #[test]
    fn a_file_is_a_header_and_packets() {
        let mut out = Vec::new();
        write_header(&mut out).unwrap();
        write_packet(&mut out, 3_000_002, 60, &[7; 3]).unwrap();
        let header = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        let packet = [3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 60, 0, 0, 0, 7, 7, 7];
        assert_eq!(out, [&header[..], &packet[..]].concat());
        assert!(write_packet(&mut out, u64::MAX, 60, &[]).is_err());
    }
}

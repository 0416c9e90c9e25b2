//! Rates and sizes as tc has them: `10mbit`, `64k`.

/// Suffixes of rates, and bits a second of one. Without a suffix, bits.
const RATES: [(&str, f64); 19] = [
    ("", 1.0),
    ("bit", 1.0),
    ("kbit", 1e3),
    ("mbit", 1e6),
    ("gbit", 1e9),
    ("tbit", 1e12),
    ("kibit", 1024.0),
    ("mibit", 1_048_576.0),
    ("gibit", 1_073_741_824.0),
    ("tibit", 1_099_511_627_776.0),
    ("bps", 8.0),
    ("kbps", 8e3),
    ("mbps", 8e6),
    ("gbps", 8e9),
    ("tbps", 8e12),
    ("kibps", 8_192.0),
    ("mibps", 8_388_608.0),
    ("gibps", 8_589_934_592.0),
    ("tibps", 8_796_093_022_208.0),
];

/// Suffixes of sizes, and bytes of one. Without a suffix, bytes.
const SIZES: [(&str, f64); 11] = [
    ("", 1.0),
    ("b", 1.0),
    ("k", 1024.0),
    ("kb", 1024.0),
    ("m", 1_048_576.0),
    ("mb", 1_048_576.0),
    ("g", 1_073_741_824.0),
    ("gb", 1_073_741_824.0),
    ("kbit", 128.0),
    ("mbit", 131_072.0),
    ("gbit", 134_217_728.0),
];

/// Bytes a second: `10mbit`, `1.5gbit`, `64kbps`, the last one in bytes. Nothing if it is no rate, or below a byte.
pub fn rate(text: &str) -> Option<u64> {
    // All numbers below 2^53 bytes a second are exact.
    let bytes = quantity(text, &RATES)? / 8.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    (1.0..9e15).contains(&bytes).then_some(bytes as u64)
}

/// Bytes: `64k`, `1500`, `1500b`. Nothing if it is no size, or 4 GiB and more.
pub fn size(text: &str) -> Option<u32> {
    let bytes = quantity(text, &SIZES)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    (0.0..4_294_967_296.0).contains(&bytes).then_some(bytes as u32)
}

fn quantity(text: &str, suffixes: &[(&str, f64)]) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = suffixes.iter().find(|(known, _)| known.eq_ignore_ascii_case(suffix))?.1;
    Some(number.parse::<f64>().ok()? * unit)
}

/// The inverse of [`rate`].
pub(crate) fn show_rate(bytes: u64) -> String {
    let units = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
    show(bytes * 8, &units)
}

/// The inverse of [`size`].
pub(crate) fn show_size(bytes: u32) -> String {
    show(bytes.into(), &[("m", 1 << 20), ("k", 1 << 10), ("b", 1)])
}

/// In the largest unit that gives a whole number.
fn show(quantity: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, unit): &&(&str, u64)| quantity > 0 && quantity.is_multiple_of(*unit);
    units.iter().find(fits).map_or_else(|| quantity.to_string(), |(name, unit)| format!("{}{name}", quantity / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_sizes_are_those_of_tc() {
        assert_eq!(
            ["1mbit", "1MBit", "8000", "1kbps", "1.5kbit"].map(rate),
            [125_000, 125_000, 1000, 1000, 187].map(Some)
        );
        assert_eq!(["3tb", "100T", "", "mbit", "-1mbit", "1 mbit", "4bit", "0", "inf", "nan"].map(rate), [None; 10]);
        assert_eq!(["10k", "10KB", "1m", "1500", "8kbit"].map(size), [10_240, 10_240, 1 << 20, 1500, 1024].map(Some));
        assert_eq!(["250P", "2Pbit", "4g", "k", "-1"].map(size), [None; 5]);
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for bytes in [1, 125, 187, 125_000, 1_250_000_000, 1_250_000_001] {
            assert_eq!(rate(&show_rate(bytes)), Some(bytes), "{}", show_rate(bytes));
        }
        for bytes in [0, 1, 1500, 2048, 1 << 20, u32::MAX] {
            assert_eq!(size(&show_size(bytes)), Some(bytes), "{}", show_size(bytes));
        }
    }
}

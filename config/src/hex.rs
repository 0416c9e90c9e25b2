//! Bytes as hexadecimal digits, two each.

use std::fmt::Write;

/// The digits of `bytes`.
pub fn show(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| _ = write!(digits, "{byte:02x}"));
    digits
}

/// The bytes that `digits` stand for; nothing if they are not two each.
pub fn parse(digits: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| {
        let pair = str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

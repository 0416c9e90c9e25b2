//! Rule sets of ClassBench, as files: rules, headers with the rule each matches, orders of headers.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use ruzstd::decoding::StreamingDecoder;

use crate::rule_set::{Answer, Header, Prefix, Range, Rule, RuleSet, Version};

/// The set called `name` in `folder`, such as `acl1_10k`.
///
/// # Errors
/// If a file is missing, or a line of it is not what the folder's README says.
pub(crate) fn load(folder: &Path, name: &str) -> Result<RuleSet> {
    let rules = lines(folder, &format!("{name}.rules"), rule)?;
    let (headers, labels) = lines(folder, &format!("{name}.hdr"), header)?.into_iter().unzip();
    let set = RuleSet { version: Version::V4, rules, headers, labels: Some(labels) };
    let labels = set.labels.iter().flatten().flatten();
    ensure!(
        labels.into_iter().all(|&label| (label as usize) < set.rules.len()),
        "{name}.hdr names rules that are not there"
    );
    Ok(set)
}

/// The trace called `name`: indices of headers.
///
/// # Errors
/// As [`load`].
pub(crate) fn trace(folder: &Path, name: &str) -> Result<Vec<u32>> {
    lines(folder, &format!("order_{name}.idx"), |line| line.parse().ok())
}

/// What `parse` makes of each line.
fn lines<T>(folder: &Path, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let path = folder.join(format!("{name}.zst"));
    let text = unpacked(&path).with_context(|| path.display().to_string())?;
    let parsed = (1..).zip(text.lines()).map(|(number, line)| {
        parse(line).with_context(|| format!("{}:{number}: not what the README there says: {line}", path.display()))
    });
    parsed.collect()
}

fn unpacked(path: &Path) -> Result<String> {
    let mut text = String::new();
    StreamingDecoder::new(File::open(path)?)?.read_to_string(&mut text)?;
    Ok(text)
}

/// `@SRC/len TAB DST/len TAB SPLO : SPHI TAB DPLO : DPHI TAB PROTO/MASK`
fn rule(line: &str) -> Option<Rule> {
    let [src, dst, src_ports, dst_ports, proto] = parts(line.strip_prefix('@')?, '\t')?;
    Some(Rule {
        src: prefix(src)?,
        dst: prefix(dst)?,
        src_ports: range(src_ports)?,
        dst_ports: range(dst_ports)?,
        proto: self::proto(proto)?,
    })
}

fn prefix(text: &str) -> Option<Prefix> {
    let (address, len) = text.split_once('/')?;
    let address = u32::from(std::net::Ipv4Addr::from_str(address).ok()?);
    let len = len.parse().ok().filter(|&len| len <= Version::V4.bits())?;
    Some(Prefix::new(Version::V4, address.into(), len))
}

fn range(text: &str) -> Option<Range> {
    let (least, most) = text.split_once(" : ")?;
    let (least, most) = (least.parse().ok()?, most.parse().ok()?);
    (least <= most).then_some((least, most))
}

/// A protocol, or any.
fn proto(text: &str) -> Option<Option<u8>> {
    let hex = |text: &str| u8::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (value, mask) = text.split_once('/')?;
    match (hex(value)?, hex(mask)?) {
        (proto, 0xff) => Some(Some(proto)),
        (0, 0) => Some(None),
        _ => None,
    }
}

/// `src dst sport dport proto match`, by TAB; a match of -1 is none.
fn header(line: &str) -> Option<(Header, Answer)> {
    let [src, dst, src_port, dst_port, proto, label] = parts(line, '\t')?;
    let address = |text: &str| text.parse::<u32>().ok().map(u128::from);
    let header = Header {
        src: address(src)?,
        dst: address(dst)?,
        src_port: src_port.parse().ok()?,
        dst_port: dst_port.parse().ok()?,
        proto: proto.parse().ok()?,
    };
    let label = if label == "-1" { None } else { Some(label.parse().ok()?) };
    Some((header, label))
}

/// Exactly so many.
fn parts<const N: usize>(line: &str, by: char) -> Option<[&str; N]> {
    line.split(by).collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::rule_set::ANY_PORT;

    const RULES: &str = "@71.174.134.160/32\t150.157.24.0/24\t0 : 65535\t1525 : 1526\t0x06/0xFF\n\
                         @0.0.0.0/0\t150.157.24.134/32\t0 : 65535\t0 : 65535\t0x00/0x00\n";
    const HEADERS: &str = "1202620064\t2526877830\t57053\t1526\t6\t0\n1202620064\t2526877830\t57053\t1527\t6\t1\n\
                           0\t0\t1\t1\t17\t-1\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let packed = compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
            fs::write(folder.path().join(format!("{name}.zst")), packed).unwrap();
        }
        folder
    }

    #[test]
    fn a_set_is_read_and_its_labels_are_right() {
        let folder = folder(&[("tiny.rules", RULES), ("tiny.hdr", HEADERS), ("order_back.idx", "2\n1\n0\n")]);
        let set = load(folder.path(), "tiny").unwrap();
        let narrow = Rule {
            src: Prefix { value: 0x47ae_86a0, mask: 0xffff_ffff },
            dst: Prefix { value: 0x969d_1800, mask: 0xffff_ff00 },
            src_ports: ANY_PORT,
            dst_ports: (1525, 1526),
            proto: Some(6),
        };
        let any = Prefix { value: 0, mask: 0 };
        let dst = Prefix { value: 0x969d_1886, mask: 0xffff_ffff };
        let wide = Rule { src: any, dst, src_ports: ANY_PORT, dst_ports: ANY_PORT, proto: None };
        assert_eq!(set.rules, [narrow, wide]);
        let found: Vec<Answer> = set.headers.iter().map(|header| set.search(&[0, 1], header)).collect();
        assert_eq!((Some(&found), found.len()), (set.labels.as_ref(), 3));
        assert_eq!(trace(folder.path(), "back").unwrap(), [2, 1, 0]);
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_place() {
        for wrong in [
            "71.174.134.160/32\t1.1.1.1/24\t0 : 65535\t1 : 2\t0x06/0xFF",
            "@71.174.134.160/33\t1.1.1.1/24\t0 : 65535\t1 : 2\t0x06/0xFF",
            "@71.174.134.160/32\t1.1.1.1/24\t0 : 65536\t1 : 2\t0x06/0xFF",
            "@71.174.134.160/32\t1.1.1.1/24\t0 : 65535\t2 : 1\t0x06/0xFF",
            "@71.174.134.160/32\t1.1.1.1/24\t0 : 65535\t1 : 2\t0x06/0xF0",
            "@71.174.134.160/32\t1.1.1.1/24\t0 : 65535\t1 : 2\t0x06/0xFF\tmore",
        ] {
            let folder = folder(&[("wrong.rules", &format!("{RULES}{wrong}\n")), ("wrong.hdr", HEADERS)]);
            let error = format!("{:#}", load(folder.path(), "wrong").unwrap_err());
            assert!(error.contains("wrong.rules.zst:3: ") && error.ends_with(wrong), "{error}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_and_so_is_a_rule_that_is_not_there() {
        for (wrong, place) in [("1\t2\t3\t4\t256\t0\n", "wrong.hdr.zst:1: "), ("1\t2\t3\t4\t6\t2\n", "not there")] {
            let folder = folder(&[("wrong.rules", RULES), ("wrong.hdr", wrong)]);
            let error = format!("{:#}", load(folder.path(), "wrong").unwrap_err());
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let folder = folder(&[]);
        let error = format!("{:#}", load(folder.path(), "acl1_1k").unwrap_err());
        assert!(error.contains("acl1_1k.rules.zst: "), "{error}");
    }
}

//! librte_acl, to compare with: a program of ours in C, `bench/acl.c`, which waits between two turns.

use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::disturbance::waited_by;
use crate::figure::SpeedRound;
use crate::rule_set::{Answer, Header, Rule, RuleSet, Version};

/// The program's name; it lies beside this one.
const PROGRAM: &str = "tidegate-bench-acl";

/// A set that librte_acl has built. Ends with its owner.
#[derive(Debug)]
pub(crate) struct Acl {
    child: Child,
    wishes: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// How long the build took.
    pub(crate) build: Duration,
    /// What lookups use of memory.
    pub(crate) bytes: u64,
}

impl Acl {
    /// Where the program is.
    ///
    /// # Errors
    /// If it was not built.
    pub(crate) fn program() -> Result<PathBuf> {
        let path = std::env::current_exe()?.with_file_name(PROGRAM);
        let missing =
            || format!("{} is not there: ./dev bench classify installs libdpdk-dev and builds it", path.display());
        ensure!(path.exists(), missing());
        Ok(path)
    }

    /// Has it build a set whose rules have priorities by `ranks`, to look up headers in the order of `trace` on `core`.
    ///
    /// # Errors
    /// If the program does not start, or ends.
    pub(crate) fn new(program: &Path, core: u16, set: &RuleSet, ranks: &[u32], trace: &[u32]) -> Result<Acl> {
        let mut command = Command::new(program);
        command.arg(core.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let (wishes, answers) = (child.stdin.take().context("no pipe")?, child.stdout.take().context("no pipe")?);
        let mut acl = Acl { child, wishes, answers: BufReader::new(answers), build: Duration::ZERO, bytes: 0 };
        let written = write_set(&mut BufWriter::new(&acl.wishes), set, ranks, trace);
        let built = acl.answer()?; // it says more than that it cannot be written to
        written?;
        let [word, seconds, bytes] = words(&built)?;
        ensure!(word == "built", "it said {built}");
        acl.build = Duration::from_secs_f64(number(seconds)?);
        acl.bytes = number(bytes)?;
        Ok(acl)
    }

    /// What it finds for each header.
    ///
    /// # Errors
    /// If the program ends, as with the others.
    pub(crate) fn answers(&mut self) -> Result<Vec<Answer>> {
        let line = self.ask("answers")?;
        line.split(' ').map(|id| if id == "-1" { Ok(None) } else { number(id).map(Some) }).collect()
    }

    /// Has it find the fastest variant and batch, which it keeps to; in words.
    pub(crate) fn tune(&mut self) -> Result<String> {
        let line = self.ask("tune")?;
        let [variant, batch] = words(&line)?;
        Ok(format!("{variant}, {batch}"))
    }

    /// Looks headers up for `span`.
    pub(crate) fn round(&mut self, span: Duration) -> Result<SpeedRound> {
        let folder = PathBuf::from(format!("/proc/{}", self.child.id()));
        let waited_before = waited_by(&folder)?;
        let line = self.ask(&format!("round {}", span.as_secs_f64()))?;
        let [lookups, seconds] = words(&line)?;
        let took = Duration::from_secs_f64(number(seconds)?);
        let core_lost = (waited_by(&folder)? - waited_before).div_duration_f64(took);
        Ok(SpeedRound::new(number(lookups)?, took, core_lost))
    }

    fn ask(&mut self, wish: &str) -> Result<String> {
        writeln!(self.wishes, "{wish}")?;
        self.answer()
    }

    /// The next line; what it complained of, if it ended.
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.pop() != Some('\n') {
            let mut complaint = String::new();
            self.child.stderr.take().context("it ended before")?.read_to_string(&mut complaint)?;
            bail!("{PROGRAM} ended: {} ({})", complaint.trim(), self.child.wait()?);
        }
        Ok(line)
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // It may have ended before; then there is nothing to end, and nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As `bench/acl.c` wants it.
fn write_set(to: &mut impl Write, set: &RuleSet, ranks: &[u32], trace: &[u32]) -> Result<()> {
    let words = set.version.bits() / 32;
    writeln!(to, "{words} {} {} {}", set.rules.len(), set.headers.len(), trace.len())?;
    for (rule, rank) in set.rules.iter().zip(ranks) {
        let Rule { src, dst, src_ports: (sport, sport_most), dst_ports: (dport, dport_most), proto } = rule;
        for prefix in [src, dst] {
            write!(to, "{} {} ", Address(set.version, prefix.value), prefix.len())?;
        }
        let (proto, mask) = proto.map_or((0, 0), |proto| (proto, u8::MAX));
        writeln!(to, "{sport} {sport_most} {dport} {dport_most} {proto} {mask} {rank}")?;
    }
    for Header { src, dst, src_port, dst_port, proto } in &set.headers {
        let [src, dst] = [*src, *dst].map(|address| Address(set.version, address));
        writeln!(to, "{src} {dst} {src_port} {dst_port} {proto}")?;
    }
    for header in trace {
        writeln!(to, "{header}")?;
    }
    Ok(to.flush()?)
}

/// Its words of 32 bits, the first on the wire first.
struct Address(Version, u128);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Address(version, address) = self;
        match version {
            Version::V4 => write!(f, "{address}"),
            Version::V6 => {
                for shift in [96, 64, 32, 0] {
                    let last = if shift == 0 { "" } else { " " };
                    write!(f, "{}{last}", address >> shift & u128::from(u32::MAX))?;
                }
                Ok(())
            }
        }
    }
}

/// Exactly so many.
fn words<const N: usize>(line: &str) -> Result<[&str; N]> {
    line.split(' ').collect::<Vec<_>>().try_into().map_err(|_| anyhow::anyhow!("it said {line}"))
}

fn number<T: FromStr>(word: &str) -> Result<T> {
    word.parse().ok().with_context(|| format!("it said {word}, which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_set::Prefix;

    fn written(version: Version, address: u128, len: u8) -> String {
        let (src, dst) = (Prefix::new(version, address, len), Prefix::new(version, 0, 0));
        let rule = Rule { src, dst, src_ports: (1, 2), dst_ports: (0, 65535), proto: Some(6) };
        let header = Header { src: address, dst: 7, src_port: 1, dst_port: 2, proto: 17 };
        let rules = vec![rule, Rule { proto: None, ..rule }];
        let set = RuleSet { version, rules, headers: vec![header], labels: None };
        let mut text = Vec::new();
        write_set(&mut text, &set, &[1, 0], &[0, 0, 0]).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_set_is_written_as_the_program_reads_it() {
        assert_eq!(
            written(Version::V4, 0x0a01_0203, 8),
            "1 2 1 3\n167772160 8 0 0 1 2 0 65535 6 255 1\n167772160 8 0 0 1 2 0 65535 0 0 0\n167838211 7 1 2 17\n0\n0\n0\n"
        );
        assert_eq!(
            written(Version::V6, 0x2000_0001_0000_0002_0000_0003_0000_0004, 64),
            "4 2 1 3\n536870913 2 0 0 64 0 0 0 0 0 1 2 0 65535 6 255 1\n536870913 2 0 0 64 0 0 0 0 0 1 2 0 65535 0 0 0\n\
             536870913 2 3 4 0 0 0 7 1 2 17\n0\n0\n0\n"
        );
    }

    #[test]
    fn what_the_program_says_is_taken_apart_or_refused() {
        assert_eq!(words::<2>("avx2 64").unwrap(), ["avx2", "64"]);
        assert!(words::<2>("avx2").is_err() && words::<2>("a b c").is_err());
        assert_eq!(number::<u64>("12").unwrap(), 12);
        assert!(number::<u64>("-1").is_err());
    }

    #[test]
    fn a_program_that_ends_is_told_of_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("dying");
        std::fs::write(&program, "#!/bin/sh\necho no memory >&2; exit 3\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let set = RuleSet { version: Version::V4, rules: Vec::new(), headers: Vec::new(), labels: None };
        let error = Acl::new(&program, 0, &set, &[], &[]).unwrap_err().to_string();
        assert!(error.contains("no memory") && error.contains('3'), "{error}");
    }
}

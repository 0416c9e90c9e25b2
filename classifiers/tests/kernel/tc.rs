use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_classifiers::request::{ActionKind, KindName};

use crate::generate::Offer;
use crate::netns::Netns;

/// The real tc, in a namespace.
pub(crate) struct Tc<'a> {
    netns: &'a Netns,
    shim: PathBuf,
}

/// One command of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// As tc wants it.
    pub(crate) command: String,
    /// Whether tc prints JSON if it succeeds. What it cannot find by itself is printed as null: it asks for the devices of
    /// a block before it asks for the block's content.
    pub(crate) prints: bool,
}

/// What a command printed, or the errno it was refused with.
pub(crate) type Reply = Result<Option<Value>, String>;

/// tc prints either the kernel's words or the errno. This takes the words away: "no extended acknowledgements here".
const SHIM: &str = r"
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    if (level == 270 && name == 11) { errno = ENOPROTOOPT; return -1; } /* SOL_NETLINK, NETLINK_EXT_ACK */
    return syscall(SYS_setsockopt, fd, level, name, value, len);
}
";

impl<'a> Tc<'a> {
    pub(crate) fn new(netns: &'a Netns) -> Result<Tc<'a>, String> {
        let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.so", netns.name()));
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-x", "c", "-o"])
            .args([shim.as_os_str(), "-".as_ref()])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cc: {error}"))?;
        compiler.stdin.take().expect("it is piped").write_all(SHIM.as_bytes()).map_err(|error| error.to_string())?;
        let status = compiler.wait().map_err(|error| error.to_string())?;
        status.success().then_some(Tc { netns, shim }).ok_or_else(|| "cc failed".to_owned())
    }

    /// Runs the commands one after the other; a refused one does not stop the others.
    ///
    /// # Panics
    /// If tc refuses one by itself: such a script tests nothing.
    pub(crate) fn run(&self, lines: &[Line]) -> Vec<Reply> {
        let mut child = Command::new("tc")
            .args(["-netns", self.netns.name(), "-json", "-statistics", "-force", "-batch", "-"])
            .env("LD_PRELOAD", &self.shim)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tc starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let script: String = lines.iter().map(|line| format!("{}\n", line.command)).collect();
        let feed = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
        let output = child.wait_with_output().expect("tc ends");
        let fed = feed.join().expect("no panic there");

        let stderr = String::from_utf8_lossy(&output.stderr);
        let refused = refusals(&stderr);
        let complete = fed.is_ok() && matches!(output.status.code(), Some(0 | 1));
        assert!(complete, "tc gave up: {}\n{stderr}", output.status);
        let stdout = with_fw_as_json(&String::from_utf8_lossy(&output.stdout));
        let mut printed = serde_json::Deserializer::from_str(&stdout).into_iter::<Value>();
        let mut reply = |(number, line): (usize, &Line)| match refused.get(&(number + 1)) {
            Some(Some(errno)) => Err(errno.clone()),
            Some(None) if line.prints => Ok(Some(Value::Null)),
            Some(None) => panic!("tc refuses `{}` by itself:\n{stderr}", line.command),
            None if line.prints => {
                let document = printed.next().expect("a document");
                Ok(Some(document.unwrap_or_else(|error| panic!("{error}: {stdout}"))))
            }
            None => Ok(None),
        };
        let replies = lines.iter().enumerate().map(&mut reply).collect();
        assert!(printed.next().is_none(), "tc printed more than was asked for");
        replies
    }

    /// Runs one command; the errno if it is refused.
    pub(crate) fn try_one(&self, command: &str) -> Reply {
        self.run(&[Line { command: command.to_owned(), prints: false }]).remove(0)
    }

    /// Kinds that the kernel has: all others would be "not found".
    pub(crate) fn offer(&self) -> Offer {
        self.try_one("qdisc add dev q0 clsact").unwrap();
        let works = |command: &str| self.try_one(command).is_ok();
        let filters = [
            (KindName::U32, "u32 match u32 0 0"),
            (KindName::Flower, "flower"),
            (KindName::Matchall, "matchall classid 1:1"),
            (KindName::Fw, "handle 1 fw action mirred egress redirect dev p2"),
        ];
        let filter = |text: &str| format!("filter add dev q0 ingress protocol ip {text}");
        let kinds = filters.into_iter().filter(|(_, text)| works(&filter(text))).map(|(kind, _)| kind).collect();
        let actions = [(ActionKind::Mirred, "mirred egress redirect dev p2"), (ActionKind::Gact, "gact drop")];
        let action = |text: &str| format!("actions add action {text} index 99");
        let actions = actions.into_iter().filter(|(_, text)| works(&action(text))).map(|(kind, _)| kind).collect();
        self.try_one("qdisc delete dev q0 clsact").unwrap();
        Offer { kinds, actions }
    }
}

impl Drop for Tc<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.shim);
    }
}

/// Of fw, older versions of tc print `{handle 0x3/0xff classid 1:1 "actions":...`.
fn with_fw_as_json(printed: &str) -> String {
    let mut parts = printed.split("{handle ");
    let mut json = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (words, rest) = part.split_at(part.find(['}', '"']).unwrap_or(part.len()));
        let handle = words.split(' ').next().unwrap_or_default();
        let (handle, mask) = handle.split_once('/').unwrap_or((handle, "0xffffffff"));
        let comma = if rest.starts_with('"') { "," } else { "" };
        json += &format!(r#"{{"handle":"{handle}","mask":"{mask}"{comma}{rest}"#);
    }
    json
}

/// Which lines failed, with the errno where it was the kernel that refused.
fn refusals(stderr: &str) -> BTreeMap<usize, Option<String>> {
    let mut refused = BTreeMap::new();
    let mut errno = None;
    for line in stderr.lines() {
        if let Some(words) = line.strip_prefix("RTNETLINK answers: ") {
            errno = Some(name(words));
        } else if let Some(number) = line.strip_prefix("Command failed -:") {
            refused.insert(number.parse().expect("a line number"), errno.take());
        }
    }
    refused
}

/// The errno that has these words.
fn name(words: &str) -> String {
    let name = match words {
        "No such file or directory" => "ENOENT",
        "File exists" => "EEXIST",
        "Invalid argument" => "EINVAL",
        "No space left on device" => "ENOSPC",
        "Operation not supported" => "EOPNOTSUPP",
        "Device or resource busy" => "EBUSY",
        "Operation not permitted" => "EPERM",
        "No such device" => "ENODEV",
        "Numerical result out of range" => "ERANGE",
        "Cannot allocate memory" => "ENOMEM",
        other => other,
    };
    name.to_owned()
}

//! Case: one case of the data, and how it is run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use regex::{Captures, Regex, RegexBuilder};
use serde_json::Value;

use crate::gateway::Gateway;
use crate::shell::{self, Ended};

/// One case.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) name: String,
    data: Value,
}

/// What `$NAME` stands for.
pub(crate) struct Names(BTreeMap<&'static str, String>);

impl Names {
    pub(crate) fn new(gateway: &Gateway) -> Names {
        let path = |name: &str| gateway.scratch(name).display().to_string();
        Names(BTreeMap::from([
            ("TC", gateway.tc().display().to_string()),
            ("DEV0", "v0p0".into()),
            ("DEV1", "v0p1".into()),
            ("DEV2", "dev2".into()),
            ("DUMMY", "dummy1".into()),
            ("BATCH_FILE", path("batch.txt")),
            ("BATCH_DIR", path("batches")),
        ]))
    }

    /// `text` with every name replaced that is known.
    fn replace(&self, text: &str) -> Result<String> {
        let name = Regex::new(r"\$\{?([A-Z][A-Z0-9_]*)\}?")?;
        let value = |found: &Captures<'_>| match self.0.get(&found[1]) {
            Some(value) => value.clone(),
            None => found[0].to_owned(),
        };
        Ok(name.replace_all(text, value).into_owned())
    }
}

impl Case {
    /// The cases of a file.
    pub(crate) fn read(file: &Path) -> Result<Vec<Case>> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let cases: Vec<Value> = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        let case = |data: Value| {
            let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
            Case { id: text("id"), name: text("name"), data }
        };
        Ok(cases.into_iter().map(case).collect())
    }

    /// Whether it is about something that a gateway could have: no queues that send, no actions on what it does not keep.
    pub(crate) fn is_for_us(&self) -> bool {
        let text = self.data.to_string();
        let foreign = ["root handle 1: prio", "handle 10: drr"].into_iter().any(|qdisc| text.contains(qdisc));
        let kinds = ["mpls", "bpf", "connmark", "ct", "ctinfo", "gate", "ife", "skbmod"];
        let verify = self.data["cmdUnderTest"].as_str().unwrap_or_default();
        !foreign && !kinds.into_iter().any(|kind| verify.contains(&format!("action {kind} ")))
    }

    /// Runs it in the folder of the data, each command for `limit` at most; how long its own command took.
    pub(crate) fn run(&self, names: &Names, folder: &Path, limit: Duration) -> Result<Duration> {
        for step in self.steps("setup") {
            Step::new(step)?.run(names, folder, limit).context("setup")?;
        }
        let tested = self.tested(names, folder, limit);
        for step in self.steps("teardown") {
            let done = Step::new(step)?.run(names, folder, limit).context("teardown");
            if tested.is_ok() {
                done?;
            }
        }
        tested
    }

    fn tested(&self, names: &Names, folder: &Path, limit: Duration) -> Result<Duration> {
        let ended = shell::run(&names.replace(self.text("cmdUnderTest")?)?, folder, limit)?;
        let expected: i32 = self.text("expExitCode")?.parse()?;
        ensure!(ended.code == expected, "exit code {} instead of {expected}: {}", ended.code, brief(&ended.output));
        let Ended { output, .. } = shell::run(&names.replace(self.text("verifyCmd")?)?, folder, limit)?;
        match self.data.get("matchJSON") {
            Some(wanted) => {
                let found = serde_json::from_str(&output).with_context(|| brief(&output))?;
                ensure!(includes(&found, wanted), "{} has not what {wanted} has", brief(&output));
            }
            None => {
                let pattern = names.replace(self.text("matchPattern")?)?;
                let pattern = RegexBuilder::new(&pattern).multi_line(true).dot_matches_new_line(true).build()?;
                let wanted: usize = self.text("matchCount")?.parse()?;
                let found = pattern.find_iter(&output).count();
                ensure!(found == wanted, "{found} instead of {wanted} matches of {pattern} in {}", brief(&output));
            }
        }
        Ok(ended.took)
    }

    fn steps(&self, key: &str) -> &[Value] {
        self.data[key].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.data[key].as_str().with_context(|| format!("no {key}"))
    }
}

/// A command of setup or teardown, and the exit codes it may have.
struct Step<'a> {
    command: &'a str,
    codes: Vec<i64>,
}

impl Step<'_> {
    fn new(step: &Value) -> Result<Step<'_>> {
        match step {
            Value::String(command) => Ok(Step { command, codes: vec![0] }),
            Value::Array(parts) => {
                let [Value::String(command), codes @ ..] = &parts[..] else { bail!("no command in {step}") };
                Ok(Step { command, codes: codes.iter().filter_map(Value::as_i64).collect() })
            }
            _ => bail!("no command in {step}"),
        }
    }

    fn run(&self, names: &Names, folder: &Path, limit: Duration) -> Result<()> {
        let ended = shell::run(&names.replace(self.command)?, folder, limit)?;
        let allowed = self.codes.contains(&ended.code.into());
        ensure!(allowed, "{}: exit code {}: {}", self.command, ended.code, brief(&ended.output));
        Ok(())
    }
}

/// Whether all of `wanted` is in `found`.
fn includes(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| includes(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.is_empty() == wanted.is_empty()
                && found.len() >= wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| includes(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

/// The beginning of `text`, on one line.
fn brief(text: &str) -> String {
    text.chars().take(300).collect::<String>().trim().replace('\n', "\\n")
}

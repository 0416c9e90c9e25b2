//! Command: what a command line asks for.

use serde_json::{Value, json};
use tidegate_client::wire::Request;

use crate::arguments::{Failure, Words, stands_for};
use crate::filter::Which;
use crate::printer::Style;
use crate::{action, chain, filter, qdisc};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// A request that answers with nothing to print.
    Do { request: Request, refused: Refused },
    /// Filters of one block, or of both hooks of a port.
    ShowFilters(Which),
    /// One filter.
    GetFilter { filter: Value, which: Which },
    /// Chains of one block.
    ShowChains(Which),
    /// One chain.
    GetChain { chain: Value, which: Which },
    /// All actions of a kind.
    ShowActions { kind: String },
    /// These actions.
    GetActions { keys: Vec<Value> },
    /// Hooks of a port, or of all.
    ShowQdiscs { port: Option<String> },
    /// What happens, until it is interrupted.
    Monitor,
    /// Only this text.
    Nothing(String),
}

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Exit code.
    pub(crate) code: u8,
    /// A line after the reason.
    pub(crate) trailer: &'static str,
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Replace,
    Change,
    Delete,
    Get,
    Show,
}

/// What comes before the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) style: Style,
    /// `-batch FILE`
    pub(crate) batch: Option<String>,
    /// `-force`: go on after a failure.
    pub(crate) force: bool,
    /// `-Version` or `-help`: print this, and nothing else.
    pub(crate) only: Option<String>,
}

/// Refusals of requests about actions [CL-2].
const ACTIONS_REFUSED: Refused = Refused { code: 255, trailer: "We have an error talking to the gateway" };
const FLUSH_REFUSED: Refused = Refused { code: 1, trailer: "We have an error flushing" };

const USAGE: &str = "\
Usage: tc [ OPTIONS ] OBJECT { COMMAND | help }
       tc [-force] -batch FILE
where  OBJECT := { qdisc | class | filter | chain | action | monitor }
       OPTIONS := { -s[tatistics] | -d[etails] | -j[son] | -p[retty] | -o[neline] | -br[ief] |
                    -N[umeric] | -n[etns] NAME | -force | -b[atch] FILE | -V[ersion] }
";

/// Reads the options, up to the object.
pub(crate) fn options(words: &mut Words<'_>) -> Result<Options, Failure> {
    let mut options = Options::default();
    while let Some(word) = words.peek().filter(|word| word.starts_with('-')) {
        words.next();
        let style = &mut options.style;
        let is = |name: &str| stands_for(word, name);
        match word {
            _ if is("-stats") || is("-statistics") => style.stats = true,
            _ if is("-details") || is("-raw") || is("-graph") || is("-iec") => {}
            _ if is("-pretty") => style.pretty = true,
            _ if is("-Version") => options.only = Some(format!("tc of tidegate {}\n", env!("CARGO_PKG_VERSION"))),
            _ if is("-help") => options.only = Some(USAGE.into()),
            _ if is("-force") => options.force = true,
            _ if is("-batch") => options.batch = Some(words.value()?.to_owned()),
            // The gateway's ports are the same from every namespace.
            _ if is("-netns") => _ = words.value()?,
            _ if is("-Numeric") || is("-names") || word == "-nm" => {}
            _ if is("-color") || word.starts_with("-color=") => {}
            _ if is("-timestamp") || is("-tshort") => {}
            _ if is("-json") => style.json = true,
            _ if is("-oneline") => style.oneline = true,
            _ if is("-brief") => style.brief = true,
            _ => return Err(Failure::syntax(format!("Option \"{word}\" is unknown, try \"tc -help\"."))),
        }
    }
    Ok(options)
}

/// Reads a command: an object and what to do with it.
pub(crate) fn command(words: &mut Words<'_>) -> Result<Command, Failure> {
    let Some(word) = words.next() else { return Ok(Command::Nothing(USAGE.into())) };
    let is = |name: &str| stands_for(word, name);
    match word {
        _ if is("qdisc") => qdisc::command(verb(words, "qdisc")?, words),
        _ if is("class") => qdisc::class_command(verb(words, "class")?, words),
        _ if is("filter") => filter::command(verb(words, "filter")?, words),
        _ if is("chain") => chain::command(verb(words, "chain")?, words),
        _ if is("actions") => actions(words),
        _ if is("monitor") => Ok(Command::Monitor),
        _ if is("help") => Ok(Command::Nothing(USAGE.into())),
        _ => Err(Failure::syntax(format!("Object \"{word}\" is unknown, try \"tc help\"."))),
    }
}

/// Nothing means to list.
fn verb(words: &mut Words<'_>, object: &str) -> Result<Verb, Failure> {
    let Some(word) = words.next() else { return Ok(Verb::Show) };
    let verbs = [
        ("add", Verb::Add),
        ("change", Verb::Change),
        ("replace", Verb::Replace),
        ("delete", Verb::Delete),
        ("get", Verb::Get),
        ("list", Verb::Show),
        ("show", Verb::Show),
        ("lst", Verb::Show),
    ];
    let found = verbs.iter().find(|(name, _)| stands_for(word, name)).map(|(_, verb)| *verb);
    found.or((word == "ls").then_some(Verb::Show)).ok_or_else(|| unknown(word, object))
}

fn unknown(word: &str, object: &str) -> Failure {
    Failure::syntax(format!("Command \"{word}\" is unknown, try \"tc {object} help\"."))
}

fn actions(words: &mut Words<'_>) -> Result<Command, Failure> {
    let syntax = |failure: Failure| failure.or_code(ACTIONS_REFUSED.code);
    let usage =
        || Failure::syntax("usage: tc actions { add | change | replace | get | delete | list | flush } action ...");
    let Some(word) = words.next() else { return Err(usage()) };
    let refused = ACTIONS_REFUSED;
    let request = match word {
        _ if stands_for(word, "add") => {
            Request::AddActions { actions: action::read_list(words).map_err(syntax)?.into() }
        }
        _ if stands_for(word, "change") || stands_for(word, "replace") => {
            Request::ReplaceActions { actions: action::read_list(words).map_err(syntax)?.into() }
        }
        _ if stands_for(word, "delete") => {
            Request::DeleteActions { actions: action::read_keys(words).map_err(syntax)? }
        }
        _ if stands_for(word, "get") => {
            return Ok(Command::GetActions { keys: action::read_keys(words).map_err(syntax)? });
        }
        _ if stands_for(word, "flush") => {
            let kind = action::read_kind(words).map_err(|_| usage())?.to_owned();
            return Ok(Command::Do { request: Request::FlushActions { kind }, refused: FLUSH_REFUSED });
        }
        _ if ["list", "show", "lst", "ls"].iter().any(|name| stands_for(word, name)) => {
            let kind = action::read_kind(words).map_err(|_| usage())?.to_owned();
            return Ok(Command::ShowActions { kind });
        }
        _ => return Err(unknown(word, "actions")),
    };
    match &request {
        Request::AddActions { actions } | Request::ReplaceActions { actions } if *actions == json!([]) => Err(usage()),
        Request::DeleteActions { actions } if actions.is_empty() => Err(usage()),
        _ => Ok(Command::Do { request, refused }),
    }
}

/// Splits a line of a batch into words: blanks separate them, quotes keep them together, `#` begins a comment.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].split_once(quote).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

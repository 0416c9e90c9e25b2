//! The action words: `drop`, `goto scan`, `mirror wan then continue`, `pass random determ drop 100`. Or a table with the
//! words, and what tells the action from others: `{ action = "drop", index = 7 }`.

mod edits; // vlan, skbedit, csum, nat
pub mod pedit; // words of the packet, changed in their bits
mod police; // a limit to a rate
mod sample; // packets shown to who listens
mod tunnel_key; // the tunnel that goes with a packet

use serde_json::{Map, Value as Json};
use tidegate_classifiers::plane::Direction;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    ActionFlags, ActionKind, ActionSpec, ActionUse, CHAIN_MAX, Cookie, GactSpec, MirredSpec, Random, RandomMode,
    Target, TargetPorts,
};
use tidegate_classifiers::verdict::Control;

use crate::error::{Problems, Wrong};
use crate::hex;
use crate::names::{Names, Scope};
use crate::table::{Node, Table, Value};
use crate::words::{choice, instead, quote};

const CONTROLS: [(&str, Control); 11] = [
    ("pass", Control::Ok),
    ("ok", Control::Ok),
    ("drop", Control::Shot),
    ("shot", Control::Shot),
    ("pipe", Control::Pipe),
    ("continue", Control::Continue),
    ("reclassify", Control::Reclassify),
    ("stolen", Control::Stolen),
    ("queued", Control::Queued),
    ("repeat", Control::Repeat),
    ("trap", Control::Trap),
];

/// First words of an action that are no control verdicts, or need another word.
const OTHERS: [&str; 12] =
    ["goto", "jump", "mirror", "redirect", "police", "vlan", "skbedit", "csum", "pedit", "nat", "sample", "tunnel_key"];

const MODES: [(&str, RandomMode); 2] = [("netrand", RandomMode::Netrand), ("determ", RandomMode::Determ)];

/// An action from its words, as [`words`] writes them; nothing if they are no action, or name a port.
pub fn parse(text: &str) -> Option<ActionSpec> {
    action(text, Scope { ports: &Names::new("port"), chains: None }).ok()
}

/// An action that names no port, in words.
pub fn words(spec: &ActionSpec) -> String {
    show_words(spec, &Names::new("port"))
}

/// One action of the field `key`. `None` if it is wrong: that is reported.
pub(crate) fn read(node: Node, key: &str, scope: Scope<'_>, problems: &mut Problems) -> Option<ActionUse> {
    match &node.value {
        Value::Table(_) => read_table(Table::from_node("the action", node, problems), scope, problems),
        _ => {
            let spec = node.text().and_then(|text| action(text, scope)).map_err(|wrong| wrong.of(key));
            problems.accept(node.place, spec).map(ActionUse::from)
        }
    }
}

fn read_table(mut table: Table, scope: Scope<'_>, problems: &mut Problems) -> Option<ActionUse> {
    let spec = match table.take("action") {
        None => None,
        Some(node) => {
            let spec = node.text().and_then(|text| action(text, scope)).map_err(|wrong| wrong.of("action"));
            Some(problems.accept(node.place, spec)?)
        }
    };
    let (kind, index) = read_place(&mut table, problems);
    let cookie = table.read("cookie", problems, |node| cookie(node.text()?));
    let flags = ActionFlags {
        no_percpu: table.read("no_percpu", problems, Node::boolean).unwrap_or(false),
        skip_hw: table.read("skip_hw", problems, Node::boolean).unwrap_or(false),
    };
    let place = table.place;
    table.finish(problems);
    let Some(kind) = spec.as_ref().map(ActionSpec::kind).or(kind) else {
        let wrong = Wrong::missing("the action lacks `action`");
        problems.push(place, wrong.hint("action = \"drop\", or the kind and index of one that is there"));
        return None;
    };
    Some(ActionUse { kind, index: index.unwrap_or(0), spec, cookie, flags })
}

/// Kind and index of an action, as far as they are given.
pub(crate) fn read_place(table: &mut Table, problems: &mut Problems) -> (Option<ActionKind>, Option<u32>) {
    let kinds = ActionKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = table.read("kind", problems, |node| choice(node.text()?, &kinds));
    let index = table.read("index", problems, |node| node.number(1..=u32::MAX));
    (kind, index)
}

/// The table of an action, such that [`read`] makes it again.
pub(crate) fn show(action: &ActionUse, ports: &Names) -> Map<String, Json> {
    let words = action.spec.as_ref().map(|spec| show_words(spec, ports).into());
    let kind = words.is_none().then(|| action.kind.as_str().into());
    let index = (action.index != 0).then(|| action.index.into());
    let cookie = action.cookie.map(|cookie| show_cookie(&cookie).into());
    let no_percpu = action.flags.no_percpu.then_some(true.into());
    let skip_hw = action.flags.skip_hw.then_some(true.into());
    let fields = [
        ("action", words),
        ("kind", kind),
        ("index", index),
        ("cookie", cookie),
        ("no_percpu", no_percpu),
        ("skip_hw", skip_hw),
    ];
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// `"c0ffee"`: up to 16 bytes in hexadecimal digits.
fn cookie(text: &str) -> Result<Cookie, Wrong> {
    hex::parse(text).and_then(|bytes| Cookie::new(&bytes)).ok_or_else(|| {
        Wrong::new(format!("{} is not a cookie", quote(text)))
            .hint("write 1 to 16 bytes, each as two hexadecimal digits")
    })
}

/// The inverse of [`cookie`].
pub(crate) fn show_cookie(cookie: &Cookie) -> String {
    hex::show(cookie.as_bytes())
}

/// One action in words.
fn action(text: &str, Scope { ports, chains }: Scope<'_>) -> Result<ActionSpec, Wrong> {
    let mut words = Words { text, rest: text.split_whitespace(), ports, chains };
    let action = match words.clone().rest.next() {
        Some("mirror") => {
            words.rest.next();
            let to = words.target("mirror lan")?;
            let control = match words.rest.next() {
                None => Control::Pipe,
                Some("then") => words.control()?,
                Some(word) => return Err(words.unexpected(word).hint("write it as \"mirror lan then drop\"")),
            };
            ActionSpec::Mirred(MirredSpec::Mirror { to, control })
        }
        Some("redirect") => {
            words.rest.next();
            ActionSpec::Mirred(MirredSpec::Redirect { to: words.target("redirect lan")? })
        }
        Some("police") => words.after_kind(police::read)?,
        Some("vlan") => words.after_kind(edits::read_vlan)?,
        Some("skbedit") => words.after_kind(edits::read_skbedit)?,
        Some("csum") => words.after_kind(edits::read_csum)?,
        Some("pedit") => words.after_kind(pedit::read)?,
        Some("nat") => words.after_kind(edits::read_nat)?,
        Some("sample") => words.after_kind(sample::read)?,
        Some("tunnel_key") => words.after_kind(tunnel_key::read)?,
        _ => ActionSpec::Gact(words.gact()?),
    };
    match words.rest.next() {
        None => Ok(action),
        Some(word) => Err(words.unexpected(word)),
    }
}

/// The words of an action that are still to be read.
#[derive(Clone)]
struct Words<'a> {
    text: &'a str,
    rest: std::str::SplitWhitespace<'a>,
    ports: &'a Names,
    chains: Option<&'a Names>,
}

impl<'a> Words<'a> {
    /// What `read` makes of the words after the next one.
    fn after_kind(&mut self, read: fn(&mut Self) -> Result<ActionSpec, Wrong>) -> Result<ActionSpec, Wrong> {
        self.rest.next();
        read(self)
    }

    /// The next word, if it is one of these.
    fn option(&mut self, known: &[&str]) -> Option<&'a str> {
        let option = self.rest.clone().next().filter(|word| known.contains(word))?;
        self.rest.next();
        Some(option)
    }

    /// The next word must be this one.
    fn expect(&mut self, word: &str, example: &str) -> Result<(), Wrong> {
        match self.word(example)? {
            found if found == word => Ok(()),
            found => Err(self.unexpected(found).hint(format!("write it as \"{example}\""))),
        }
    }

    /// The verdict after an edit: `then CONTROL`.
    fn then(&mut self) -> Result<Control, Wrong> {
        if self.option(&["then"]).is_some() { self.control() } else { Ok(Control::Pipe) }
    }

    fn gact(&mut self) -> Result<GactSpec, Wrong> {
        let control = self.control()?;
        if self.rest.clone().next() != Some("random") {
            return Ok(GactSpec { control, random: None });
        }
        self.rest.next();
        let example = "pass random determ drop 100";
        let mode = choice(self.word(example)?, &MODES)?;
        let second = self.second_control()?;
        let one_in = self.number(example, 1, 10_000)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most 10,000")]
        Ok(GactSpec { control, random: Some(Random { mode, control: second, one_in: one_in as u16 }) })
    }

    /// A verdict beside another one.
    fn second_control(&mut self) -> Result<Control, Wrong> {
        match self.control()? {
            // [AC-10]
            Control::Goto(_) => {
                Err(Wrong::new("goto cannot be the second verdict").hint("say goto with the first one"))
            }
            control => Ok(control),
        }
    }

    fn control(&mut self) -> Result<Control, Wrong> {
        match self.word("drop")? {
            "goto" => {
                let target = self.word("goto scan")?;
                if target.chars().all(|c| c.is_ascii_digit()) {
                    return in_range(target, 0, CHAIN_MAX).map(Control::Goto);
                }
                match self.chains {
                    // The block is reported as unknown already.
                    None => Ok(Control::Goto(0)),
                    Some(chains) => chains.find(target).map(Control::Goto),
                }
            }
            "jump" => self.number("jump 2", 1, u32::MAX).map(Control::Jump),
            word => choice(word, &CONTROLS)
                .map_err(|wrong| wrong.hint(instead(word, CONTROLS.iter().map(|(name, _)| *name).chain(OTHERS)))),
        }
    }

    /// `lan`, `lan ingress`, `block 7`, `block 7 ingress`. A port may be called `block`: a number comes only after the word.
    fn target(&mut self, example: &str) -> Result<Target, Wrong> {
        let word = self.word(example)?;
        let index = self.rest.clone().next().filter(|next| next.starts_with(|c: char| c.is_ascii_digit()));
        let ports = match index {
            Some(_) if word == "block" => TargetPorts::Block(self.number("mirror block 7", 1, u32::MAX)?),
            _ => TargetPorts::One(self.ports.find(word).map(port_id)?),
        };
        let direction = match self.rest.clone().next() {
            Some("ingress") => Direction::Ingress,
            _ => Direction::Egress,
        };
        if direction == Direction::Ingress {
            self.rest.next();
        }
        Ok(Target { direction, ports })
    }

    fn number(&mut self, example: &str, min: u32, max: u32) -> Result<u32, Wrong> {
        in_range(self.word(example)?, min, max)
    }

    fn word(&mut self, example: &str) -> Result<&'a str, Wrong> {
        self.rest.next().ok_or_else(|| {
            Wrong::new(format!("{} ends too early", quote(self.text))).hint(format!("write it as \"{example}\""))
        })
    }

    fn unexpected(&self, word: &str) -> Wrong {
        Wrong::new(format!("{} in {} is too much", quote(word), quote(self.text)))
    }
}

fn in_range(word: &str, min: u32, max: u32) -> Result<u32, Wrong> {
    match word.parse::<u32>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(number) => Err(Wrong::new(format!("{number} is out of range")).hint(format!("it goes from {min} to {max}"))),
        Err(_) => Err(Wrong::new(format!("{} is not a number from {min} to {max}", quote(word)))),
    }
}

/// The inverse of reading the words.
pub(crate) fn show_words(spec: &ActionSpec, ports: &Names) -> String {
    match spec {
        &ActionSpec::Gact(GactSpec { control, random: None }) => show_control(control),
        &ActionSpec::Gact(GactSpec { control, random: Some(Random { mode, control: second, one_in }) }) => {
            let mode = match mode {
                RandomMode::Netrand => "netrand",
                RandomMode::Determ => "determ",
            };
            format!("{} random {mode} {} {one_in}", show_control(control), show_control(second))
        }
        &ActionSpec::Mirred(MirredSpec::Mirror { to, control: Control::Pipe }) => {
            format!("mirror {}", show_target(to, ports))
        }
        &ActionSpec::Mirred(MirredSpec::Mirror { to, control }) => {
            format!("mirror {} then {}", show_target(to, ports), show_control(control))
        }
        &ActionSpec::Mirred(MirredSpec::Redirect { to }) => format!("redirect {}", show_target(to, ports)),
        ActionSpec::Police(police) => police::show(police),
        ActionSpec::Vlan(spec) => edits::show_vlan(spec),
        ActionSpec::Skbedit(spec) => edits::show_skbedit(spec),
        ActionSpec::Csum(spec) => edits::show_csum(spec),
        ActionSpec::Pedit(spec) => pedit::show(spec),
        ActionSpec::Nat(spec) => edits::show_nat(spec),
        ActionSpec::Sample(spec) => sample::show(spec),
        ActionSpec::TunnelKey(spec) => tunnel_key::show(spec),
    }
}

fn show_target(to: Target, ports: &Names) -> String {
    let which = match to.ports {
        TargetPorts::One(port) => ports.name(port.0.into()).unwrap_or("*").to_owned(),
        TargetPorts::Block(index) => format!("block {index}"),
    };
    match to.direction {
        Direction::Egress => which,
        Direction::Ingress => format!("{which} ingress"),
    }
}

/// The inverse of [`Words::then`].
fn show_then(control: Control) -> String {
    match control {
        Control::Pipe => String::new(),
        control => format!(" then {}", show_control(control)),
    }
}

/// A verdict as a word, or two.
pub fn show_control(control: Control) -> String {
    match control {
        Control::Jump(to) => format!("jump {to}"),
        Control::Goto(chain) => format!("goto {chain}"),
        other => CONTROLS.iter().find(|(_, known)| *known == other).map_or("", |(name, _)| name).into(),
    }
}

/// A port's number as an id. It was one: [`PortNumbers`](crate::PortNumbers).
#[expect(clippy::cast_possible_truncation, reason = "checked where ports are numbered")]
pub(crate) fn port_id(index: u32) -> PortId {
    PortId(index as u16)
}

//! The action words: `drop`, `goto scan`, `mirror wan then continue`, `pass random determ drop 100`.

use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{ActionSpec, CHAIN_MAX, GactSpec, MirredSpec, Random, RandomMode};
use tidegate_classifiers::verdict::Control;

use crate::error::Wrong;
use crate::names::Names;
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
const OTHERS: [&str; 4] = ["goto", "jump", "mirror", "redirect"];

const MODES: [(&str, RandomMode); 2] = [("netrand", RandomMode::Netrand), ("determ", RandomMode::Determ)];

/// One action. `chains` are those of the filter's block; None if it is not known which that is.
pub(crate) fn action(text: &str, ports: &Names, chains: Option<&Names>) -> Result<ActionSpec, Wrong> {
    let mut words = Words { text, rest: text.split_whitespace(), ports, chains };
    let action = match words.clone().rest.next() {
        Some("mirror") => {
            words.rest.next();
            let port = words.port("mirror lan")?;
            let control = match words.rest.next() {
                None => Control::Pipe,
                Some("then") => words.control()?,
                Some(word) => return Err(words.unexpected(word).hint("write it as \"mirror lan then drop\"")),
            };
            ActionSpec::Mirred(MirredSpec::Mirror { port, control })
        }
        Some("redirect") => {
            words.rest.next();
            ActionSpec::Mirred(MirredSpec::Redirect { port: words.port("redirect lan")? })
        }
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
    fn gact(&mut self) -> Result<GactSpec, Wrong> {
        let control = self.control()?;
        if self.rest.clone().next() != Some("random") {
            return Ok(GactSpec { control, random: None });
        }
        self.rest.next();
        let example = "pass random determ drop 100";
        let mode = choice(self.word(example)?, &MODES)?;
        let second = self.control()?;
        if let Control::Goto(_) = second {
            // [AC-10]
            return Err(Wrong::new("goto cannot be the second verdict").hint("write goto first, and the other second"));
        }
        let one_in = self.number(example, 1, 10_000)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most 10,000")]
        Ok(GactSpec { control, random: Some(Random { mode, control: second, one_in: one_in as u16 }) })
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

    fn port(&mut self, example: &str) -> Result<PortId, Wrong> {
        self.ports.find(self.word(example)?).map(port_id)
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

/// A port's index as an id. There are at most 65,534 ports: `resolve` sees to it.
#[expect(clippy::cast_possible_truncation, reason = "checked where ports are numbered")]
pub(crate) fn port_id(index: u32) -> PortId {
    PortId(index as u16)
}

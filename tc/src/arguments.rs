//! Words, taken one by one, as tc understands them: names may be abbreviated, numbers have bases.

/// Why a command line is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For people.
    pub(crate) text: String,
    /// The exit code, if it does not depend on the command.
    pub(crate) code: Option<u8>,
}

/// Exit code of a command line that cannot be understood [CL-2].
pub(crate) const SYNTAX: u8 = 255;

impl Failure {
    /// A mistake among the options of a filter or an action: the command decides about the exit code.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), code: None }
    }

    /// A command line that cannot be understood.
    pub(crate) fn syntax(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), code: Some(SYNTAX) }
    }

    /// `word` cannot stand where it does.
    pub(crate) fn wrong(word: &str, why: &str) -> Failure {
        Failure::syntax(format!("Error: argument \"{word}\" is wrong: {why}"))
    }

    /// Exits with `code`, unless that is decided.
    pub(crate) fn or_code(self, code: u8) -> Failure {
        Failure { code: self.code.or(Some(code)), ..self }
    }
}

/// The words that are still to be read.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(words: &'a [String]) -> Words<'a> {
        Words { rest: words.iter() }
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.rest.as_slice().first().map(String::as_str)
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.rest.next().map(String::as_str)
    }

    /// The word after the next one.
    pub(crate) fn second(&self) -> Option<&'a str> {
        self.rest.as_slice().get(1).map(String::as_str)
    }

    /// The word that must come now.
    pub(crate) fn value(&mut self) -> Result<&'a str, Failure> {
        self.next().ok_or_else(|| Failure::syntax("Command line is not complete. Try option \"help\""))
    }

    /// Takes the next word if it is exactly this.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        if there {
            self.rest.next();
        }
        there
    }

    /// Takes the next word if it stands for one of these, see [`stands_for`].
    pub(crate) fn take_any(&mut self, names: &[&str]) -> bool {
        let there = self.peek().is_some_and(|word| names.iter().any(|name| stands_for(word, name)));
        if there {
            self.rest.next();
        }
        there
    }
}

/// Whether `word` is `name`, or the beginning of it [CL-1].
pub(crate) fn stands_for(word: &str, name: &str) -> bool {
    !word.is_empty() && name.starts_with(word)
}

/// A number of C: hexadecimal with `0x`, octal with `0`, else decimal.
pub(crate) fn number(text: &str) -> Option<u32> {
    match (text.strip_prefix("0x").or(text.strip_prefix("0X")), text.strip_prefix('0')) {
        (Some(digits), _) => hex_digits(digits),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => decimal(text),
    }
}

/// A decimal number.
pub(crate) fn decimal(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// A hexadecimal number, with or without `0x`.
pub(crate) fn hex(text: &str) -> Option<u32> {
    hex_digits(text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text))
}

fn hex_digits(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

/// A class such as `1:10`, `1:`, or `1`.
pub(crate) fn class(text: &str) -> Option<String> {
    let half =
        |digits: &str| if digits.is_empty() { Some(0) } else { hex_digits(digits).filter(|half| *half <= 0xffff) };
    let (major, minor) = match text.split_once(':') {
        Some((major, minor)) => (half(major)?, half(minor)?),
        None => {
            let number = hex_digits(text)?;
            (number >> 16, number & 0xffff)
        }
    };
    Some(format!("{major:x}:{minor:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [CL-1]
    #[test]
    fn a_word_may_be_abbreviated_but_not_left_out() {
        assert!(stands_for("filt", "filter") && stands_for("filter", "filter"));
        assert!(!stands_for("", "filter") && !stands_for("filters", "filter"));
    }

    #[test]
    fn numbers_have_the_bases_of_c() {
        assert_eq!([number("0x1f"), number("017"), number("0"), number("4294967295")], [31, 15, 0, u32::MAX].map(Some));
        assert_eq!(
            [number("4294967296"), number("-1"), number("+1"), number("0x"), number("09"), number("")],
            [None; 6]
        );
        assert_eq!([hex("ff"), hex("0xff"), hex("+f")], [Some(255), Some(255), None]);
    }

    #[test]
    fn classes_are_two_halves() {
        assert_eq!([class("1:10"), class("1:"), class("10001")].map(Option::unwrap), ["1:10", "1:0", "1:1"]);
        assert_eq!([class("6789defg"), class("1:10000"), class("1:2:3")], [None, None, None]);
    }
}

//! Printer: listings as tc writes them, each field once, as text or as JSON.

use std::fmt::{Arguments, Write};

use serde_json::Value;

/// How listings look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// `-s`: with what was counted.
    pub(crate) stats: bool,
    /// `-j`
    pub(crate) json: bool,
    /// `-p`: JSON on many lines.
    pub(crate) pretty: bool,
    /// `-o`: text with a backslash for each line break.
    pub(crate) oneline: bool,
    /// `-br`: without match keys.
    pub(crate) brief: bool,
}

/// What is printed so far.
#[derive(Debug)]
pub(crate) struct Printer {
    pub(crate) style: Style,
    out: String,
    /// Of JSON: for each thing that is open, whether something is in it.
    open: Vec<bool>,
}

impl Printer {
    pub(crate) fn new(style: Style) -> Printer {
        Printer { style, out: String::new(), open: Vec::new() }
    }

    /// What was printed since this was called last.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Text without a field.
    pub(crate) fn text(&mut self, text: Arguments<'_>) {
        if !self.style.json {
            let _ = self.out.write_fmt(text);
        }
    }

    /// The end of a line of text.
    pub(crate) fn line(&mut self) {
        if !self.style.json {
            self.out.push(if self.style.oneline { '\\' } else { '\n' });
        }
    }

    /// A field: `value` under `key`, or `text`.
    pub(crate) fn field(&mut self, key: &str, value: impl Into<Value>, text: Arguments<'_>) {
        if self.style.json {
            self.key(key);
            let _ = write!(self.out, "{}", value.into());
        } else {
            let _ = self.out.write_fmt(text);
        }
    }

    /// An element of a list: `value`, or `text`.
    pub(crate) fn element(&mut self, value: impl Into<Value>, text: Arguments<'_>) {
        if self.style.json {
            self.separate();
            let _ = write!(self.out, "{}", value.into());
        } else {
            let _ = self.out.write_fmt(text);
        }
    }

    /// What follows is in an object, without a key within lists.
    pub(crate) fn object(&mut self, key: Option<&str>, inside: impl FnOnce(&mut Printer)) {
        self.group(key, "{", inside);
        if self.style.json {
            let empty = self.open.pop() == Some(false);
            if self.style.pretty && !empty {
                self.indent();
            }
            self.out.push('}');
        }
    }

    /// What follows is in a list.
    pub(crate) fn list(&mut self, key: Option<&str>, inside: impl FnOnce(&mut Printer)) {
        self.group(key, if self.style.pretty { "[ " } else { "[" }, inside);
        self.close_list();
    }

    /// Opens the list that is a whole listing.
    pub(crate) fn begin_listing(&mut self) {
        self.group(None, if self.style.pretty { "[ " } else { "[" }, |_| {});
    }

    /// Closes it.
    pub(crate) fn end_listing(&mut self) {
        self.close_list();
        if self.style.json {
            self.out.push('\n');
        }
    }

    fn close_list(&mut self) {
        if self.style.json {
            let empty = self.open.pop() == Some(false);
            self.out.push_str(if self.style.pretty && !empty { " ]" } else { "]" });
        }
    }

    fn group(&mut self, key: Option<&str>, opening: &str, inside: impl FnOnce(&mut Printer)) {
        if self.style.json {
            match key {
                Some(key) => self.key(key),
                None => self.separate(),
            }
            self.out.push_str(opening);
            self.open.push(false);
        }
        inside(self);
    }

    fn key(&mut self, key: &str) {
        self.separate();
        if self.style.pretty {
            self.indent();
        }
        let _ = write!(self.out, "{}:", Value::from(key));
        if self.style.pretty {
            self.out.push(' ');
        }
    }

    fn separate(&mut self) {
        if let Some(filled) = self.open.last_mut()
            && std::mem::replace(filled, true)
        {
            self.out.push(',');
        }
    }

    fn indent(&mut self) {
        self.out.push('\n');
        for _ in &self.open {
            self.out.push_str("    ");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(style: Style) -> String {
        let mut printer = Printer::new(style);
        printer.begin_listing();
        for kind in ["noqueue", "ingress"] {
            printer.object(None, |printer| {
                printer.field("kind", kind, format_args!("qdisc {kind} "));
                printer.object(Some("options"), |_| {});
            });
            printer.line();
        }
        printer.end_listing();
        printer.take()
    }

    /// [CL-6]
    #[test]
    fn json_is_laid_out_as_tc_does() {
        let style = Style { json: true, ..Style::default() };
        assert_eq!(sample(style), "[{\"kind\":\"noqueue\",\"options\":{}},{\"kind\":\"ingress\",\"options\":{}}]\n");
        let pretty = "[ {\n        \"kind\": \"noqueue\",\n        \"options\": {}\n    },{\n        \"kind\": \"ingress\",\n        \
                      \"options\": {}\n    } ]\n";
        assert_eq!(sample(Style { pretty: true, ..style }), pretty);
        assert_eq!(sample(Style::default()), "qdisc noqueue \nqdisc ingress \n");
    }
}

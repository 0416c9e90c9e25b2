//! The examples of docs/control-socket.md: what the page says is what happens. `BLESS=1` writes the replies anew.

use std::path::Path;

use serde_json::Value;

use crate::kit::{Raw, Site};

#[test]
fn the_examples_of_the_page_are_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/control-socket.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let site = Site::new();
    let (mut session, mut actual, mut replies) = (None, String::new(), 0);
    for line in page.lines() {
        match (&mut session, line.split_at_checked(2)) {
            (None, _) if line == "```session" => session = Some(site.raw()),
            (Some(_), _) if line == "```" => session = None,
            (Some(client), Some(("> ", request))) => client.send(request),
            (Some(client), Some(("< ", expected))) => {
                let reply = if expected.contains("welcome") { site.raw_welcome() } else { client.receive().unwrap() };
                replies += 1;
                let expected_reply = serde_json::from_str::<Value>(expected).ok();
                let text = if expected_reply.as_ref() == Some(&reply) { expected.into() } else { reply.to_string() };
                actual += &format!("< {text}\n");
                continue;
            }
            _ => {}
        }
        actual += line;
        actual += "\n";
    }
    assert!(replies > 30, "only {replies} replies are on the page");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let wrong: Vec<_> = page.lines().zip(actual.lines()).filter(|(page, actual)| page != actual).collect();
    assert!(wrong.is_empty() && page.lines().count() == actual.lines().count(), "{wrong:#?}");
}

impl Site {
    /// What comes first on a connection.
    fn raw_welcome(&self) -> Value {
        Raw(std::os::unix::net::UnixStream::connect(&self.socket).unwrap()).receive().unwrap()
    }
}

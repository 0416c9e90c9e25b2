//! Whatever bytes a connection brings, each message has its reply, up to the first that is too long.

use std::io::Write;
use std::net::Shutdown;

use tidegate_client::wire::Request;

use crate::site::{LIMIT, Site, receive};

#[test]
fn fuzz() {
    let site = Site::new();
    bolero::check!(name = "bytes").with_iterations(100).for_each(|bytes: &[u8]| {
        let (messages, too_long) = messages(bytes);
        if messages.iter().any(|message| matches!(serde_json::from_slice(message), Ok(Request::Subscribe {}))) {
            return; // after that it is all events
        }
        let mut stream = site.connect();
        let mut sending = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = sending.write_all(bytes); // it may be cut off before it has sent all
                let _ = sending.shutdown(Shutdown::Write);
            });
            assert!(receive(&mut stream).is_some(), "a welcome");
            for message in &messages {
                let reply = receive(&mut stream).unwrap_or_else(|| panic!("no reply to {message:?}"));
                assert!(
                    reply["ok"].is_string() || reply["ok"].is_object() || reply["error"]["errno"].is_string(),
                    "{reply}"
                );
            }
            if too_long {
                assert_eq!(receive(&mut stream).unwrap()["error"]["errno"], "EMSGSIZE");
            }
            assert_eq!(receive(&mut stream), None);
        });
        drop(stream);
        site.clean();
    });
}

/// The messages that `bytes` are, and whether one comes after them that is too long.
fn messages(mut bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*length);
        if length > LIMIT {
            return (messages, true);
        }
        let Some((message, rest)) = rest.split_at_checked(length as usize) else { break };
        messages.push(message);
        bytes = rest;
    }
    (messages, false)
}

//! Whatever two clients ask, in whatever order, each request has its reply, and nothing is left when they are gone.

use std::io::Write;

use tidegate_client::frame;
use tidegate_client::wire::{Outcome, Request};

use crate::site::{Site, receive};

/// Each line is a request of one client, or, after a blank, of the other.
#[test]
fn fuzz() {
    let site = Site::new();
    bolero::check!(name = "requests").with_iterations(100).for_each(|bytes: &[u8]| {
        let mut clients = [site.connect(), site.connect()];
        for client in &mut clients {
            assert!(receive(client).is_some(), "a welcome");
        }
        for line in bytes.split(|byte| *byte == b'\n') {
            let client = &mut clients[usize::from(line.starts_with(b" "))];
            match serde_json::from_slice(line) {
                Ok(Request::Subscribe {}) | Err(_) => {} // events have no end; what is no request is in `bytes`
                Ok(request) => {
                    let mut message = Vec::new();
                    frame::write(&mut message, &request).unwrap();
                    client.write_all(&message).unwrap();
                    let reply = receive(client);
                    let Some(reply) = reply else { break };
                    let outcome: Outcome = serde_json::from_value(reply.clone()).unwrap();
                    assert_eq!(serde_json::to_value(outcome).unwrap(), reply, "{request:?}");
                    if reply["error"]["errno"] == "EMSGSIZE" {
                        break;
                    }
                }
            }
        }
        drop(clients);
        site.clean();
    });
}

//! Whatever the bytes, messages up to the first that is none; and what is understood is sent as it was meant.

use std::fmt::Debug;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_client::frame;
use tidegate_client::wire::{Notice, Outcome, Request};

/// Bytes that a message may have here.
const LIMIT: u32 = 1000;

#[test]
fn fuzz() {
    bolero::check!(name = "messages").with_iterations(1000).for_each(|bytes: &[u8]| {
        let (mut from, mut rest, mut message) = (bytes, bytes, Vec::new());
        loop {
            match frame::read(&mut from, LIMIT, &mut message) {
                Ok(true) => {
                    let length;
                    (length, rest) = rest.split_first_chunk().unwrap();
                    let expected;
                    (expected, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
                    assert_eq!(message, expected);
                    assert!(message.capacity() <= 2 * LIMIT as usize, "memory follows what arrives");
                    survives::<Request>(&message);
                    survives::<Outcome>(&message);
                    survives::<Notice>(&message);
                }
                Ok(false) => return assert_eq!(rest, b""),
                Err(e) => return assert_eq!(Some(e.kind()), mistake(rest), "{e}"),
            }
        }
    });
}

/// What is wrong with the message that `bytes` begin with.
fn mistake(bytes: &[u8]) -> Option<io::ErrorKind> {
    match bytes.split_first_chunk() {
        None => Some(io::ErrorKind::UnexpectedEof),
        Some((length, rest)) => match u32::from_be_bytes(*length) {
            length if length > LIMIT => Some(io::ErrorKind::InvalidData),
            length if length as usize > rest.len() => Some(io::ErrorKind::UnexpectedEof),
            _ => None,
        },
    }
}

/// Sends what `message` says once more, if it says anything.
fn survives<T: DeserializeOwned + Serialize + PartialEq + Debug>(message: &[u8]) {
    let Ok(meant) = serde_json::from_slice::<T>(message) else { return };
    let (mut out, mut again) = (Vec::new(), Vec::new());
    assert_eq!(frame::write(&mut out, &meant).unwrap(), out.len());
    assert!(frame::read(&mut &out[..], u32::MAX, &mut again).unwrap());
    assert_eq!(serde_json::from_slice::<T>(&again).unwrap(), meant);
}

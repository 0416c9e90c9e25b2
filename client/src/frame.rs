//! Messages on a stream of bytes: each is a JSON document after its length in bytes, a 32-bit big-endian number.

use std::io::{self, Read};

use serde::Serialize;

/// Reads one message into `message`, which keeps its memory from one to the next. `false` if the stream ended instead.
///
/// # Errors
/// `InvalidData` for a message longer than `limit` bytes, of which nothing but the length is read then; `UnexpectedEof` if the
/// stream ends within a message; whatever `from` says.
pub fn read(mut from: impl Read, limit: u32, message: &mut Vec<u8>) -> io::Result<bool> {
    message.clear();
    let length = match from.by_ref().take(4).read_to_end(message)? {
        0 => return Ok(false),
        _ => message.as_slice().try_into().map(u32::from_be_bytes).map_err(|_| io::ErrorKind::UnexpectedEof)?,
    };
    message.clear();
    if length > limit {
        let problem = format!("a message of {length} bytes is too long; at most {limit}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    // Grows with what really arrives: a length alone buys no memory.
    match from.take(length.into()).read_to_end(message)? {
        got if got == length as usize => Ok(true),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Appends `message` to `out`. Returns its size there, in bytes.
///
/// # Errors
/// `InvalidData` if it has no JSON, or has more than 4 GiB of it; `out` is as it was then.
pub fn write(out: &mut Vec<u8>, message: &impl Serialize) -> io::Result<usize> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let length = serde_json::to_writer(&mut *out, message)
        .map_err(io::Error::from)
        .and_then(|()| u32::try_from(out.len() - start - 4).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)));
    match length {
        Ok(length) => {
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            Ok(out.len() - start)
        }
        Err(e) => {
            out.truncate(start);
            Err(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives one byte at a time, as a slow peer does.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = to.len().min(1);
            self.0.read(&mut to[..n])
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(texts in prop::collection::vec(".{0,300}", 0..10)) {
            let mut out = Vec::new();
            for text in &texts {
                let before = out.len();
                prop_assert_eq!(write(&mut out, text).unwrap(), out.len() - before);
            }
            let (mut from, mut message) = (Trickle(&out), Vec::new());
            for text in &texts {
                prop_assert!(read(&mut from, 1 << 20, &mut message).unwrap());
                prop_assert_eq!(&serde_json::from_slice::<String>(&message).unwrap(), text);
            }
            prop_assert!(!read(&mut from, 1 << 20, &mut message).unwrap());
        }

        #[test]
        fn any_bytes_are_messages_or_an_error_and_memory_follows_what_arrived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut from, mut message) = (&bytes[..], Vec::new());
            while let Ok(true) = read(&mut from, u32::MAX, &mut message) {}
            prop_assert!(message.capacity() <= 1024);
        }

        #[test]
        fn a_message_that_is_cut_is_no_message(text in ".{1,50}", keep in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            write(&mut out, &text).unwrap();
            let cut = 1 + keep.index(out.len() - 1);
            let problem = read(&mut &out[..cut], 1 << 20, &mut Vec::new()).unwrap_err();
            prop_assert_eq!(problem.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
        let mut from: &[u8] = &[0, 0, 0, 9, b'x', b'y'];
        let problem = read(&mut from, 8, &mut Vec::new()).unwrap_err();
        assert_eq!(problem.kind(), io::ErrorKind::InvalidData);
        assert_eq!(problem.to_string(), "a message of 9 bytes is too long; at most 8");
        assert_eq!(from, b"xy");
    }

    #[test]
    fn what_has_no_json_leaves_the_output_as_it_was() {
        let mut out = b"before".to_vec();
        let no_text_as_key = std::collections::BTreeMap::from([((1, 2), 3)]);
        write(&mut out, &no_text_as_key).unwrap_err();
        assert_eq!(out, b"before");
    }
}

//! One client: messages in, messages out, and what it may take.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::Gid;
use serde::Serialize;
use tidegate_client::frame;
use tidegate_client::wire::{Notice, Outcome, Refusal, Reply, Request, VERSION};

use super::limits::Pace;
use super::peer::Peer;
use super::session::Session;
use super::{Limits, Service, events};
use crate::samples::Listener;

/// Bytes that are read or written at once, where there are so many.
const CHUNK: usize = 64 << 10;

/// How often a subscriber to whom nothing happens is looked after.
const LOOK: Duration = Duration::from_millis(250);

/// Serves the client at the other end of `stream` until it leaves.
///
/// # Errors
/// If it had to be cut off: it did not keep to the protocol, or kept others waiting.
pub(super) fn serve(
    stream: &UnixStream,
    peer: Peer,
    group: Option<Gid>,
    service: &Service,
    limits: &Limits,
) -> io::Result<()> {
    stream.set_read_timeout(Some(limits.patience))?;
    stream.set_write_timeout(Some(limits.patience))?;
    let mut connection = Connection {
        stream: BufReader::with_capacity(CHUNK, stream),
        out: Vec::new(),
        pace: Pace::new(limits.rate, Instant::now()),
        limits,
    };
    if !peer.may_use(group) {
        let why = format!("the control socket is for root and its group, not for user {}", peer.uid);
        connection.put(&Outcome::Error(Refusal::new("EACCES", why)))?;
        return connection.flush();
    }
    let version = env!("CARGO_PKG_VERSION").into();
    connection.put(&Outcome::Ok(Reply::Welcome { version, protocol: VERSION }))?;
    connection.requests(service)?;
    connection.flush()
}

/// The two directions of a stream.
struct Connection<'c> {
    stream: BufReader<&'c UnixStream>,
    /// Messages that are not written yet.
    out: Vec<u8>,
    pace: Pace,
    limits: &'c Limits,
}

impl Connection<'_> {
    /// Serves requests until the client leaves, or listens to events.
    fn requests(&mut self, service: &Service) -> io::Result<()> {
        let (mut session, mut message) = (Session::new(service), Vec::new());
        while self.wait(&session)? {
            match frame::read(&mut self.stream, self.limits.request, &mut message) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    // Where the next message begins, nobody knows.
                    return self.put(&Outcome::Error(Refusal::new("EMSGSIZE", e.to_string()))).map(|_| ());
                }
                Err(e) => return Err(e),
            }
            let outcome = match serde_json::from_slice(&message) {
                Ok(Request::Subscribe {}) if !session.is_in_transaction() => return self.events(service),
                Ok(Request::SubscribeSamples { group }) if !session.is_in_transaction() => {
                    match service.listen(group) {
                        Ok(listener) => return self.samples(&listener, service),
                        Err(refusal) => Err(refusal),
                    }
                }
                Ok(request) => session.serve(request),
                Err(e) => Err(Refusal::new("EBADMSG", format!("not a request: {e}"))),
            };
            let written = self.put(&outcome.map_or_else(Outcome::Error, Outcome::Ok))?;
            let pause = self.pace.take(message.len() + written, Instant::now());
            if !pause.is_zero() {
                self.flush()?;
                thread::sleep(pause);
            }
        }
        Ok(())
    }

    /// Waits for the next message. Before, the client gets what it waits for. `false` if it left.
    fn wait(&mut self, session: &Session<'_>) -> io::Result<bool> {
        if holds_message(self.stream.buffer()) {
            return Ok(true);
        }
        self.flush()?;
        let since = Instant::now();
        loop {
            match self.stream.fill_buf() {
                Ok(bytes) => return Ok(!bytes.is_empty()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if session.is_in_transaction() && since.elapsed() >= self.limits.transaction_patience {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "a transaction was left open"));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// What happens, until the client leaves.
    fn events(&mut self, service: &Service) -> io::Result<()> {
        let subscription = service.plane.subscribe(self.limits.events);
        self.notices(|timeout| Some(events::notice(&subscription.next(timeout)?, service)))
    }

    /// What is sampled, until the client leaves.
    fn samples(&mut self, listener: &Listener, service: &Service) -> io::Result<()> {
        self.notices(|timeout| Some(events::heard(&listener.next(timeout)?, service)))
    }

    /// What `next` has within the time that it is given, until the client leaves.
    fn notices(&mut self, next: impl Fn(Duration) -> Option<Notice>) -> io::Result<()> {
        self.stream.get_ref().set_write_timeout(Some(self.limits.subscriber_patience))?;
        self.put(&Outcome::Ok(Reply::Done))?;
        self.flush()?;
        loop {
            let mut notice = next(LOOK);
            let idle = notice.is_none();
            while let Some(happened) = notice {
                self.put(&happened)?;
                notice = next(Duration::ZERO);
            }
            self.flush()?;
            if idle && self.has_left()? {
                return Ok(());
            }
        }
    }

    /// Whether a client that only listens is gone. That it speaks is against the protocol.
    fn has_left(&self) -> io::Result<bool> {
        let mut byte = [0];
        match recv(self.stream.get_ref().as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Ok(true),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a subscriber sent a request")),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Puts `message` where it will be written from. Returns its size, in bytes.
    fn put(&mut self, message: &impl Serialize) -> io::Result<usize> {
        let size = frame::write(&mut self.out, message)?;
        if self.out.len() >= CHUNK {
            self.flush()?;
        }
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            let written = self.stream.get_mut().write_all(&self.out);
            self.out.clear();
            self.out.shrink_to(4 * CHUNK);
            written?;
        }
        Ok(())
    }
}

/// Whether `bytes` begin with a whole message.
fn holds_message(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk() {
        Some((length, rest)) => rest.len() >= u32::from_be_bytes(*length) as usize,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;
    use serde_json::{Value, json};
    use tidegate_classifiers::plane::Plane;

    use super::*;

    /// The first message to a client of this user and group, where `group` may use the socket.
    fn welcome(peer: Peer, group: Option<Gid>) -> Value {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.shutdown(std::net::Shutdown::Write).unwrap();
        serve(&here, peer, group, &Service::standalone(Plane::standalone(1)), &Limits::default()).unwrap();
        let mut message = Vec::new();
        assert!(frame::read(&mut there, 1 << 16, &mut message).unwrap());
        serde_json::from_slice(&message).unwrap()
    }

    #[test]
    fn a_stranger_is_told_so_and_one_of_the_group_is_welcome() {
        let stranger = Peer::new(1, Uid::from_raw(4_000_001), Gid::from_raw(4_000_002));
        let refused = welcome(stranger, Some(Gid::from_raw(4_000_003)));
        assert_eq!(refused["error"]["errno"], "EACCES");
        assert_eq!(welcome(stranger, None)["error"]["errno"], "EACCES");
        assert_eq!(welcome(stranger, Some(Gid::from_raw(4_000_002)))["ok"]["welcome"]["protocol"], json!(VERSION));
    }

    #[test]
    fn a_message_is_held_when_its_last_byte_is() {
        let message = [0, 0, 0, 2, b'{', b'}', 0, 0];
        let held: Vec<bool> = (0..=message.len()).map(|n| holds_message(&message[..n])).collect();
        assert_eq!(held, [false, false, false, false, false, false, true, true, true]);
        assert!(!holds_message(&[0xff; 100]), "a length that nothing holds");
    }
}

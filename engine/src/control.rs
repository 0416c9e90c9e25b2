//! The control socket: requests in, replies out.
//!
//! Each message is a JSON document after its length in bytes, a 32-bit big-endian number. A request is
//! `{"v": 1, "op": "status"}`; the reply is `{"v": 1, "ok": ...}` or `{"v": 1, "error": "..."}`. A connection may carry
//! any number of requests, one after the other. Sizes, connections and waiting times are bounded, so that no client
//! can stall the gateway or another client.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::status::Status;

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Largest request, in bytes.
const REQUEST_MAX: u32 = 64 * 1024;
/// Largest reply that a client takes, in bytes.
const REPLY_MAX: u32 = 1 << 30;
/// Connections at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may keep the other waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client may ask.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything `tidegate status` shows.
    Status,
    /// Stops one worker and starts it afresh, with new sockets and new packet memory. Counters go on.
    RestartWorker {
        /// Which.
        worker: u16,
    },
}

/// What it gets.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// Done, nothing to say.
    Done,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Ok(Reply),
    Error(String),
}

/// Answers requests; implemented by the engine. Called from many threads.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`, or says why not.
    ///
    /// # Errors
    /// A message for the client.
    fn handle(&self, request: Request) -> Result<Reply, String>;
}

/// The listening socket. Dropped, it closes and takes its path away; requests that are being answered end by themselves.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    closing: Arc<AtomicBool>,
}

impl Server {
    /// Listens at `path`, mode 0660, group `group` where there is one. A socket that a dead run left behind is
    /// replaced, one that somebody answers on is not.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::AddrInUse`] if another gateway answers there.
    pub fn start(path: &Path, group: &str, handler: Arc<dyn Handler>) -> io::Result<Server> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        if let Ok(Some(group)) = nix::unistd::Group::from_name(group) {
            nix::unistd::chown(path, None, Some(group.gid))?;
        }
        let closing = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&closing);
        thread::Builder::new().name("control".into()).spawn(move || accept(&listener, &handler, &flag))?;
        info!(path = %path.display(), "control socket open");
        Ok(Server { path: path.to_owned(), closing })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        let _ = UnixStream::connect(&self.path); // wakes the thread that accepts
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, handler: &Arc<dyn Handler>, closing: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if closing.load(Ordering::Acquire) {
            return;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(e) => {
                warn!(error = %e, "control socket: cannot accept");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (handler, counted) = (Arc::clone(handler), Arc::clone(&open));
        let spawned = thread::Builder::new().name("client".into()).spawn(move || {
            if let Err(e) = serve(stream, &*handler) {
                debug!(error = %e, "control client went away");
            }
            counted.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn serve(mut stream: UnixStream, handler: &dyn Handler) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    loop {
        let message = match read_message(&mut stream, REQUEST_MAX) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                // The stream cannot be followed any further: say why, and hang up.
                return answer(&mut stream, Outcome::Error(e.to_string()));
            }
            Err(e) => return Err(e),
        };
        let outcome = match serde_json::from_slice::<Envelope<Request>>(&message) {
            Ok(request) if request.v == VERSION => match handler.handle(request.body) {
                Ok(reply) => Outcome::Ok(reply),
                Err(problem) => Outcome::Error(problem),
            },
            Ok(request) => Outcome::Error(format!("protocol version {} is not spoken here; use {VERSION}", request.v)),
            Err(e) => Outcome::Error(format!("not a request: {e}")),
        };
        answer(&mut stream, outcome)?;
    }
}

fn answer(stream: &mut UnixStream, outcome: Outcome) -> io::Result<()> {
    write_message(stream, &Envelope { v: VERSION, body: outcome })
}

/// Why a client got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the connection broke.
    #[error("cannot reach the gateway at {path}: {source}; is it running, and may you use the socket?", path = .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The gateway refused.
    #[error("{0}")]
    Refused(String),
}

/// Sends one request to the gateway at `path` and waits for its reply.
///
/// # Errors
/// See [`ClientError`].
pub fn call(path: &Path, request: &Request) -> Result<Reply, ClientError> {
    let exchange = || -> io::Result<Outcome> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write_message(&mut stream, &Envelope { v: VERSION, body: request })?;
        let message = read_message(&mut stream, REPLY_MAX)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(parse::<Envelope<Outcome>>(&message)?.body)
    };
    match exchange() {
        Ok(Outcome::Ok(reply)) => Ok(reply),
        Ok(Outcome::Error(problem)) => Err(ClientError::Refused(problem)),
        Err(source) => Err(ClientError::Unreachable { path: path.to_owned(), source }),
    }
}

fn parse<T: DeserializeOwned>(message: &[u8]) -> io::Result<T> {
    serde_json::from_slice(message).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// `None` when the peer closed the connection between two messages.
fn read_message(stream: &mut impl Read, limit: u32) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length > limit {
        let problem = format!("a message of {length} bytes is too long; at most {limit}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    // Grows with what really arrives: a length alone buys no memory.
    let mut message = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut message)?;
    if message.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

fn write_message(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Handler for Echo {
        fn handle(&self, request: Request) -> Result<Reply, String> {
            match request {
                Request::Status => Err("no status here".into()),
                Request::RestartWorker { worker: 0 } => Ok(Reply::Done),
                Request::RestartWorker { worker } => Err(format!("no worker {worker}")),
            }
        }
    }

    fn server() -> (tempfile::TempDir, PathBuf, Server) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sock");
        let server = Server::start(&path, "no-such-group", Arc::new(Echo)).unwrap();
        (folder, path, server)
    }

    fn raw(path: &Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(bytes).unwrap();
        let reply = read_message(&mut stream, REPLY_MAX).unwrap().unwrap();
        String::from_utf8(reply).unwrap()
    }

    #[test]
    fn a_request_gets_its_reply() {
        let (_folder, path, _server) = server();
        assert_eq!(call(&path, &Request::RestartWorker { worker: 0 }).unwrap(), Reply::Done);
        let refused = call(&path, &Request::RestartWorker { worker: 7 }).unwrap_err();
        assert_eq!(refused.to_string(), "no worker 7");
    }

    #[test]
    fn what_is_not_a_request_gets_a_reason() {
        let (_folder, path, _server) = server();
        let framed = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
        assert!(raw(&path, &framed("nonsense")).contains("not a request"));
        assert!(raw(&path, &framed(r#"{"v":1,"op":"explode"}"#)).contains("not a request"));
        assert!(raw(&path, &framed(r#"{"v":9,"op":"status"}"#)).contains("version 9 is not spoken here"));
        assert!(raw(&path, &u32::MAX.to_be_bytes()).contains("too long"));
    }

    #[test]
    fn a_silent_or_flooding_client_does_not_stop_another() {
        let (_folder, path, _server) = server();
        let silent: Vec<_> = (0..CONNECTIONS_MAX - 1).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(call(&path, &Request::RestartWorker { worker: 0 }).unwrap(), Reply::Done);
        drop(silent);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let (_folder, path, first) = server();
        let taken = Server::start(&path, "no-such-group", Arc::new(Echo)).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a closed listener leaves its path behind");
        drop(Server::start(&path, "no-such-group", Arc::new(Echo)).unwrap());
    }
}

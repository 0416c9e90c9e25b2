//! Server: the listening socket.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid};
use tidegate_client::frame;
use tidegate_client::wire::{Outcome, Refusal};
use tracing::{debug, error, info, warn};

use super::peer::{self, Peer};
use super::{Limits, Service, connection};

/// How long not to accept, where that failed.
const RETRY: Duration = Duration::from_millis(100);

/// The listening socket. Dropped, it takes its path away, ends all connections, and waits for the requests that are being
/// served.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Closed to end the thread that accepts.
    alive: Option<UnixStream>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `path`, mode 0660, group `group` where there is one, and serves with `control`. A socket that a dead run left
    /// behind is replaced, one that somebody answers on is not.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::AddrInUse`] if another gateway answers there.
    pub fn start(path: &Path, group: &str, service: Arc<Service>, limits: Limits) -> io::Result<Server> {
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
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        let group = peer::group(group);
        if group.is_some() {
            nix::unistd::chown(path, None, group)?;
        }
        let (alive, closing) = UnixStream::pair()?;
        let clients = Clients { service, group, limits: Arc::new(limits), open: Vec::new() };
        let accept = move || clients.accept(&listener, &closing);
        let accepting = thread::Builder::new().name("control".into()).spawn(accept)?;
        info!(path = %path.display(), "control socket open");
        Ok(Server { path: path.to_owned(), alive: Some(alive), accepting: Some(accepting) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.alive = None;
        if let Some(accepting) = self.accepting.take()
            && accepting.join().is_err()
        {
            error!("the control socket's thread panicked");
        }
    }
}

/// All connections.
struct Clients {
    service: Arc<Service>,
    group: Option<Gid>,
    limits: Arc<Limits>,
    open: Vec<Client>,
}

struct Client {
    uid: Uid,
    stream: Arc<UnixStream>,
    thread: JoinHandle<()>,
}

impl Clients {
    /// Accepts until the other end of `closing` is closed; then ends all connections.
    fn accept(mut self, listener: &UnixListener, closing: &UnixStream) {
        loop {
            let mut ready = [listener.as_fd(), closing.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let polled = poll(&mut ready, PollTimeout::NONE);
            if ready[1].any().unwrap_or(false) {
                break;
            }
            match polled.map_err(io::Error::from).and_then(|_| listener.accept()) {
                Ok((stream, _)) => self.admit(stream),
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(e) => {
                    warn!(error = %e, "control socket: cannot accept");
                    thread::sleep(RETRY);
                }
            }
        }
        for client in &self.open {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
        for client in self.open {
            let _ = client.thread.join();
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        self.open.retain(|client| !client.thread.is_finished());
        let refused = match Peer::of(&stream) {
            Ok(peer) => match self.refuses(peer) {
                None => return self.serve(stream, peer),
                Some(refused) => refused,
            },
            Err(e) => Refusal::new("EACCES", format!("nobody knows who you are: {e}")),
        };
        debug!(refused = %refused, "control client refused");
        // A fresh socket has room for it.
        let mut message = Vec::new();
        let _ = frame::write(&mut message, &Outcome::Error(refused))
            .and_then(|_| io::Write::write_all(&mut &stream, &message));
    }

    fn refuses(&self, peer: Peer) -> Option<Refusal> {
        let of_user = self.open.iter().filter(|client| client.uid == peer.uid).count();
        if self.open.len() >= self.limits.connections {
            Some(Refusal::new("EAGAIN", format!("there are {} connections already", self.limits.connections)))
        } else if of_user >= self.limits.connections_per_user {
            Some(Refusal::new("EAGAIN", format!("you have {of_user} connections already")))
        } else {
            None
        }
    }

    fn serve(&mut self, stream: UnixStream, peer: Peer) {
        let stream = Arc::new(stream);
        let (service, limits) = (Arc::clone(&self.service), Arc::clone(&self.limits));
        let (group, served) = (self.group, Arc::clone(&stream));
        let thread = thread::Builder::new().name("client".into()).spawn(move || {
            let ended = connection::serve(&served, peer, group, &service, &limits);
            // The acceptor may hold the stream for long.
            let _ = served.shutdown(Shutdown::Both);
            match ended {
                Ok(()) => debug!(pid = peer.pid, "control client left"),
                Err(e) => debug!(pid = peer.pid, error = %e, "control client cut off"),
            }
        });
        match thread {
            Ok(thread) => self.open.push(Client { uid: peer.uid, stream, thread }),
            Err(e) => warn!(error = %e, "control socket: no thread for a client"),
        }
    }
}

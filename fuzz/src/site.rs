//! A gateway without packets, for one input after the other: each has to leave it as it was found.

use std::os::unix::net::UnixStream;
use std::panic::RefUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::ActionKind;
use tidegate_client::{Client, frame};
use tidegate_engine::control::{Limits, Server, Service};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that a request may have here.
pub(crate) const LIMIT: u32 = 1000;

/// A control socket, and the filters behind it. Ports are made on demand.
pub(crate) struct Site {
    pub(crate) socket: PathBuf,
    plane: Arc<Plane>,
    _server: Server,
    _folder: tempfile::TempDir,
}

/// The first input that fails is the last one.
impl RefUnwindSafe for Site {}

impl Site {
    pub(crate) fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("t.sock");
        let plane = Plane::standalone(1);
        let service = Arc::new(Service::standalone(Arc::clone(&plane)));
        let server = Server::start(&socket, "", service, Limits { request: LIMIT, ..Limits::default() }).unwrap();
        Site { socket, plane, _server: server, _folder: folder }
    }

    /// A connection, not welcomed yet.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Deletes what clients may leave, all of which have left: what they bound, and actions that stand alone. Then nothing is
    /// in memory.
    pub(crate) fn clean(&self) {
        let mut client = Client::connect(&self.socket).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            // A port's other hook may have taken this one along; and a transaction ends a little later than its client.
            for hook in client.blocks().unwrap().into_iter().flat_map(|block| block.hooks) {
                let _ = client.unbind(hook.strip_suffix("/egress").unwrap_or(&hook));
            }
            for kind in ActionKind::ALL {
                let _ = client.flush_actions(kind.as_str());
            }
            self.plane.reaper().drain();
            match self.plane.live() {
                nothing if nothing == LiveCounts::default() => return,
                left => assert!(Instant::now() < end, "left in memory: {left:?}"),
            }
            std::thread::yield_now();
        }
    }
}

/// The next message; none at the end of the stream.
pub(crate) fn receive(stream: &mut UnixStream) -> Option<Value> {
    let mut message = Vec::new();
    frame::read(stream, u32::MAX, &mut message).unwrap().then(|| serde_json::from_slice(&message).unwrap())
}

//! A service to talk to: ports `wan`, `lan` and `guests`; block `office` of the latter two, its chain 7 called `scan`.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::plane::{Binding, Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_client::status::{ReloadStatus, Status};
use tidegate_client::wire::Refusal;
use tidegate_client::{Client, frame};
use tidegate_config::Names;
use tidegate_engine::control::{Directory, Gateway, Limits, Server, Service};
use tidegate_engine::samples::{Listener, Samples};

/// Longer than anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A service behind a socket.
pub(crate) struct Site {
    pub(crate) socket: PathBuf,
    pub(crate) server: Option<Server>,
    gateway: Arc<Still>,
    _bindings: Vec<Binding>,
    folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Site {
        let plane = Plane::standalone(1);
        let directory = Directory::new(Arc::clone(&plane));
        for (id, port) in (0..).zip(["wan", "lan", "guests"]) {
            directory.name_port(port, PortId(id));
        }
        let hooks = [PortId(1), PortId(2)].map(|port| Hook { port, direction: Direction::Ingress });
        let bindings: Vec<_> = hooks.iter().map(|&hook| plane.bind(hook, 1, None).unwrap()).collect();
        let mut chains = Names::new("chain of this block");
        chains.insert("scan", 7);
        directory.name_block("office", bindings[0].block(), chains, hooks);
        let gateway = Arc::new(Still::new(&plane));
        let service =
            Service { plane, directory: Arc::new(directory), gateway: Some(Arc::clone(&gateway) as Arc<dyn Gateway>) };
        Site::serving(service, gateway, bindings, limits)
    }

    /// A service without a gateway: ports are made on demand.
    pub(crate) fn standalone() -> Site {
        let service = Service::standalone(Plane::standalone(1));
        let gateway = Arc::new(Still::new(&service.plane));
        Site::serving(service, gateway, Vec::new(), Limits::default())
    }

    fn serving(service: Service, gateway: Arc<Still>, bindings: Vec<Binding>, limits: Limits) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("t.sock");
        let server = Server::start(&socket, "no-such-group", Arc::new(service), limits).unwrap();
        Site { socket, server: Some(server), gateway, _bindings: bindings, folder }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Hooks that clients' blocks are attached to.
    pub(crate) fn attached(&self) -> BTreeSet<Hook> {
        self.gateway.hooks.lock().unwrap().clone()
    }

    /// Where packets are shown.
    pub(crate) fn samples(&self) -> &Samples {
        &self.gateway.samples
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// A connection, welcomed.
    pub(crate) fn raw(&self) -> Raw {
        let mut raw = Raw(UnixStream::connect(&self.socket).unwrap());
        raw.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let welcome = raw.receive().unwrap();
        assert_eq!(welcome["ok"]["welcome"]["protocol"], 1, "{welcome}");
        raw
    }
}

/// A connection without manners.
pub(crate) struct Raw(pub(crate) UnixStream);

impl Raw {
    /// The next message; none if the connection is closed.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut message = Vec::new();
        match frame::read(&mut self.0, 1 << 30, &mut message) {
            Ok(true) => Some(serde_json::from_slice(&message).unwrap()),
            Ok(false) => None,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("{e}"),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.write_all(&framed(text)).unwrap();
    }

    pub(crate) fn ask(&mut self, text: &str) -> Value {
        self.send(text);
        self.receive().expect("a reply")
    }
}

/// `text` as a message.
pub(crate) fn framed(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// A gateway that no packet comes by.
struct Still {
    /// Those that have a block.
    hooks: Mutex<BTreeSet<Hook>>,
    samples: Arc<Samples>,
}

impl Still {
    fn new(plane: &Arc<Plane>) -> Still {
        Still { hooks: Mutex::default(), samples: Samples::new(Arc::clone(plane)) }
    }
}

impl Gateway for Still {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 4711,
            uptime_s: 60,
            ports: Vec::new(),
            workers: Vec::new(),
            chains: Vec::new(),
            filters: Vec::new(),
            reload: ReloadStatus::default(),
        }
    }

    fn restart_worker(&self, worker: u16) -> Result<(), Refusal> {
        match worker {
            0 => Ok(()),
            _ => Err(Refusal::new("ENOENT", format!("there is no worker {worker}"))),
        }
    }

    fn attach(&self, hook: Hook, block: Option<Arc<Block>>) -> Result<(), Refusal> {
        if hook.direction == Direction::Egress {
            return Err(Refusal::new("EOPNOTSUPP", "packets meet filters at ingress only"));
        }
        let mut hooks = self.hooks.lock().unwrap();
        match block {
            Some(_) => assert!(hooks.insert(hook), "it had a block"),
            None => assert!(hooks.remove(&hook), "it had none"),
        }
        Ok(())
    }

    fn listen(&self, group: Option<u32>) -> Result<Listener, Refusal> {
        self.samples.listen(group).ok_or_else(|| Refusal::new("EAGAIN", "too many"))
    }

    fn now_ns(&self) -> u64 {
        1
    }
}

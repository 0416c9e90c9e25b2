//! Gateway: filters behind a socket, ports without interfaces.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::PortId;
use tidegate_engine::control::{Limits, Server, Service};

/// Names of ports, as the cases have them.
pub(crate) const PORTS: [&str; 5] = ["lo", "v0p0", "v0p1", "dev2", "dummy1"];

/// A control plane with its socket, and a program that reaches it.
pub(crate) struct Gateway {
    folder: TempDir,
    _server: Server,
}

impl Gateway {
    /// With the ports [`PORTS`]; `tidegate` is the program that `$TC` starts.
    pub(crate) fn start(tidegate: &Path) -> Result<Gateway> {
        let folder = tempfile::Builder::new().prefix("tidegate-tdc").tempdir()?;
        let service = Service::standalone(Plane::standalone(1));
        for (name, id) in PORTS.iter().zip(0..) {
            service.directory.name_port(name, PortId(id));
        }
        let socket = folder.path().join("socket");
        let server = Server::start(&socket, "", Arc::new(service), Limits::default())?;
        let script = format!("#!/bin/sh\nTIDEGATE_SOCKET={} exec {} tc \"$@\"\n", socket.display(), tidegate.display());
        fs::write(folder.path().join("tc"), script)?;
        fs::set_permissions(folder.path().join("tc"), fs::Permissions::from_mode(0o755))?;
        Ok(Gateway { folder, _server: server })
    }

    /// What `$TC` stands for.
    pub(crate) fn tc(&self) -> PathBuf {
        self.folder.path().join("tc")
    }

    /// A file or folder that the case may make.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

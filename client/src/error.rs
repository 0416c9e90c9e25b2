//! Why a client got no answer, or not the one it wanted.

use std::io;
use std::path::PathBuf;

use crate::wire::Refusal;

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the connection was refused or cut at once.
    #[error("cannot reach the gateway at {path}: {source}; is it running, and may you use the socket?", path = .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The gateway refused. The connection goes on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection broke. What was asked may have been done or not.
    #[error("the connection to the gateway broke: {0}")]
    Broken(#[from] io::Error),
    /// The gateway speaks another version of the protocol.
    #[error(
        "the gateway {version} speaks version {protocol} of the protocol, this client version {}",
        crate::wire::VERSION
    )]
    Version {
        /// Version of the gateway.
        version: String,
        /// Version of its protocol.
        protocol: u32,
    },
    /// The gateway sent something else than the request asks for.
    #[error("the gateway's reply is none to this request: {0}")]
    Unexpected(String),
}

impl ClientError {
    /// The error's name as the kernel spells it, if the gateway refused.
    pub fn errno(&self) -> Option<&str> {
        match self {
            ClientError::Refused(refusal) => Some(&refusal.errno),
            _ => None,
        }
    }
}

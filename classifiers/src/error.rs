//! Why a request was refused: the error catalogue.

/// Why a request was refused. The variant is what clients can rely on; the words are for people. A refused request left
/// everything as it was [ER-40].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RequestError {
    /// What the request names is not there. ENOENT.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// What the request would add is there already. EEXIST.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// The request contradicts itself or what is there. EINVAL.
    #[error("{0}")]
    Invalid(&'static str),
    /// Every number that could be given automatically is taken. ENOSPC.
    #[error("no {0} is free")]
    NoSpace(&'static str),
    /// This cannot be done to this object. EOPNOTSUPP.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// Something is in use, or did not become free in time. EBUSY.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// An action that filters are bound to cannot be deleted. EPERM.
    #[error("not permitted: {0}")]
    NotPermitted(&'static str),
    /// There is no such port. ENODEV.
    #[error("no such port: {0}")]
    NoPort(&'static str),
    /// A number is out of its range. ERANGE.
    #[error("out of range: {0}")]
    OutOfRange(&'static str),
    /// The protocol is none that this can be done with. EPROTONOSUPPORT.
    #[error("unsupported protocol: {0}")]
    UnsupportedProtocol(&'static str),
    /// Not enough memory, or a quota is used up. ENOMEM.
    #[error("out of memory: {0}")]
    NoMemory(&'static str),
    /// A page of a listing has no room for a single record. EMSGSIZE.
    #[error("no room for {0}")]
    TooSmall(&'static str),
}

impl RequestError {
    /// The error's name in the catalogue, as the kernel spells it.
    pub const fn errno(self) -> &'static str {
        match self {
            RequestError::NotFound(_) => "ENOENT",
            RequestError::Exists(_) => "EEXIST",
            RequestError::Invalid(_) => "EINVAL",
            RequestError::NoSpace(_) => "ENOSPC",
            RequestError::Unsupported(_) => "EOPNOTSUPP",
            RequestError::Busy(_) => "EBUSY",
            RequestError::NotPermitted(_) => "EPERM",
            RequestError::NoPort(_) => "ENODEV",
            RequestError::OutOfRange(_) => "ERANGE",
            RequestError::UnsupportedProtocol(_) => "EPROTONOSUPPORT",
            RequestError::NoMemory(_) => "ENOMEM",
            RequestError::TooSmall(_) => "EMSGSIZE",
        }
    }
}

/// What an attempt at a request ends with when it does not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else is in the middle of something: the attempt left nothing behind, and is made again [RP-1]. Never seen
    /// by clients [RP-5].
    Again(Why),
    /// The answer.
    Final(RequestError),
}

/// Why an attempt is made again [RP-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The chain is being flushed.
    Flushing,
    /// The predecessor of the wanted proto is being destroyed.
    Dying,
    /// The proto is going away.
    Deleting,
    /// The filter to be replaced went away.
    Replaced,
    /// Another request has reserved the handle.
    Reserved,
    /// The kind needs the global lock.
    Locked,
    /// An automatic priority went to another request [PR-4].
    Priority,
    /// What it would take from a transaction is being committed [TX-6].
    Committing,
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Refusal::Final(error)
    }
}

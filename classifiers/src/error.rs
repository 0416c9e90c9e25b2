//! Why a request was refused: the error catalogue.

/// Why a request was refused. The variant is what clients can rely on; the words are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// What the request names is not there.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// What the request would add is there already.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// The request contradicts itself or what is there.
    #[error("{0}")]
    Invalid(&'static str),
    /// Every number that could be given automatically is taken.
    #[error("no {0} is free")]
    NoSpace(&'static str),
}

impl RequestError {
    /// The error's name in the catalogue, as the kernel spells it.
    pub const fn errno(self) -> &'static str {
        match self {
            RequestError::NotFound(_) => "ENOENT",
            RequestError::Exists(_) => "EEXIST",
            RequestError::Invalid(_) => "EINVAL",
            RequestError::NoSpace(_) => "ENOSPC",
        }
    }
}

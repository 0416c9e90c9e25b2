//! Wrong usage: what is wrong with what the command line or a file says.

/// Ends the program with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

//! Why there is no report of a run.

use std::{io, path::PathBuf};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The trace cannot be written.
    #[error("cannot write the trace to `{}`: {source}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The backend's functions cannot be loaded.
    #[error("cannot load the backend's functions: {0}")]
    Backend(String),
    /// A host of the simulation itself failed.
    #[error("a host of the simulation failed: {0}")]
    Host(String),
}

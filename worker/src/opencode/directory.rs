//! The directory that a worker works in. OpenCode keeps the sessions of all directories of its user together, shows them
//! to whoever asks, and takes prompts for each of them, which then work in *its* directory: so whose a session is has to
//! be asked before anything is done with it.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use tracing::warn;

use super::types::Session;

/// The directory of one server.
#[derive(Debug)]
pub(crate) struct Directory {
    /// As OpenCode writes it: what the server is started in, links resolved, without a slash at its end.
    path: String,
    /// Whether the log has said that sessions come without a directory.
    has_warned: AtomicBool,
}

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// The worker's.
    Here,
    /// Another directory's.
    Elsewhere,
    /// OpenCode does not say.
    Untold,
}

impl Directory {
    /// `path` is where the server is started, in full and with links resolved, as the config gives it.
    pub(crate) fn new(path: &Path) -> Self {
        let path = without_end(&path.to_string_lossy()).to_owned();
        Self { path, has_warned: AtomicBool::new(false) }
    }

    /// Returns whose `session` is. The log is told once if OpenCode does not say.
    pub(crate) fn of(&self, session: &Session) -> Belongs {
        match &session.directory {
            Some(path) if without_end(path) == self.path => Belongs::Here,
            Some(_) => Belongs::Elsewhere,
            None => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    let (session, ours) = (session.id.as_str(), &self.path);
                    warn!(
                        session,
                        ours,
                        "OpenCode does not say which directory a session is of; such sessions are left alone. Use version 1.18"
                    );
                }
                Belongs::Untold
            }
        }
    }

    /// Returns true if `session` is the worker's, for sure.
    pub(crate) fn has(&self, session: &Session) -> bool {
        self.of(session) == Belongs::Here
    }

    /// The path as a value in a query.
    pub(crate) fn in_query(&self) -> PercentEncode<'_> {
        utf8_percent_encode(&self.path, NON_ALPHANUMERIC)
    }
}

/// The root keeps its slash.
fn without_end(path: &str) -> &str {
    let short = path.trim_end_matches('/');
    if short.is_empty() { path } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(directory: &str) -> Session {
        let text = format!(r#"{{"id":"ses_1",{directory}"time":{{"created":1,"updated":1}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[track_caller]
    fn check(ours: &str, directory: &str, expect: Belongs) {
        assert_eq!(Directory::new(Path::new(ours)).of(&session(directory)), expect, "{directory} for {ours}");
    }

    #[test]
    fn a_session_belongs_to_one_directory_and_not_to_those_that_begin_or_end_alike() {
        check("/srv/a", r#""directory":"/srv/a","#, Belongs::Here);
        check("/srv/a/", r#""directory":"/srv/a","#, Belongs::Here);
        check("/srv/a", r#""directory":"/srv/a/","#, Belongs::Here);
        check("/", r#""directory":"/","#, Belongs::Here);
        for other in ["/srv/a/b", "/srv", "/srv/ab", "/srv/A", "/", ""] {
            check("/srv/a", &format!(r#""directory":"{other}","#), Belongs::Elsewhere);
        }
    }

    #[test]
    fn a_session_without_a_directory_is_nobody_s() {
        check("/srv/a", "", Belongs::Untold);
        check("/srv/a", r#""directory":null,"#, Belongs::Untold);
    }

    #[test]
    fn a_path_changes_no_query() {
        let query = |path| Directory::new(Path::new(path)).in_query().to_string();
        assert_eq!(query("/srv/a b&limit=0#é/"), "%2Fsrv%2Fa%20b%26limit%3D0%23%C3%A9");
    }
}

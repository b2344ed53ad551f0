//! The executable that a worker under load starts instead of OpenCode: a process to be started, watched and killed,
//! whose work is done elsewhere.
//!
//! It asks the load test for a server over a Unix socket, prints that server's address as its own, and holds the
//! connection. When it dies, however it dies, the connection ends, and the server with it. So the worker's processor
//! time and memory are its own, and what the server sees is observed where the oracles are.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// The part of this program that stands in for the `opencode` executable.
pub const COMMAND: &str = "opencode-under-load";

/// What the executable asks for, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wish {
    /// A server; clients must present this password.
    Serve {
        /// Nothing lets everybody in.
        password: Option<String>,
    },
    /// The list of models.
    Models,
}

/// Does what `opencode` with these arguments would; prints through `say`. Returns when the load test is over.
///
/// # Errors
/// If the load test is not there, or the arguments are none that a worker gives.
pub fn stand_in(socket: &Path, arguments: &[String], say: impl Fn(&str)) -> io::Result<()> {
    let password = std::env::var("OPENCODE_SERVER_PASSWORD").ok();
    let wish = match arguments.first().map(String::as_str) {
        Some("serve") => Wish::Serve { password },
        Some("models") => Wish::Models,
        _ => return Err(io::Error::other(format!("a load test has no `opencode {}`", arguments.join(" ")))),
    };
    let mut connection = UnixStream::connect(socket)?;
    let line = serde_json::to_string(&wish)?;
    writeln!(connection, "{line}")?;
    let mut answers = BufReader::new(connection).lines();
    answers.try_for_each(|answer| {
        say(&answer?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_one_line() {
        let wish = Wish::Serve { password: Some("secret\n".into()) };
        let line = serde_json::to_string(&wish).unwrap();
        assert_eq!(line, r#"{"serve":{"password":"secret\n"}}"#);
        assert_eq!(serde_json::from_str::<Wish>(&line).unwrap(), wish);
    }

    #[test]
    fn what_no_worker_asks_is_refused() {
        let error = stand_in(Path::new("/nowhere"), &["auth".into(), "login".into()], |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "a load test has no `opencode auth login`");
    }
}

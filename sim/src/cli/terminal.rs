//! The only place that writes to the terminal.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};

/// Prints to standard output. A reader that has gone away is no error.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints to standard error.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes to standard output as it is, and at once.
pub(super) fn write(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error as it is.
pub(super) fn write_error(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether standard output takes colours: a terminal, unless NO_COLOR, CLICOLOR or CLICOLOR_FORCE say otherwise
/// (<https://no-color.org>, <https://bixense.com/clicolors>).
pub(super) fn is_styled() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// The same, for standard error.
pub(super) fn is_error_styled() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

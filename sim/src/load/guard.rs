//! A process that outlives the load test for a moment, to end what else would.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::load::remains::MARK;

/// The hidden command of this program that it runs ([`crate::load::remains::guard`]).
pub const COMMAND: &str = "load-guard";

/// The guard of a run. Dropping it has it do its work, and waits for it.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts the guard of the machines in `roots`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(roots: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["internal", COMMAND]).args(roots).env_remove(MARK);
        // Ctrl-C at the terminal is meant for the load test, which then ends everything in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself, within some seconds.
        let _ = self.0.wait();
    }
}

//! Finds what a server has left behind, wherever it went, by a mark in its environment.
//!
//! OpenCode runs each tool's shell in a session of its own (measured on 1.18.33), so killing the server's process group
//! does not reach it, and once the server is dead nothing ties the two together but what the shell inherited.

use std::{fs, path::Path};

use rand::{TryRngCore, rngs::OsRng};
use rustix::process::{Pid, Signal, kill_process};

/// The variable that carries the mark.
pub(super) const VARIABLE: &str = "OPENCODE_WORKER_MARK";
/// Rounds of looking and killing: what is killed in one may just have started another process.
const ROUNDS: usize = 5;

/// Marks one launched server and all that descend from it. No secret.
#[derive(Debug, Clone)]
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        let number = OsRng.try_next_u64().expect("the system has a source of randomness");
        Self(format!("{}-{number:016x}", std::process::id()))
    }

    pub(super) fn value(&self) -> &str {
        &self.0
    }

    /// Kills every process that carries the mark. Does nothing where there is no `/proc`.
    pub(super) fn kill_all(&self) {
        for _ in 0..ROUNDS {
            let found = self.processes();
            if found.is_empty() {
                return;
            }
            for pid in found {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let entry = format!("{VARIABLE}={}", self.0);
        let carries = |process: &Path| {
            // Other people's processes cannot be read, and are not ours.
            let environ = fs::read(process.join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids =
            all.filter_map(|process| Some((process.path(), process.file_name().to_str()?.parse().ok()?)));
        pids.filter(|(path, _)| carries(path)).filter_map(|(_, pid)| Pid::from_raw(pid)).collect()
    }
}

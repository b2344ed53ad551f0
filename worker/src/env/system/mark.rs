//! Finds what a server has left behind, wherever it went, by a mark in its environment.
//!
//! OpenCode runs each tool's shell in a session of its own (measured on 1.18.33), so killing the server's process group
//! does not reach it, and once the server is dead nothing ties the two together but what the shell inherited.
//!
//! A worker that is killed cannot look; so the mark names the worker, and the next one ends what such a worker has left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{TryRngCore, rngs::OsRng};
use rustix::process::{Pid, Signal, kill_process};

/// The variable that carries the mark.
pub(super) const VARIABLE: &str = "OPENCODE_WORKER_MARK";
/// Rounds of looking and killing: what is killed in one may just have started another process.
const ROUNDS: usize = 5;

/// Marks one launched server and all that descend from it: the worker's process and a random number. No secret.
#[derive(Debug, Clone)]
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        let number = OsRng.try_next_u64().expect("the system has a source of randomness");
        let worker = worker(std::process::id()).unwrap_or_default();
        Self(format!("{worker}-{number:016x}"))
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
        marked().filter(|(_, mark)| *mark == self.0).map(|(pid, _)| pid).collect()
    }
}

/// Kills what workers have left that were killed themselves. What runs under a worker that lives is left alone, and so
/// is what another process namespace marked: there the numbers mean other processes.
pub fn end_orphans() {
    let Some(namespace) = namespace() else { return };
    for _ in 0..ROUNDS {
        let orphans: Vec<Pid> =
            marked().filter(|(_, mark)| is_orphan(mark, &namespace, worker)).map(|(pid, _)| pid).collect();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans {
            tracing::warn!(pid = pid.as_raw_nonzero(), "a killed worker has left a process; it is ended");
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Returns true if the worker that a mark names is gone. `worker` names the one that has a number now.
fn is_orphan(mark: &str, namespace: &str, worker: impl Fn(u32) -> Option<String>) -> bool {
    let Some((named, _)) = mark.rsplit_once('-') else { return false };
    let mut parts = named.split('.');
    match (parts.next().and_then(|pid| pid.parse().ok()), parts.next(), parts.next()) {
        (Some(pid), Some(_), Some(its)) if its == namespace => worker(pid).as_deref() != Some(named),
        _ => false,
    }
}

/// Names a process so that no other one ever has the same name: number, start, process namespace.
fn worker(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; after it come the state and the fields from the fourth on.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?;
    (!is_dead).then(|| Some(format!("{pid}.{started}.{}", namespace()?)))?
}

/// The process namespace that we are in, without the dots and dashes that separate the parts of a mark.
fn namespace() -> Option<String> {
    let link: PathBuf = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.chars().filter(char::is_ascii_digit).collect())
}

/// All processes that carry a mark, with it. Empty where there is no `/proc`.
fn marked() -> impl Iterator<Item = (Pid, String)> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|process| {
        let pid = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
        Some((pid, mark_of(&process.path())?))
    })
}

fn mark_of(process: &Path) -> Option<String> {
    // Other people's processes cannot be read, and are not ours.
    let environ = fs::read(process.join("environ")).ok()?;
    let mut variables = environ.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    variables.find_map(|text| text.strip_prefix(VARIABLE)?.strip_prefix('=').map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_what_a_worker_marked_that_is_gone() {
        let worker = |pid| (pid == 7).then(|| "7.100.4026".to_owned());
        let check = |mark, expect| assert_eq!(is_orphan(mark, "4026", worker), expect, "{mark}");
        check("7.100.4026-00aa", false);
        check("7.99.4026-00aa", true);
        check("8.100.4026-00aa", true);
        check("8.100.4027-00aa", false);
        check("8-00aa", false);
        check("", false);
    }

    #[test]
    fn this_process_is_no_orphan_and_no_other_process_has_its_name() {
        let mark = Mark::new();
        assert!(!is_orphan(mark.value(), &namespace().unwrap(), worker), "{mark:?}");
        assert_ne!(worker(std::process::id()), worker(std::os::unix::process::parent_id()));
    }
}

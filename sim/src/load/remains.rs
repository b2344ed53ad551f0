//! What is left of a worker: its processes carry a mark in their environment, by which they are found wherever they went.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, getpgid, getpid, kill_process, waitpid};

/// The variable that the mark is in.
pub const MARK: &str = "SIM_LOAD_MARK";
/// The hidden command of this program that stands in for OpenCode.
pub const STAND_IN: &str = "opencode-under-load";
/// Between two searches of [`end_all`].
const PAUSE: Duration = Duration::from_millis(50);
/// So many searches at most: 5 s. What a kill does not end by then hangs in the kernel.
const SEARCHES: usize = 100;

/// A process with a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub pid: Pid,
    /// Its process group, unless it is gone.
    pub group: Option<Pid>,
    /// The start of the worker that it comes from.
    pub start: u64,
    /// Whether it stands in for OpenCode.
    pub stands_in: bool,
    /// Its command line.
    pub command: String,
}

impl Marked {
    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        // Already gone: that is what was wanted.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

/// The mark of a worker's start number `start`, on the machine that lives in `root`.
#[must_use]
pub fn mark(root: &Path, start: u64) -> OsString {
    root.join(start.to_string()).into()
}

/// The processes that are there of the workers on the machine that lives in `root`. One that has ended, but was not
/// waited for, has no environment and is not among them.
#[must_use]
pub fn marked(root: &Path) -> Vec<Marked> {
    processes().filter_map(|pid| look(pid, root)).collect()
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn look(pid: Pid, root: &Path) -> Option<Marked> {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}"));
    let environment = file("environ").ok()?;
    let prefix = [MARK.as_bytes(), b"="].concat();
    let value =
        environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(&prefix[..]))?;
    let mark = PathBuf::from(OsString::from_vec(value.to_vec()));
    if mark.parent() != Some(root) {
        return None;
    }
    let start = mark.file_name()?.to_str()?.parse().ok()?;
    let words = file("cmdline").ok()?;
    let words: Vec<_> = words.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let script = root.join("opencode");
    let stands_in = |word: &&[u8]| *word == STAND_IN.as_bytes() || *word == script.as_os_str().as_bytes();
    let command = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
    let group = getpgid(Some(pid)).ok();
    Some(Marked { pid, group, start, stands_in: words.iter().any(stands_in), command })
}

/// Waits for every child of this process that has ended, except those in `awaited`, which somebody else waits for. What
/// loses its parent becomes a child of ours (see [`crate::load::process`]), and stays as a zombie until it is waited for.
pub fn reap(awaited: &[Pid]) {
    let ours = getpid().as_raw_nonzero().get();
    let is_dead_child = |pid: &Pid| {
        let stat =
            procfs::process::Process::new(pid.as_raw_nonzero().get()).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.ppid == ours && stat.state == 'Z')
    };
    for pid in processes().filter(|pid| !awaited.contains(pid)).filter(is_dead_child) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// The guard of a load test, a process of its own: waits until the load test is gone, however it ended, which closes its
/// standard input; then ends what is left on the machines in `roots`.
///
/// # Errors
/// If standard input cannot be read.
pub fn guard(roots: &[PathBuf]) -> io::Result<()> {
    let mut rest = Vec::new();
    io::stdin().take(1).read_to_end(&mut rest)?;
    end_all(roots);
    Ok(())
}

fn end_all(roots: &[PathBuf]) {
    for _ in 0..SEARCHES {
        let left: Vec<_> = roots.iter().flat_map(|root| marked(root)).collect();
        if left.is_empty() {
            return;
        }
        left.iter().for_each(Marked::kill);
        #[expect(clippy::disallowed_methods, reason = "a process of its own, with nothing else to do")]
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper(mark: &OsString) -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").env(MARK, mark).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn processes_are_found_by_machine_and_start_and_ended() {
        let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut sleepers = [(0, 1), (0, 2), (1, 2)]
            .map(|(place, start): (usize, u64)| sleeper(&mark(places[place].path(), start)));
        // Between fork and exec a child has its parent's environment.
        while marked(places[0].path()).len() + marked(places[1].path()).len() < 3 {}
        let mut found = marked(places[0].path());
        found.sort_by_key(|one| one.start);
        let seen: Vec<_> = found.iter().map(|one| (one.start, one.stands_in, &*one.command)).collect();
        assert_eq!(seen, [(1, false, "sleep 600"), (2, false, "sleep 600")]);
        let roots = places.map(|place| place.path().to_owned());
        thread::spawn(move || {
            end_all(&roots);
            assert!(roots.iter().all(|root| marked(root).is_empty()));
        })
        .join()
        .unwrap();
        for child in &mut sleepers {
            child.wait().unwrap();
        }
    }
}

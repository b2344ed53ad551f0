//! A worker's process: started, asked to end, killed, watched; never left behind.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use procfs::{WithCurrentSystemInfo as _, process::Process as ProcessFiles};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::trace::{Event, Name};

/// How much of the end of a worker's log is shown when it ended by itself (bytes).
const LAST_WORDS: usize = 600;

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// What it is told by its environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// Where it works.
    pub directory: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: Pid,
    files: Option<ProcessFiles>,
    log: PathBuf,
}

/// One look at a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// The most of it so far.
    pub peak_rss: u64,
    /// Its proportional share; 0 if the kernel does not tell.
    pub pss: u64,
    /// Processor time so far, in ms.
    pub cpu_ms: u64,
    /// Threads.
    pub threads: u64,
    /// Open files.
    pub files: u64,
}

impl Launch {
    /// Starts the worker. It is killed when it is dropped, or when the thread that started it ends.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self) -> io::Result<Worker> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        // What whoever runs this has set for a worker of theirs is none of this one's business.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WORKER_"))
        {
            command.env_remove(name);
        }
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env_remove("RUST_LOG").current_dir(&self.directory).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.expect("a child that was not waited for has a number");
        let files = ProcessFiles::new(pid.as_raw_nonzero().get()).ok();
        Ok(Worker { child, pid, files, log: self.log.clone() })
    }
}

/// Lets the kernel kill the child when the thread that starts it ends, however it ends.
#[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
fn die_with_parent(command: &mut Command) {
    use rustix::{io::Errno, process};

    let parent = process::getpid();
    // SAFETY: the closure runs in the forked child and makes two system calls; it touches no lock and no memory that
    // another thread may have left half-changed, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
        });
    }
}

impl Worker {
    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        // Already gone: that is what was wanted.
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_stop(&self) {
        let _ = kill_process(self.pid, Signal::TERM);
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Looks at it; nothing if it is gone.
    #[must_use]
    pub fn sample(&self) -> Option<Sample> {
        let files = self.files.as_ref()?;
        let (stat, status) = (files.stat().ok()?, files.status().ok()?);
        let ticks = stat.utime + stat.stime;
        let pss = files.smaps_rollup().ok().and_then(|rollup| {
            let maps = rollup.memory_map_rollup.into_iter().next()?;
            maps.extension.map.get("Pss").copied()
        });
        Some(Sample {
            rss: stat.rss_bytes().get(),
            peak_rss: status.vmhwm.unwrap_or(0) * 1024,
            pss: pss.unwrap_or(0),
            cpu_ms: ticks * 1000 / procfs::ticks_per_second(),
            threads: stat.num_threads.unsigned_abs(),
            files: files.fd_count().unwrap_or(0) as u64,
        })
    }

    /// The last that it said.
    #[must_use]
    pub fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

fn last_words(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    let end = &said[said.len().saturating_sub(LAST_WORDS)..];
    String::from_utf8_lossy(end).trim().to_owned()
}

impl Sample {
    /// The fact that `worker` looks so.
    #[must_use]
    pub fn event(self, worker: &Name) -> Event {
        let Self { rss, peak_rss, pss, cpu_ms, threads, files } = self;
        Event::Process { worker: Name::clone(worker), rss, peak_rss, pss, cpu_ms, threads, files }
    }
}

//! A worker's processes: started, asked to end, killed, watched; never left behind.
//!
//! A command may be a wrapper (`sh -c`, `npx`), so what counts is the process group that it leads: signals go to all of
//! the group, as systemd sends them by default, and it has ended when the group is empty. What left the group and outlives
//! the worker becomes a child of ours, because this process is a subreaper ([`strays`]). A worker that starts OpenCode in a
//! group of its own, as ours does, is alone in its group.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use procfs::{WithCurrentSystemInfo as _, process::Process as ProcessFiles};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    test_kill_process_group, waitpgid, waitpid,
};
use tokio::process::{Child, Command};

use sim_model::trace::{Event, Name};

/// How much of the end of a worker's log is shown when it ended by itself (bytes).
const LOG_TAIL: u64 = 600;
/// The most processes of one group that are looked at.
const MEMBERS: usize = 100;
/// What Rust's standard library exits with after a panic in `main`.
const PANICKED: i32 = 101;

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
    /// The number of its first process, and of the group that it leads.
    group: Pid,
    /// How the first process ended, once it has.
    status: Option<ExitStatus>,
    asked: bool,
    log: PathBuf,
    /// Where in the log its own words begin.
    log_from: u64,
}

/// One look at the processes of a worker, all of its group together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// The most of it so far; of several processes, the sum of what each had at most.
    pub peak_rss: u64,
    /// Its proportional share; 0 if the kernel does not tell, as of a worker that hides itself from its user.
    pub pss: u64,
    /// Resident bytes that no file is behind: heap and stacks. 0 if the kernel does not tell.
    pub heap: u64,
    /// Processor time so far, in ms.
    pub cpu_ms: u64,
    /// Threads.
    pub threads: u64,
    /// Open files; 0 if the kernel does not tell, see `pss`.
    pub files: u64,
}

impl Launch {
    /// Starts the worker. All of its group is killed when it is dropped; its first process also when
    /// the thread that started it ends.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self) -> io::Result<Worker> {
        // What loses its parent becomes ours, so that its end can be waited for.
        set_child_subreaper(Some(getpid()))?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let log_from = log.metadata()?.len();
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        // What whoever runs this has set for a worker of theirs is none of this one's business.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WORKER_"))
        {
            command.env_remove(name);
        }
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env_remove("RUST_LOG");
        command.current_dir(&self.directory).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        let child = command.spawn()?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let group = group.expect("a child that was not waited for has a number");
        Ok(Worker { child, group, status: None, asked: false, log: self.log.clone(), log_from })
    }
}

/// Lets the kernel kill the child when the thread that starts it ends, however it ends.
#[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
fn die_with_parent(command: &mut Command) {
    use rustix::{io::Errno, process};

    let parent = getpid();
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
        self.signal(Signal::KILL);
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_stop(&mut self) {
        self.asked = true;
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // Already gone: that is what was wanted.
        let _ = kill_process_group(self.group, signal);
    }

    /// How its first process ended, once all of its group has. When the first one ends although nobody asked, the others
    /// are killed, as a supervisor does.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        let Some(status) = self.status else { return Ok(None) };
        if !self.asked {
            self.kill();
        }
        // Those that lost their parents are ours now.
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        Ok(test_kill_process_group(self.group).is_err().then_some(status))
    }

    /// Whether its first process has ended, and others of its group go on.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.status.is_some()
    }

    /// Looks at it; nothing if it is gone.
    #[must_use]
    pub fn sample(&self) -> Option<Sample> {
        let group = self.group.as_raw_nonzero().get();
        let samples = members(group).into_iter().filter_map(|files| Sample::of(&files, group));
        samples.reduce(Sample::plus)
    }

    /// The last that it said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let read = || {
            let mut log = File::open(&self.log)?;
            let begin = log.metadata()?.len().saturating_sub(LOG_TAIL).max(self.log_from);
            log.seek(SeekFrom::Start(begin))?;
            let mut said = Vec::new();
            log.take(LOG_TAIL).read_to_end(&mut said)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&said).trim().to_owned())
        };
        read().unwrap_or_default()
    }

    /// The panic that it told of, or that its exit code tells of.
    #[must_use]
    pub fn panic(&self) -> Option<String> {
        let said = || {
            let mut log = File::open(&self.log).ok()?;
            log.seek(SeekFrom::Start(self.log_from)).ok()?;
            let mut lines = BufReader::new(log).split(b'\n').map_while(Result::ok);
            let first = lines.find(|line| is_panic(line))?;
            let then = lines.next().unwrap_or_default();
            let told = [first, then].map(|line| String::from_utf8_lossy(&line).into_owned());
            Some(told.join(" ").trim().to_owned())
        };
        let is_code = self.status.is_some_and(|status| status.code() == Some(PANICKED));
        said().or_else(|| is_code.then(|| format!("it ended with exit code {PANICKED}")))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether this is how the standard library begins to tell of a panic.
fn is_panic(line: &[u8]) -> bool {
    line.starts_with(b"thread '") && String::from_utf8_lossy(line).contains(" panicked at ")
}

/// A process that left the group of its worker, outlived it, and so became a child of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pid: Pid,
    /// Its command line.
    pub command: String,
}

impl Stray {
    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        // Already gone: that is what was wanted.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

/// All strays, when no worker runs: this process has no other children then. Those that have ended are waited for.
#[must_use]
pub fn strays() -> Vec<Stray> {
    let children = ProcessFiles::myself().ok().into_iter().flat_map(|own| children(&own));
    children.filter_map(stray).collect()
}

fn stray(pid: i32) -> Option<Stray> {
    let (files, pid) = (ProcessFiles::new(pid).ok()?, Pid::from_raw(pid)?);
    if files.stat().ok()?.state == 'Z' {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        return None;
    }
    Some(Stray { pid, command: files.cmdline().unwrap_or_default().join(" ") })
}

fn children(files: &ProcessFiles) -> Vec<i32> {
    let tasks = files.tasks().into_iter().flatten().filter_map(Result::ok);
    tasks.flat_map(|task| task.children().unwrap_or_default()).map(u32::cast_signed).collect()
}

/// The processes that descend from the leader of `group`, itself first, through members of the group.
fn members(group: i32) -> Vec<ProcessFiles> {
    let (mut found, mut next) = (Vec::new(), vec![group]);
    while let Some(pid) = next.pop().filter(|_| found.len() < MEMBERS) {
        let Ok(files) = ProcessFiles::new(pid) else { continue };
        next.extend(children(&files));
        found.push(files);
    }
    found
}

impl Sample {
    /// A look at one process; nothing if it is gone, or not in `group`.
    fn of(files: &ProcessFiles, group: i32) -> Option<Self> {
        let (stat, status) = (files.stat().ok()?, files.status().ok()?);
        if stat.pgrp != group {
            return None;
        }
        let maps = files.smaps().map(|maps| maps.0).unwrap_or_default();
        Some(Self {
            rss: stat.rss_bytes().get(),
            peak_rss: status.vmhwm.unwrap_or(0) * 1024,
            pss: maps.iter().filter_map(|map| map.extension.map.get("Pss")).sum(),
            heap: status.rssanon.unwrap_or(0) * 1024,
            cpu_ms: processor_ms(files).max((stat.utime + stat.stime) * 1000 / procfs::ticks_per_second()),
            threads: stat.num_threads.unsigned_abs(),
            files: files.fd_count().unwrap_or(0) as u64,
        })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            rss: self.rss + other.rss,
            peak_rss: self.peak_rss + other.peak_rss,
            pss: self.pss + other.pss,
            heap: self.heap + other.heap,
            cpu_ms: self.cpu_ms + other.cpu_ms,
            threads: self.threads + other.threads,
            files: self.files + other.files,
        }
    }

    /// The fact that `worker` looks so.
    #[must_use]
    pub fn event(self, worker: &Name) -> Event {
        let Self { rss, peak_rss, pss, heap, cpu_ms, threads, files } = self;
        Event::Process { worker: Name::clone(worker), rss, peak_rss, pss, heap, cpu_ms, threads, files }
    }
}

/// The processor time of a process's threads, in ms: finer than the ticks of all its threads that ever were, of which a
/// worker needs few. 0 if the kernel does not tell.
fn processor_ms(files: &ProcessFiles) -> u64 {
    let tasks = files.tasks().into_iter().flatten().filter_map(Result::ok);
    tasks.filter_map(|task| task.schedstat().ok()).map(|task| task.sum_exec_runtime).sum::<u64>() / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::process::ExitStatusExt as _, path::Path, time::Duration};

    use tempfile::TempDir;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// Anything that a test waits for.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Shell {
        place: TempDir,
        worker: Worker,
    }

    impl Shell {
        fn run(script: &str) -> Self {
            let place = tempfile::tempdir().unwrap();
            let launch = Launch {
                command: ["sh", "-c", script].map(OsString::from).into(),
                environment: vec![("GREETING", "hello".into())],
                directory: place.path().into(),
                log: place.path().join("log"),
            };
            let worker = launch.start().unwrap();
            Self { place, worker }
        }

        /// Waits until it has said so much.
        async fn said(&self, words: &str) {
            let log = self.place.path().join("log");
            let said = || fs::read_to_string(&log).unwrap_or_default().contains(words);
            wait_until(said).await;
        }

        async fn end(&mut self) -> ExitStatus {
            let mut status = None;
            wait_until(|| {
                status = self.worker.ended().unwrap();
                status.is_some()
            })
            .await;
            status.unwrap()
        }

        /// The processes that work in its place.
        fn left(&self) -> usize {
            working_in(self.place.path())
        }
    }

    fn working_in(place: &Path) -> usize {
        let all = procfs::process::all_processes().unwrap().filter_map(Result::ok);
        all.filter(|process| process.cwd().is_ok_and(|cwd| cwd == place)).count()
    }

    async fn wait_until(mut done: impl FnMut() -> bool) {
        let waiting = async {
            while !done() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_wrapper_is_killed_with_what_it_wraps() {
        let mut shell = Shell::run("sleep 600; true");
        wait_until(|| shell.left() == 2).await;
        shell.worker.kill();
        assert_eq!(shell.end().await.signal(), Some(Signal::KILL.as_raw()));
        assert_eq!(shell.left(), 0);
    }

    #[tokio::test]
    async fn a_worker_has_ended_when_the_last_of_its_group_has() {
        let wrapped = "sh -c 'trap \"sleep 0.3; echo goodbye; exit\" TERM; echo up; while :; do sleep 0.05; done'; true";
        let mut shell = Shell::run(wrapped);
        shell.said("up").await;
        shell.worker.ask_to_stop();
        assert_eq!(shell.end().await.signal(), Some(Signal::TERM.as_raw()));
        shell.said("goodbye").await;
        assert_eq!(shell.left(), 0);
    }

    #[tokio::test]
    async fn a_wrapper_that_ends_by_itself_takes_the_others_with_it() {
        let mut shell = Shell::run("sleep 600 & exit 3");
        assert_eq!(shell.end().await.code(), Some(3));
        assert_eq!(shell.left(), 0);
    }

    #[tokio::test]
    async fn a_worker_that_is_dropped_leaves_nothing() {
        let shell = Shell::run("sleep 600; true");
        wait_until(|| shell.left() == 2).await;
        let Shell { place, worker } = shell;
        drop(worker);
        wait_until(|| working_in(place.path()) == 0).await;
    }

    #[tokio::test]
    async fn all_processes_of_a_group_are_measured_together() {
        let shell = Shell::run("sleep 600; true");
        wait_until(|| shell.left() == 2).await;
        let both = shell.worker.sample().unwrap();
        let first = ProcessFiles::new(shell.worker.group.as_raw_nonzero().get()).unwrap();
        let one = Sample::of(&first, shell.worker.group.as_raw_nonzero().get()).unwrap();
        assert_eq!((one.threads, both.threads), (1, 2));
        assert!(both.rss > one.rss && one.rss > 0 && one.peak_rss >= one.rss, "{one:?} {both:?}");
        // A part of what is resident, and not all: the program's text is there too.
        assert!((1..one.rss).contains(&one.heap) && (1..=one.rss).contains(&one.pss), "{one:?}");
    }

    #[tokio::test]
    async fn the_processor_time_is_what_was_used() {
        let shell = Shell::run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 600");
        shell.said("done").await;
        let worked = shell.worker.sample().unwrap().cpu_ms;
        let idle = Shell::run("echo up; sleep 600");
        idle.said("up").await;
        let idle = idle.worker.sample().unwrap().cpu_ms;
        assert!((idle + 3..5_000).contains(&worked), "{idle} {worked}");
    }

    #[tokio::test]
    async fn the_heap_is_what_was_allocated_and_touched() {
        let launch = |size: u64| {
            Shell::run(&format!(
                "x=$(head -c {size} /dev/zero | tr '\\0' 'x'); echo up; read never; sleep 600"
            ))
        };
        let (small, large) = (launch(1_000), launch(8_000_000));
        small.said("up").await;
        large.said("up").await;
        let [small, large] = [small, large].map(|shell| shell.worker.sample().unwrap().heap);
        assert!(large > small + 7_500_000, "{small} {large}");
    }

    #[tokio::test]
    async fn a_panic_is_found_in_what_was_said_or_in_the_exit_code() {
        let mut shell = Shell::run("echo 'all is well: panicked at nothing'; exit 1");
        shell.end().await;
        assert_eq!(
            (shell.worker.panic(), &*shell.worker.log_tail()),
            (None, "all is well: panicked at nothing")
        );
        let mut shell =
            Shell::run("echo \"thread 'main' (7) panicked at src/main.rs:1:2:\"; echo 'out of luck'; exit 1");
        shell.end().await;
        let told = "thread 'main' (7) panicked at src/main.rs:1:2: out of luck";
        assert_eq!(shell.worker.panic().as_deref(), Some(told));
        let mut shell = Shell::run("exit 101");
        shell.end().await;
        assert_eq!(shell.worker.panic().as_deref(), Some("it ended with exit code 101"));
    }
}

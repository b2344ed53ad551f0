//! A child process whose lines are awaited. It is killed if it is still there when it is dropped.

use std::{cell::RefCell, io, process::Stdio, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Notify,
    task::spawn_local,
    time::timeout,
};

/// How long anything that is waited for may take.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A running process. Use it inside a `LocalSet`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Rc<Lines>,
}

/// What it has printed, on both pipes.
#[derive(Debug, Default)]
struct Lines {
    /// Bounded by what a test's process prints in its time.
    seen: RefCell<Vec<String>>,
    more: Notify,
}

impl Process {
    /// Starts it, with nothing to read.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let lines = Rc::<Lines>::default();
        spawn_local(lines.clone().collect(child.stdout.take().expect("it is piped")));
        spawn_local(lines.clone().collect(child.stderr.take().expect("it is piped")));
        Ok(Self { child, lines })
    }

    /// Its number.
    ///
    /// # Panics
    /// If its end has been waited for.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Sends a signal.
    pub async fn signal(&self, name: &str) {
        send_signal(self.id(), name).await;
    }

    /// Waits for its end and returns its exit code; nothing if a signal ended it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn wait(&mut self) -> Option<i32> {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for").code(),
            Err(_) => panic!("process {} does not end; it said {:#?}", self.id(), self.lines.seen.borrow()),
        }
    }

    /// How many lines contain `words` until now.
    #[must_use]
    pub fn count(&self, words: &str) -> usize {
        self.lines.seen.borrow().iter().filter(|line| line.contains(words)).count()
    }

    /// Waits until `count` lines contain `words`, and returns the last of them.
    ///
    /// # Panics
    /// If they do not come in time.
    pub async fn line(&self, words: &str, count: usize) -> String {
        let found = || {
            let seen = self.lines.seen.borrow();
            seen.iter().filter(|line| line.contains(words)).nth(count - 1).cloned()
        };
        let wait = async {
            loop {
                let more = self.lines.more.notified();
                if let Some(line) = found() {
                    return line;
                }
                more.await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(line) => line,
            Err(_) => panic!("no `{words}` (number {count}) in {:#?}", self.lines.seen.borrow()),
        }
    }
}

impl Lines {
    async fn collect(self: Rc<Self>, pipe: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.seen.borrow_mut().push(line);
            self.more.notify_waiters();
        }
    }
}

/// Sends a signal to a process of ours. One that is gone is passed over.
pub async fn send_signal(process: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &process.to_string()]).stderr(Stdio::null());
    let _ = kill.status().await;
}

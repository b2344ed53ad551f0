//! When the OpenCode server starts, waits, stops. Pure: an [`Input`] goes in, [`Action`]s come out.
//!
//! ```text
//!             Acquire                Started              Timer (unused for long)
//!   Stopped ───────────► Starting ───────────► Running ───────────────────────────► Stopping ──► Stopped
//!      ▲                 ▲      │ failed          │ exited                              │ wedged
//!      │ Timer, nobody   │      ▼                 ▼                                     ▼
//!      └──────────────── Backoff ◄──────────────────────────────────────────────────────┘
//!                          Timer, somebody waits: Starting
//! ```
//! `Shutdown` leads from every state to `Closed`, by way of `Stopping` if a server runs.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The first pause after a failure; each one doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause, before jitter (which adds at most as much again).
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The pause after so many failures in a row, jittered by a seed drawn for it.
pub(crate) fn backoff(failures: u32, seed: u64) -> Duration {
    let pauses = ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(seed);
    // Beyond the tenth they are all the longest.
    let nth = failures.saturating_sub(1).min(10) as usize;
    pauses.build().nth(nth).expect("the pauses have no end")
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Somebody needs the server.
    Acquire,
    /// The server answers and its event stream is open.
    Started,
    /// The server did not get that far.
    StartFailed {
        /// Why.
        reason: String,
        /// Whether another attempt is pointless until somebody changes something.
        hopeless: bool,
    },
    /// The server's process ended by itself.
    Exited {
        /// How.
        reason: String,
        /// Whether it had run long enough for its earlier failures to be forgotten.
        stable: bool,
    },
    /// The process lives, but does not serve any more.
    Wedged {
        /// How that shows.
        reason: String,
        /// As for `Exited`.
        stable: bool,
    },
    /// The first user came.
    InUse,
    /// The last user went.
    Unused,
    /// The pause or the idle time that was last armed is over.
    Timer,
    /// The process that was being stopped is gone.
    Stopped,
    /// The worker stops.
    Shutdown,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a server.
    Start,
    /// Give the server to all who wait.
    Grant,
    /// Tell all who wait that there will be no server.
    Refuse(Refusal),
    /// Tell all users that this server is gone, and cut their connections.
    Lose(String),
    /// Stop the process; at once if not `gently`.
    Stop {
        /// Whether it gets the chance to end by itself.
        gently: bool,
    },
    /// Let the timer run for the idle time.
    ArmIdle,
    /// Let the timer run for the pause after so many failures.
    ArmBackoff {
        /// Failures in a row.
        failures: u32,
    },
    /// Stop the timer.
    Disarm,
    /// Nothing will ever happen again.
    Finish,
}

/// Why those who wait get no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many starts failed.
    Failed {
        /// Starts tried since they began to wait.
        attempts: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// The worker stops.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    Starting,
    Running { in_use: bool },
    Stopping(After),
    Backoff,
    Closed,
}

/// What follows when the process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Idle,
    Crash,
    Shutdown,
}

/// The state of one server over all its generations.
#[derive(Debug)]
pub(crate) struct Supervisor {
    state: State,
    /// Whether somebody waits for a server.
    waiting: bool,
    /// Starts that failed since they began to wait.
    attempts: u32,
    /// Failures in a row, of starts and of running servers.
    failures: u32,
    /// Attempts after which those who wait are refused (at least 1).
    max_attempts: u32,
}

impl Supervisor {
    /// Nothing runs. Those who wait are refused after `max_attempts` failed starts (at least 1).
    pub(crate) fn new(max_attempts: u32) -> Self {
        let max_attempts = max_attempts.max(1);
        Self { state: State::Stopped, waiting: false, attempts: 0, failures: 0, max_attempts }
    }

    /// Returns true if nothing will ever happen again.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Takes in what happened and says what is to be done, in this order. What does not fit the state (a timer that
    /// was just disarmed) does nothing.
    pub(crate) fn apply(&mut self, input: Input) -> Vec<Action> {
        use State::{Backoff, Closed, Running, Starting, Stopped, Stopping};
        match (self.state, input) {
            (Closed, Input::Acquire) => vec![Action::Refuse(Refusal::Closed)],
            (_, Input::Shutdown) => self.shutdown(),
            (Stopped, Input::Acquire) => self.start(),
            (Running { .. }, Input::Acquire) => vec![Action::Grant],
            (Stopping(After::Shutdown), Input::Acquire) => vec![Action::Refuse(Refusal::Closed)],
            (Starting | Stopping(_) | Backoff, Input::Acquire) => {
                self.waiting = true;
                Vec::new()
            }
            (Starting, Input::Started) => self.started(),
            (Starting, Input::StartFailed { reason, hopeless }) => self.start_failed(reason, hopeless),
            (Running { .. }, Input::InUse) => {
                self.state = Running { in_use: true };
                vec![Action::Disarm]
            }
            (Running { .. }, Input::Unused) => {
                self.state = Running { in_use: false };
                vec![Action::ArmIdle]
            }
            (Running { in_use: false }, Input::Timer) => self.idle(),
            (Running { .. }, Input::Exited { reason, stable }) => self.crashed(reason, stable),
            (Running { .. }, Input::Wedged { reason, stable }) => self.wedged(reason, stable),
            (Stopping(after), Input::Stopped) => self.stopped(after),
            (Backoff, Input::Timer) if self.waiting => self.start(),
            (Backoff, Input::Timer) => {
                self.state = Stopped;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn start(&mut self) -> Vec<Action> {
        self.state = State::Starting;
        self.waiting = true;
        vec![Action::Start]
    }

    fn started(&mut self) -> Vec<Action> {
        assert!(self.waiting, "a server was started for nobody");
        self.state = State::Running { in_use: false };
        (self.waiting, self.attempts) = (false, 0);
        // Those who waited may have gone: until one of them uses it, it counts as idle.
        vec![Action::Grant, Action::ArmIdle]
    }

    fn start_failed(&mut self, reason: String, hopeless: bool) -> Vec<Action> {
        self.attempts += 1;
        self.failures += 1;
        self.state = State::Backoff;
        let mut actions = vec![Action::ArmBackoff { failures: self.failures }];
        if hopeless || self.attempts >= self.max_attempts {
            actions.push(Action::Refuse(Refusal::Failed { attempts: self.attempts, reason }));
            (self.waiting, self.attempts) = (false, 0);
        }
        actions
    }

    fn idle(&mut self) -> Vec<Action> {
        self.state = State::Stopping(After::Idle);
        self.failures = 0;
        vec![Action::Lose("it was stopped because nobody used it".into()), Action::Stop { gently: true }]
    }

    fn crashed(&mut self, reason: String, stable: bool) -> Vec<Action> {
        self.count_failure(stable);
        self.state = State::Backoff;
        vec![Action::Lose(reason), Action::ArmBackoff { failures: self.failures }]
    }

    fn wedged(&mut self, reason: String, stable: bool) -> Vec<Action> {
        self.count_failure(stable);
        self.state = State::Stopping(After::Crash);
        vec![Action::Lose(reason), Action::Disarm, Action::Stop { gently: false }]
    }

    fn count_failure(&mut self, stable: bool) {
        self.failures = if stable { 1 } else { self.failures + 1 };
    }

    fn stopped(&mut self, after: After) -> Vec<Action> {
        match after {
            After::Shutdown => self.close(),
            After::Crash => {
                self.state = State::Backoff;
                vec![Action::ArmBackoff { failures: self.failures }]
            }
            After::Idle if self.waiting => self.start(),
            After::Idle => {
                self.state = State::Stopped;
                Vec::new()
            }
        }
    }

    fn shutdown(&mut self) -> Vec<Action> {
        let refuse = Action::Refuse(Refusal::Closed);
        self.waiting = false;
        match self.state {
            State::Running { .. } => {
                self.state = State::Stopping(After::Shutdown);
                let lose = Action::Lose("the worker is stopping".into());
                vec![refuse, lose, Action::Disarm, Action::Stop { gently: true }]
            }
            State::Stopping(_) => {
                self.state = State::Stopping(After::Shutdown);
                vec![refuse]
            }
            _ => std::iter::once(refuse).chain(self.close()).collect(),
        }
    }

    fn close(&mut self) -> Vec<Action> {
        self.state = State::Closed;
        vec![Action::Disarm, Action::Finish]
    }
}

#[cfg(test)]
mod tests;

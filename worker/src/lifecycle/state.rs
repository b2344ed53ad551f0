//! The life of a worker as a table: state and event in, next state and actions out. No async, no clock.
//!
//! ```text
//! Uninitialized ─► Registering ─► Connecting ─► Ready ─► Stopping ─► Stopped
//!                      │  ▲           │ ▲         │
//!                      ▼  │           ▼ │         ▼
//!               WaitingApproval   Recovering ◄────┘      (a stop or a refusal leads out of any of them)
//! ```

use crate::{convex::api::Approval, error::CallError};

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// It has not begun.
    Uninitialized,
    /// It announces itself; this raises the epoch.
    Registering,
    /// Its owner has not approved it yet.
    WaitingApproval,
    /// It expires what earlier incarnations left, and says that it is there.
    Connecting,
    /// It takes turns.
    Ready,
    /// Something failed; it pauses and tries again.
    Recovering,
    /// It takes no more turns and waits for those that run.
    Stopping,
    /// It is over.
    Stopped,
}

impl Phase {
    /// All phases, by their number.
    pub const ALL: [Self; 8] = [
        Self::Uninitialized,
        Self::Registering,
        Self::WaitingApproval,
        Self::Connecting,
        Self::Ready,
        Self::Recovering,
        Self::Stopping,
        Self::Stopped,
    ];

    pub(crate) fn from_index(index: u8) -> Self {
        Self::ALL[usize::from(index)]
    }
}

/// What happens to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum LifecycleEvent {
    /// The process began.
    Start,
    /// Registration succeeded.
    Registered {
        /// The incarnation.
        epoch: f64,
        /// Whether it may work.
        approval: Approval,
    },
    /// The worker's record shows this approval.
    ApprovalSeen(Approval),
    /// A page of stale turns is expired.
    PageExpired {
        /// Whether it was the last.
        is_done: bool,
    },
    /// The backend knows that the worker is there.
    Connected,
    /// A heartbeat was answered.
    Beat,
    /// A call failed for good.
    Failed(CallError),
    /// The pause after a failure is over.
    Recovered,
    /// It is to stop.
    StopRequested,
    /// No turn runs any more, or the time for them is over.
    Drained,
    /// The last calls are done, or their time is over.
    Closed,
}

/// What a worker has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum LifecycleAction {
    /// Call `workers.register`.
    Register,
    /// From now on act as this incarnation.
    Adopt {
        /// The incarnation.
        epoch: f64,
    },
    /// Follow the worker's own record.
    WatchApproval,
    /// Expire one page.
    ExpirePage,
    /// Call `workers.markConnected`.
    MarkConnected,
    /// Subscribe to the window and begin to beat.
    OpenWindow,
    /// Drop the window and stop beating.
    CloseWindow,
    /// Pause for the `attempt`-th time in a row (from 0).
    Pause {
        /// How often it has paused already without a heartbeat in between.
        attempt: u32,
    },
    /// Take no more turns; report [`LifecycleEvent::Drained`] when none runs.
    Drain {
        /// Whether those that run may go on for a while. Nothing that they write would be accepted otherwise.
        patiently: bool,
    },
    /// Say goodbye, stop OpenCode; report [`LifecycleEvent::Closed`].
    Close {
        /// Whether the backend still listens to this incarnation.
        set_offline: bool,
    },
    /// The worker is over.
    Exit(Exit),
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to.
    Stopped,
    /// A newer process of the same worker has taken over.
    Superseded,
    /// The backend does not let it work: wrong secret, unknown machine, not invited, revoked, or of another version.
    Refused(CallError),
}

/// A worker's life.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Phase,
    /// Pauses since the last heartbeat: to have become ready is not enough, or what fails whenever the window opens
    /// would be tried again without ever slowing down.
    attempts: u32,
    registered: bool,
    exit: Exit,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: Phase::Uninitialized, attempts: 0, registered: false, exit: Exit::Stopped }
    }
}

impl Lifecycle {
    /// Returns the present phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes in an event. An event that its state does not expect (the answer to a call that was given up, say)
    /// changes nothing.
    pub fn apply(&mut self, event: LifecycleEvent) -> Vec<LifecycleAction> {
        let (next, actions) = self.transition(event);
        self.phase = next;
        actions
    }

    fn transition(&mut self, event: LifecycleEvent) -> (Phase, Vec<LifecycleAction>) {
        use Phase::{
            Connecting, Ready, Recovering, Registering, Stopped, Stopping, Uninitialized, WaitingApproval,
        };
        match (self.phase, event) {
            (Uninitialized, LifecycleEvent::Start) => (Registering, vec![LifecycleAction::Register]),
            (Registering, LifecycleEvent::Registered { epoch, approval }) => {
                self.registered = true;
                let (next, mut actions) = self.approved(approval);
                actions.insert(0, LifecycleAction::Adopt { epoch });
                (next, actions)
            }
            (WaitingApproval, LifecycleEvent::ApprovalSeen(Approval::Approved)) => {
                (Connecting, vec![LifecycleAction::ExpirePage])
            }
            (WaitingApproval, LifecycleEvent::ApprovalSeen(Approval::Revoked)) => {
                let (path, code) = ("workers:getByMachineAndWorker", "revoked".to_owned());
                let message = "This worker's access was revoked.".to_owned();
                self.give_up(Exit::Refused(CallError::Refused { path, code, message }))
            }
            (Connecting, LifecycleEvent::PageExpired { is_done: false }) => {
                (Connecting, vec![LifecycleAction::ExpirePage])
            }
            (Connecting, LifecycleEvent::PageExpired { is_done: true }) => {
                (Connecting, vec![LifecycleAction::MarkConnected])
            }
            (Connecting, LifecycleEvent::Connected) => (Ready, vec![LifecycleAction::OpenWindow]),
            (Ready, LifecycleEvent::Beat) => {
                self.attempts = 0;
                (Ready, vec![])
            }
            (Stopped | Stopping, LifecycleEvent::Failed(_)) => (self.phase, vec![]),
            (_, LifecycleEvent::Failed(error)) => self.failed(error),
            // The epoch is kept: it belongs to the process, and its turns may still be running.
            (Recovering, LifecycleEvent::Recovered) if self.registered => {
                (Connecting, vec![LifecycleAction::ExpirePage])
            }
            (Recovering, LifecycleEvent::Recovered) => (Registering, vec![LifecycleAction::Register]),
            (Stopped | Stopping, LifecycleEvent::StopRequested) => (self.phase, vec![]),
            (_, LifecycleEvent::StopRequested) => {
                (Stopping, vec![LifecycleAction::Drain { patiently: true }])
            }
            (Stopping, LifecycleEvent::Drained) => {
                let set_offline = self.registered && self.exit == Exit::Stopped;
                (Stopping, vec![LifecycleAction::CloseWindow, LifecycleAction::Close { set_offline }])
            }
            (Stopping, LifecycleEvent::Closed) => (Stopped, vec![LifecycleAction::Exit(self.exit.clone())]),
            (phase, _) => (phase, vec![]),
        }
    }

    fn approved(&self, approval: Approval) -> (Phase, Vec<LifecycleAction>) {
        match approval {
            Approval::Approved => (Phase::Connecting, vec![LifecycleAction::ExpirePage]),
            // The backend refuses to register a revoked worker, so only the pending ones are left.
            Approval::Pending | Approval::Revoked => {
                (Phase::WaitingApproval, vec![LifecycleAction::WatchApproval])
            }
        }
    }

    fn failed(&mut self, error: CallError) -> (Phase, Vec<LifecycleAction>) {
        match error.code() {
            Some("superseded") => self.give_up(Exit::Superseded),
            // Somebody has to do something before it makes sense to start again.
            Some("unauthorized" | "revoked" | "not_invited" | "worker_too_old" | "functions_too_old") => {
                self.give_up(Exit::Refused(error))
            }
            Some("not_approved") => {
                (Phase::WaitingApproval, vec![LifecycleAction::CloseWindow, LifecycleAction::WatchApproval])
            }
            _ if self.phase == Phase::Recovering => (Phase::Recovering, vec![]),
            _ => {
                let attempt = self.attempts;
                self.attempts += 1;
                (Phase::Recovering, vec![LifecycleAction::CloseWindow, LifecycleAction::Pause { attempt }])
            }
        }
    }

    fn give_up(&mut self, exit: Exit) -> (Phase, Vec<LifecycleAction>) {
        self.exit = exit;
        (Phase::Stopping, vec![LifecycleAction::Drain { patiently: false }])
    }
}

#[cfg(test)]
mod tests;

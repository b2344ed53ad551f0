//! Tells systemd how the worker is. Does nothing where nobody listens (`NOTIFY_SOCKET` is not set).
//!
//! What is told follows the main loop's rounds and nothing else: a main loop that hangs sends no sign of life, and
//! systemd starts the worker anew.

use std::{future::pending, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time::Instant;
use worker::{
    lifecycle::state::Phase,
    orchestrator::Roster,
    telemetry::{PULSE, Status, phase_name},
};

/// Tells systemd of every change, for ever.
pub(crate) async fn keep_informed(status: Arc<Status>) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        let watchdog = sd_notify::watchdog_enabled();
        if watchdog.is_some_and(|limit| limit < 2 * PULSE) {
            tracing::warn!(?watchdog, "WatchdogSec is too short: the main loop comes round every {PULSE:?}");
        }
        let mut messages = Notifier::new(watchdog);
        let mut beats = status.beats();
        while beats.changed().await.is_ok() {
            tell(&messages.collect(status.phase(), Instant::now()));
        }
    }
    pending().await
}

/// Tells systemd how many of many workers are ready, for ever. It is told that the process is ready when all workers
/// have been started: one that waits for its approval must not hold up the others.
pub(crate) async fn keep_informed_of_many(roster: Roster) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        let watchdog = sd_notify::watchdog_enabled();
        let pause = watchdog.map_or(PULSE, |limit| (limit / 3).min(PULSE));
        let mut told = String::new();
        let mut messages = vec!["READY=1".to_owned()];
        loop {
            let all = roster.all();
            let ready = all.values().filter(|status| status.phase() == Phase::Ready).count();
            let hanging = roster.hanging().into_iter().map(|name| format!("; {name} hangs"));
            let status =
                format!("STATUS={ready} of {} workers ready{}", all.len(), hanging.collect::<String>());
            if status != told {
                messages.push(status.clone());
                told = status;
            }
            if watchdog.is_some() {
                messages.push("WATCHDOG=1".to_owned());
            }
            tell(&std::mem::take(&mut messages));
            tokio::time::sleep(pause).await;
        }
    }
    pending().await
}

/// The worker is over. One that had nothing to end may be so before anybody saw it stopping.
pub(crate) fn notify_stopped() {
    tell(&["STOPPING=1".to_owned(), "STATUS=stopped".to_owned()]);
}

fn tell(messages: &[String]) {
    let states: Vec<NotifyState<'_>> = messages.iter().map(|text| NotifyState::Custom(text)).collect();
    if states.is_empty() {
        return;
    }
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// What systemd has not been told yet.
struct Notifier {
    told: Option<Phase>,
    told_ready: bool,
    /// The pause between two signs of life, if any are wanted.
    pause: Option<Duration>,
    last_sign: Option<Instant>,
}

impl Notifier {
    /// systemd advises to give a sign at half the time it allows; a third leaves room for a round that comes late.
    fn new(watchdog: Option<Duration>) -> Self {
        Self { told: None, told_ready: false, pause: watchdog.map(|limit| limit / 3), last_sign: None }
    }

    /// The main loop came round in this phase.
    fn collect(&mut self, phase: Phase, now: Instant) -> Vec<String> {
        let mut messages = Vec::new();
        if self.told.replace(phase) != Some(phase) {
            if phase == Phase::Ready && !self.told_ready {
                self.told_ready = true;
                messages.push("READY=1".to_owned());
            }
            if phase == Phase::Stopping {
                messages.push("STOPPING=1".to_owned());
            }
            messages.push(format!("STATUS={}", phase_name(phase).replace('_', " ")));
        }
        let is_due = |pause| self.last_sign.is_none_or(|last| now - last >= pause);
        if self.pause.is_some_and(is_due) {
            self.last_sign = Some(now);
            messages.push("WATCHDOG=1".to_owned());
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_what_changes_and_that_the_loop_lives() {
        let mut messages = Notifier::new(Some(Duration::from_secs(60)));
        let start = Instant::now();
        let mut check = |phase, seconds, expected: &[&str]| {
            assert_eq!(messages.collect(phase, start + Duration::from_secs(seconds)), expected, "{phase:?}");
        };
        check(Phase::WaitingApproval, 0, &["STATUS=waiting approval", "WATCHDOG=1"]);
        check(Phase::WaitingApproval, 5, &[]);
        check(Phase::Ready, 6, &["READY=1", "STATUS=ready"]);
        check(Phase::Recovering, 20, &["STATUS=recovering", "WATCHDOG=1"]);
        check(Phase::Ready, 21, &["STATUS=ready"]);
        check(Phase::Stopping, 22, &["STOPPING=1", "STATUS=stopping"]);
    }
}

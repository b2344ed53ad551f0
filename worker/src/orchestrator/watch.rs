//! Notices workers that hang: those whose main loop does not come round any more.
//!
//! Nothing can end a thread from outside, and to end the process would take the others with it, again and again if the
//! reason is a directory that does not answer. So people are told: here in the log, and by `/healthz`, the metric
//! `worker_alive` and systemd's status.

use std::{collections::BTreeSet, convert::Infallible};

use tokio::time::sleep;

use super::Roster;
use crate::telemetry::PULSE;

/// Who hangs, as far as the log tells.
#[derive(Debug, Default)]
struct Watch {
    hanging: BTreeSet<String>,
}

/// What changed.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Hangs(String),
    Lives(String),
}

impl Watch {
    /// These hang now. Returns what changed.
    fn look(&mut self, hanging: BTreeSet<String>) -> Vec<Change> {
        let hangs = hanging.difference(&self.hanging).cloned().map(Change::Hangs);
        let lives = self.hanging.difference(&hanging).cloned().map(Change::Lives);
        let changes = hangs.chain(lives).collect();
        self.hanging = hanging;
        changes
    }
}

/// Tells the log of workers that hang, and of those that go on or are gone, for ever.
pub(super) async fn watch(roster: &Roster) -> Infallible {
    let mut watch = Watch::default();
    loop {
        sleep(PULSE).await;
        for change in watch.look(roster.hanging()) {
            match change {
                Change::Hangs(worker) => {
                    tracing::error!(
                        worker,
                        "it hangs; the others go on, and only a restart of the process ends it"
                    );
                }
                Change::Lives(worker) => tracing::info!(worker, "it does not hang any more"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_hang_is_told_once_and_so_is_its_end() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(names(&[])), []);
        assert_eq!(watch.look(names(&["a"])), [Change::Hangs("a".into())]);
        assert_eq!(watch.look(names(&["a", "b"])), [Change::Hangs("b".into())]);
        assert_eq!(watch.look(names(&["b"])), [Change::Lives("a".into())]);
    }
}

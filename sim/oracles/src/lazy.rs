//! **lazy**: nothing is started or asked for before it is needed.
//!
//! - No OpenCode server starts before its worker, in its current start, has claimed a turn or was asked to connect. (Beside an older process that
//!   has not ended, a zombie, the claims of that one count too: the server may be its own.)
//! - The models are listed at most once for each start of the worker.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact, Name, TurnState, worker_of};

/// See the file's comment.
#[derive(Default)]
pub(super) struct Lazy {
    workers: BTreeMap<String, Start>,
}

#[derive(Default)]
struct Start {
    /// Turns that were claimed, and requests to connect.
    reasons: u64,
    listings: u64,
    ended: bool,
}

impl Lazy {
    fn of(&mut self, host: &Name) -> Option<(String, &mut Start)> {
        let worker = worker_of(host)?;
        Some((worker.clone(), self.workers.entry(worker).or_default()))
    }
}

impl Oracle for Lazy {
    fn id(&self) -> &'static str {
        "lazy"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        let host = &fact.host;
        match &fact.event {
            Event::WorkerStarted { worker, .. } => {
                let before = self.workers.remove(&**worker).filter(|before| !before.ended);
                let reasons = before.map_or(0, |zombie| zombie.reasons);
                self.workers.insert(worker.to_string(), Start { reasons, ..Start::default() });
            }
            Event::Killed { worker } | Event::Exited { worker, .. } => {
                self.workers.entry(worker.to_string()).or_default().ended = true;
            }
            Event::TurnChanged { worker, to: TurnState::Claimed, .. } | Event::ConnectAsked { worker } => {
                self.workers.entry(worker.to_string()).or_default().reasons += 1;
            }
            Event::ServerStarted => {
                let Some((worker, start)) = self.of(host) else { return };
                if start.reasons == 0 {
                    let message = format!("{host} was started before {worker} had claimed a turn");
                    verdict.violation(message, &[host, &Name::from(worker)]);
                }
            }
            Event::ModelsListed => {
                let Some((worker, start)) = self.of(host) else { return };
                start.listings += 1;
                let times = start.listings;
                if times > 1 {
                    let message = format!("{worker} listed the models {times} times since it started");
                    verdict.violation(message, &[host, &Name::from(worker)]);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{claimed, judge, started};

    fn killed() -> Event {
        Event::Killed { worker: Name::from("worker-1") }
    }

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Lazy::default(), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn a_server_for_a_claimed_turn_and_one_listing_a_start_are_fine() {
        let start = [claimed("t1"), Event::ServerStarted, Event::ModelsListed];
        check(&[&[started(1)][..], &start, &[killed(), started(2)], &start].concat(), &[]);
    }

    #[test]
    fn a_server_before_the_first_claim_of_a_start_is_seen() {
        check(
            &[started(1), Event::ServerStarted],
            &["opencode-1 was started before worker-1 had claimed a turn"],
        );
        check(
            &[started(1), claimed("t1"), killed(), started(2), Event::ServerStarted],
            &["opencode-1 was started before worker-1 had claimed a turn"],
        );
    }

    #[test]
    fn a_server_for_whoever_asks_the_worker_to_connect_is_fine() {
        let asked = || Event::ConnectAsked { worker: Name::from("worker-1") };
        check(&[started(1), asked(), Event::ServerStarted, Event::ModelsListed], &[]);
        check(
            &[started(1), asked(), killed(), started(2), Event::ServerStarted],
            &["opencode-1 was started before worker-1 had claimed a turn"],
        );
    }

    #[test]
    fn a_zombie_s_claims_may_start_a_server_beside_its_successor() {
        check(&[started(1), claimed("t1"), started(2), Event::ServerStarted], &[]);
    }

    #[test]
    fn a_second_listing_is_seen() {
        check(
            &[started(1), Event::ModelsListed, Event::ModelsListed],
            &["worker-1 listed the models 2 times since it started"],
        );
    }
}

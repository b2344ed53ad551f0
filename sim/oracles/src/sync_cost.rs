//! **sync-cost**: what the sync asks of both sides follows what changed, and nothing is listed as a whole.
//!
//! A *use* is a session in OpenCode that was made, renamed, deleted, prompted or answered; a *gap* is an opening of its
//! event stream.
//!
//! - A call of `sync:applyPlan` changes a session. At most `sync_wasted_per_gap` calls for each gap change none, because
//!   a worker that has just come to a server does not know yet what the backend has.
//! - Two of these calls within a second: then the first was full (`sync_batch` changes), so that many changes at once take
//!   one call for each batch.
//! - `sync:linkedSessions` and `sync:updateLastSyncTimestamp` are called at most once for each use, and once for each gap;
//!   `sync:getLastSyncTimestamp` at most once for each start of the worker.
//! - `sync:pageOfLinkedSessions` is called, for each gap and each `sync_rescan` after it, at most once for every
//!   `sync_page` linked sessions, and once more.
//! - No list of OpenCode's shows more than twice `sync_page` sessions, and all lists together show at most three for each
//!   use, and ten more for each list.
//!
//! Cost is a promise about normal operation: ends and starts of processes belong to it, but what any other fault
//! disturbs is asked again, and from the first such fault on nothing is judged.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::{
    scenario::Limits,
    trace::{Caller, Event, Fact, Micros, Name, worker_of},
};

/// Calls that come closer together than this could have been one.
const TOGETHER: Micros = 1_000_000;

/// See the file's comment.
pub(super) struct SyncCost {
    limits: Limits,
    workers: BTreeMap<String, Worker>,
    /// Whether the call whose end comes next has changed a session.
    changed: bool,
    /// Whether a fault has begun that makes calls fail.
    disturbed: bool,
}

#[derive(Default)]
struct Worker {
    uses: u64,
    gaps: u64,
    starts: u64,
    /// Link by session.
    links: BTreeMap<Name, Name>,
    /// Pages that may be compared, by all gaps so far.
    pages: u64,
    last_gap: Option<Micros>,
    rescans: u64,
    /// Calls by function.
    calls: BTreeMap<Name, u64>,
    wasted: u64,
    /// When the last batch was made, and how many documents it wrote.
    batch: Option<(Micros, u64)>,
    lists: u64,
    listed: u64,
}

impl SyncCost {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), workers: BTreeMap::new(), changed: false, disturbed: false }
    }

    fn of(&mut self, worker: impl Into<String>) -> &mut Worker {
        self.workers.entry(worker.into()).or_default()
    }

    fn executed(&mut self, worker: &Name, function: &Name, written: u64, at: Micros, verdict: &mut Findings) {
        if !function.starts_with("sync:") {
            return;
        }
        let changed = self.changed;
        let limits = self.limits.clone();
        let of = self.of(&**worker);
        let calls = of.calls.entry(Name::clone(function)).or_default();
        *calls += 1;
        let (calls, about) = (*calls, [worker]);
        let allowed = match &**function {
            "sync:applyPlan" => {
                of.batch(worker, changed, written, at, &limits, verdict);
                return;
            }
            "sync:getLastSyncTimestamp" => of.starts,
            "sync:pageOfLinkedSessions" => of.pages_until(at, &limits),
            _ => of.uses + of.gaps,
        };
        if calls > allowed {
            let message =
                format!("{worker} called {function} {calls} times, where {allowed} were called for");
            verdict.violation(message, &about);
        }
    }

    fn listed(&mut self, worker: String, count: u64, verdict: &mut Findings) {
        let page = self.limits.sync_page;
        let of = self.of(&*worker);
        of.lists += 1;
        of.listed += count;
        let name = Name::from(worker);
        if count > 2 * page {
            verdict.violation(
                format!("{name} listed {count} sessions at once, more than {}", 2 * page),
                &[&name],
            );
        }
        let allowed = 3 * of.uses + 10 * of.lists;
        if of.listed > allowed {
            let (listed, uses) = (of.listed, of.uses);
            let message =
                format!("{name} was shown {listed} sessions in lists, more than {allowed} for {uses} uses");
            verdict.violation(message, &[&name]);
        }
    }
}

impl Worker {
    fn batch(
        &mut self,
        worker: &Name,
        changed: bool,
        written: u64,
        at: Micros,
        limits: &Limits,
        verdict: &mut Findings,
    ) {
        if let Some((before, was_written)) = self.batch.replace((at, written))
            && at < before + TOGETHER
            && was_written < limits.sync_batch
        {
            let message =
                format!("{worker} made {was_written} changes and soon after {written} more, in two calls");
            verdict.violation(message, &[worker]);
        }
        self.wasted += u64::from(!changed);
        let allowed = self.gaps * limits.sync_wasted_per_gap;
        if !changed && self.wasted > allowed {
            let wasted = self.wasted;
            let message = format!("{worker} synced {wasted} times without a change, more than {allowed}");
            verdict.violation(message, &[worker]);
        }
    }

    fn gap(&mut self, at: Micros, limits: &Limits) {
        self.gaps += 1;
        self.pages = self.pages_until(at, limits) + self.pass(limits);
        (self.last_gap, self.rescans) = (Some(at), 0);
    }

    /// Pages of one comparison of all sessions.
    fn pass(&self, limits: &Limits) -> u64 {
        (self.links.len() as u64).div_ceil(limits.sync_page) + 1
    }

    fn pages_until(&self, at: Micros, limits: &Limits) -> u64 {
        let Some(last) = self.last_gap else { return 0 };
        let again = u128::from(at - last) / limits.sync_rescan.0.as_micros().max(1);
        self.pages + u64::try_from(again).unwrap_or(u64::MAX) * self.pass(limits)
    }
}

impl Oracle for SyncCost {
    fn id(&self) -> &'static str {
        "sync-cost"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        if let Event::FaultBegan { kind, .. } = &fact.event {
            self.disturbed |= !kind.is_of_process();
        }
        if self.disturbed {
            return;
        }
        let limits = self.limits.clone();
        match &fact.event {
            Event::SessionIs { session, worker, opencode_session, .. } => {
                self.changed = true;
                let links = &mut self.of(&**worker).links;
                match opencode_session {
                    Some(link) => links.insert(Name::clone(session), Name::clone(link)),
                    None => links.remove(session),
                };
            }
            Event::Executed { function, caller, documents_written, rerun, .. } => {
                if let Caller::Worker(worker) = caller
                    && !rerun
                {
                    self.executed(worker, function, *documents_written, fact.at, verdict);
                }
                self.changed = false;
            }
            Event::WorkerStarted { worker, .. } => self.of(&**worker).starts += 1,
            event => {
                let Some(worker) = worker_of(&fact.host) else { return };
                match event {
                    Event::OpencodeSessionIs { .. }
                    | Event::OpencodeSessionDeleted { .. }
                    | Event::Prompted { .. }
                    | Event::ReplyEnded { .. } => self.of(worker).uses += 1,
                    Event::EventStreamOpened => self.of(worker).gap(fact.at, &limits),
                    Event::SessionsListed { count } => self.listed(worker, *count, verdict),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sim_model::fault::FaultKind;

    use super::*;
    use crate::testing::{at, judge, name, started};

    const GAP: Event = Event::EventStreamOpened;

    fn fault(kind: FaultKind) -> Event {
        Event::FaultBegan { fault: 0, kind, worker: name("worker-1") }
    }

    fn call(function: &str, documents_written: u64) -> Event {
        Event::Executed {
            function: name(function),
            caller: Caller::Worker(name("worker-1")),
            documents_read: 1,
            bytes_read: 1,
            documents_written,
            bytes_written: 0,
            attempts: 1,
            rerun: false,
            identity: None,
            epoch: None,
            error: None,
        }
    }

    fn used(id: &str) -> Event {
        Event::OpencodeSessionIs { opencode_session: name(id), title: name("t") }
    }

    fn linked(id: &str) -> Event {
        let session = Name::from(format!("s-{id}"));
        Event::SessionIs {
            session,
            worker: name("worker-1"),
            opencode_session: Some(name(id)),
            title: name("t"),
        }
    }

    #[track_caller]
    fn check(events: &[(f64, Event)], expected: &[&str]) {
        let limits = Limits { sync_batch: 2, sync_page: 2, sync_wasted_per_gap: 1, ..Limits::default() };
        let facts = events.iter().map(|(seconds, event)| (at(*seconds), event.clone()));
        assert_eq!(judge(SyncCost::new(&limits), facts), expected);
    }

    const APPLY: &str = "sync:applyPlan";

    #[test]
    fn calls_that_follow_changes_are_fine() {
        check(
            &[
                (0.0, started(1)),
                (0.0, GAP),
                (0.0, call("sync:getLastSyncTimestamp", 0)),
                (1.0, used("ses_1")),
                (1.0, call("sync:linkedSessions", 0)),
                (3.0, linked("ses_1")),
                (3.0, call(APPLY, 1)),
                (30.0, call("sync:pageOfLinkedSessions", 0)),
                (3700.0, call("sync:pageOfLinkedSessions", 0)),
            ],
            &[],
        );
    }

    #[test]
    fn a_call_without_a_change_is_seen() {
        check(
            &[(0.0, GAP), (3.0, call(APPLY, 0)), (9.0, call(APPLY, 1))],
            &["worker-1 synced 2 times without a change, more than 1"],
        );
    }

    #[test]
    fn what_a_fault_disturbs_is_not_judged_but_a_restart_is() {
        let wasted = |kind| [(0.0, GAP), (1.0, fault(kind)), (3.0, call(APPLY, 0)), (9.0, call(APPLY, 1))];
        check(&wasted(FaultKind::OpencodeErrors), &[]);
        check(&wasted(FaultKind::Kill), &["worker-1 synced 2 times without a change, more than 1"]);
    }

    #[test]
    fn two_calls_where_one_would_do_are_seen() {
        let batch = |seconds, written| [(seconds, linked("ses_1")), (seconds, call(APPLY, written))];
        check(&[batch(3.0, 2), batch(3.1, 1), batch(9.0, 1)].concat(), &[]);
        check(
            &[batch(3.0, 1), batch(3.1, 1)].concat(),
            &["worker-1 made 1 changes and soon after 1 more, in two calls"],
        );
    }

    #[test]
    fn a_comparison_of_everything_again_and_again_is_seen() {
        let page = |seconds| (seconds, call("sync:pageOfLinkedSessions", 0));
        let all = [(0.0, linked("ses_1")), (0.0, linked("ses_2")), (0.0, GAP)];
        check(&[&all[..], &[page(30.0), page(60.0)]].concat(), &[]);
        check(
            &[&all[..], &[page(30.0), page(60.0), page(90.0)]].concat(),
            &["worker-1 called sync:pageOfLinkedSessions 3 times, where 2 were called for"],
        );
    }

    #[test]
    fn asking_when_nothing_was_used_is_seen() {
        let ask = |seconds| (seconds, call("sync:linkedSessions", 0));
        check(
            &[(0.0, GAP), ask(30.0), ask(60.0)],
            &["worker-1 called sync:linkedSessions 2 times, where 1 were called for"],
        );
    }

    #[test]
    fn a_list_of_everything_is_seen() {
        check(
            &[(0.0, Event::SessionsListed { count: 5 })],
            &["worker-1 listed 5 sessions at once, more than 4"],
        );
        let list = |seconds| (seconds, Event::SessionsListed { count: 4 });
        check(&[list(0.0), list(30.0)], &[]);
    }

    #[test]
    fn lists_that_show_the_same_again_and_again_are_seen() {
        let limits = Limits { sync_page: 50, ..Limits::default() };
        let lists = (0..2).map(|n| (at(f64::from(n)), Event::SessionsListed { count: 12 }));
        assert_eq!(
            judge(SyncCost::new(&limits), lists),
            [
                "worker-1 was shown 12 sessions in lists, more than 10 for 0 uses",
                "worker-1 was shown 24 sessions in lists, more than 20 for 0 uses"
            ]
        );
    }
}

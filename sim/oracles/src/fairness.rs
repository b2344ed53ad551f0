//! **fairness**: a person who sends two hundred messages to one session delays nobody else.
//!
//! A session is *ready* while it has a pending turn and none in progress; its *head* is its oldest pending turn. A
//! worker has *no place free* at a moment when the turns in progress and those that ended within the last
//! quarter of `claim_within` are `max_concurrent` or more (it needs that long to hear of an end and to claim the next),
//! or when it claimed `window` turns within the last quarter of `claim_within`.
//!
//! While a worker is steady (ready, connected, not asked to stop):
//! - a session that is ready for longer than `claim_within`, while its worker had a place free all that time, is
//!   claimed: whatever waits elsewhere, free places are used;
//! - when places are short, the oldest goes first: after a session was ready for `claim_within`, at most
//!   `max_concurrent` younger turns are claimed before its head (as many may have been on their way already).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    oracle::{Findings, Oracle},
    steady::Steady,
};
use sim_model::{
    scenario::Scenario,
    trace::{Event, Fact, Micros, Name, TurnState},
};

/// See the file's comment.
pub(super) struct Fairness {
    within: Micros,
    places: usize,
    window: usize,
    steady: Steady,
    sessions: BTreeMap<Name, Session>,
    workers: BTreeMap<Name, Worker>,
    /// When each turn was sent (Unix ms, by the backend's clock); of turns that have not ended.
    created: BTreeMap<Name, f64>,
}

#[derive(Default)]
struct Session {
    /// Oldest first: people's messages come in the order in which they are stored.
    pending: VecDeque<Name>,
    in_progress: u64,
    /// Of the head, if the session is ready.
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Micros,
    overtaken: usize,
    told: bool,
}

#[derive(Default)]
struct Worker {
    /// Sessions that are not ready are in it too, if they have a turn that has not ended.
    sessions: Vec<Name>,
    in_progress: usize,
    /// Ends of turns, and claims, of the last moments.
    ends: VecDeque<Micros>,
    claims: VecDeque<Micros>,
    /// The last moment without a free place.
    full: Micros,
}

impl Worker {
    fn note_whether_full(&mut self, now: Micros, places: usize, window: usize, recent: Micros) {
        for moments in [&mut self.ends, &mut self.claims] {
            while moments.front().is_some_and(|moment| moment + recent < now) {
                moments.pop_front();
            }
        }
        if self.in_progress + self.ends.len() >= places || self.claims.len() >= window {
            self.full = now;
        }
    }
}

impl Fairness {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            within: micros(scenario.limits.claim_within.0),
            places: scenario.settings.turns.max_concurrent,
            window: scenario.settings.turns.window,
            steady: Steady::default(),
            sessions: BTreeMap::new(),
            workers: BTreeMap::new(),
            created: BTreeMap::new(),
        }
    }

    fn worker(&mut self, worker: &Name) -> &mut Worker {
        self.workers.entry(Name::clone(worker)).or_default()
    }

    fn sent(&mut self, at: Micros, turn: &Name, session: &Name, worker: &Name, created: f64) {
        self.created.insert(Name::clone(turn), created);
        let known = self.sessions.entry(Name::clone(session)).or_default();
        let is_new = known.pending.is_empty() && known.in_progress == 0;
        known.pending.push_back(Name::clone(turn));
        if is_new {
            self.worker(worker).sessions.push(Name::clone(session));
        }
        self.renew(at, session);
    }

    fn changed(&mut self, at: Micros, change: &Change<'_>, verdict: &mut Findings) {
        let Change { turn, session, worker, from, to } = *change;
        let (places, window, recent) = (self.places, self.window, self.within / 4);
        let watched = self.worker(worker);
        watched.note_whether_full(at, places, window, recent);
        if to == TurnState::Claimed {
            watched.in_progress += 1;
            watched.claims.push_back(at);
            self.overtaken(at, turn, session, worker, verdict);
        } else if from == TurnState::Claimed {
            watched.in_progress = watched.in_progress.saturating_sub(1);
        }
        if to.has_ended() {
            self.worker(worker).ends.push_back(at);
            self.created.remove(turn);
        }
        self.worker(worker).note_whether_full(at, places, window, recent);
        let known = self.sessions.entry(Name::clone(session)).or_default();
        known.pending.retain(|pending| pending != turn);
        known.in_progress += u64::from(to == TurnState::Claimed);
        known.in_progress -= u64::from(from == TurnState::Claimed).min(known.in_progress);
        if known.pending.is_empty() && known.in_progress == 0 {
            self.sessions.remove(session);
            self.worker(worker).sessions.retain(|other| other != session);
        } else {
            self.renew(at, session);
        }
    }

    /// Whether the session is ready, and since when.
    fn renew(&mut self, at: Micros, session: &str) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        let is_ready = session.in_progress == 0 && !session.pending.is_empty();
        if !is_ready {
            session.waiting = None;
        } else if session.waiting.is_none() {
            session.waiting = Some(Waiting { since: at, overtaken: 0, told: false });
        }
    }

    /// `turn` is claimed: were older ones waiting?
    fn overtaken(&mut self, at: Micros, turn: &Name, session: &Name, worker: &Name, verdict: &mut Findings) {
        let (Some(steady), Some(sent)) = (self.steady.since(worker), self.created.get(turn).copied()) else {
            return;
        };
        let sessions = &self.workers[worker].sessions;
        for other in sessions.iter().filter(|other| *other != session) {
            let Some(Session { pending, waiting: Some(waiting), .. }) = self.sessions.get_mut(other) else {
                continue;
            };
            let head = &pending[0];
            let is_older = self.created.get(head).is_some_and(|created| *created < sent);
            if !is_older || at.saturating_sub(waiting.since.max(steady)) <= self.within {
                continue;
            }
            waiting.overtaken += 1;
            if waiting.overtaken == self.places + 1 {
                let count = waiting.overtaken;
                let message = format!("{worker} claimed {count} younger turns while turn {head} was waiting");
                verdict.violation(message, &[head, other, worker]);
            }
        }
    }

    /// Who waits although there is a place?
    fn look(&mut self, at: Micros, name: &Name, verdict: &mut Findings) {
        let (places, window, recent) = (self.places, self.window, self.within / 4);
        let Some(steady) = self.steady.since(name) else { return };
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.note_whether_full(at, places, window, recent);
        let free = worker.full.max(steady);
        for id in &worker.sessions {
            let Some(Session { pending, waiting: Some(waiting), .. }) = self.sessions.get_mut(id) else {
                continue;
            };
            let waited = at.saturating_sub(waiting.since.max(free));
            if waited > self.within && !std::mem::replace(&mut waiting.told, true) {
                let (head, running) = (&pending[0], worker.in_progress);
                let message = format!(
                    "turn {head} has been waiting for {waited} µs, while {name} ran {running} turns of {places}"
                );
                verdict.violation(message, &[head, id, name]);
            }
        }
    }
}

/// A turn's change.
#[derive(Clone, Copy)]
struct Change<'a> {
    turn: &'a Name,
    session: &'a Name,
    worker: &'a Name,
    from: TurnState,
    to: TurnState,
}

impl Oracle for Fairness {
    fn id(&self) -> &'static str {
        "fairness"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        self.steady.observe(fact);
        match &fact.event {
            Event::Sent { turn, session, worker, created, .. } => {
                self.sent(fact.at, turn, session, worker, *created);
            }
            Event::TurnChanged { turn, session, worker, from, to, .. } => {
                self.changed(fact.at, &Change { turn, session, worker, from: *from, to: *to }, verdict);
            }
            Event::Heap { worker, .. } => self.look(fact.at, worker, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, judge, name};

    const SCENARIO: &str = "
        duration = '1min'
        [worker.turns]
        max_concurrent = 2
        [limits]
        claim_within = '2s'
    ";

    fn worker() -> Name {
        name("worker-1")
    }

    fn sent(second: f64, turn: &str, session: &str) -> (f64, Event) {
        let (turn, session, text) = (name(turn), name(session), name("hello"));
        (second, Event::Sent { turn, session, worker: worker(), created: second * 1000.0, text })
    }

    fn changed(second: f64, turn: &str, session: &str, from: TurnState, to: TurnState) -> (f64, Event) {
        let (turn, session) = (name(turn), name(session));
        let (epoch, chunks, error) = (None, None, None);
        (second, Event::TurnChanged { turn, session, worker: worker(), from, to, epoch, chunks, error })
    }

    fn claimed(second: f64, turn: &str, session: &str) -> (f64, Event) {
        changed(second, turn, session, TurnState::Pending, TurnState::Claimed)
    }

    fn completed(second: f64, turn: &str, session: &str) -> (f64, Event) {
        changed(second, turn, session, TurnState::Claimed, TurnState::Completed)
    }

    fn look(second: f64) -> (f64, Event) {
        (second, Event::Heap { worker: worker(), live: 1, peak: 1 })
    }

    #[track_caller]
    fn check(facts: &[(f64, Event)], expected: &[&str]) {
        let scenario = Scenario::parse("a.toml", "a", SCENARIO).unwrap();
        let steady = [
            (0.0, Event::Connected { client: worker() }),
            (0.0, Event::Lifecycle { worker: worker(), state: name("Ready") }),
        ];
        let facts = steady.iter().chain(facts).map(|(second, event)| (at(*second), event.clone()));
        assert_eq!(judge(Fairness::new(&scenario), facts), expected);
    }

    #[test]
    fn waiting_behind_a_turn_of_the_same_session_is_fair() {
        check(&[sent(1.0, "a1", "a"), sent(1.0, "a2", "a"), claimed(1.1, "a1", "a"), look(9.0)], &[]);
    }

    #[test]
    fn waiting_while_no_place_is_free_is_fair() {
        check(
            &[
                sent(1.0, "a1", "a"),
                sent(1.0, "b1", "b"),
                sent(1.0, "c1", "c"),
                claimed(1.1, "a1", "a"),
                claimed(1.1, "b1", "b"),
                look(8.0),
                completed(8.0, "a1", "a"),
                look(9.9),
            ],
            &[],
        );
    }

    #[test]
    fn waiting_while_a_place_is_free_is_seen_once() {
        check(
            &[sent(1.0, "a1", "a"), sent(1.5, "b1", "b"), claimed(1.1, "a1", "a"), look(3.6), look(9.0)],
            &["turn b1 has been waiting for 2100000 µs, while worker-1 ran 1 turns of 2"],
        );
    }

    #[test]
    fn a_place_that_was_taken_a_moment_ago_does_not_count_as_free() {
        let mut facts = vec![sent(1.0, "b1", "b")];
        for n in 0..8 {
            let (turn, begin) = (format!("a{n}"), 1.0 + f64::from(n));
            let other = format!("c{n}");
            facts.extend([sent(begin, &turn, "a"), claimed(begin, &turn, "a")]);
            facts.extend([sent(begin, &other, "c"), claimed(begin, &other, "c")]);
            facts.extend([
                completed(begin + 0.9, &turn, "a"),
                completed(begin + 0.9, &other, "c"),
                look(begin + 0.9),
            ]);
        }
        // Overtaken it is, of course.
        check(&facts, &["worker-1 claimed 3 younger turns while turn b1 was waiting"]);
    }

    #[test]
    fn a_worker_that_was_cut_off_begins_anew() {
        check(
            &[
                sent(1.0, "a1", "a"),
                (2.0, Event::Disconnected { client: worker() }),
                look(8.0),
                (8.0, Event::Connected { client: worker() }),
                look(9.9),
            ],
            &[],
        );
    }
}

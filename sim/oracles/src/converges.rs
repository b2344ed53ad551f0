//! **converges**: the backend has the sessions that OpenCode has.
//!
//! - While a worker's OpenCode server runs, each OpenCode session that is no child becomes, or is, linked with exactly one
//!   session of the worker, which has its title; and no session stays linked with one that was deleted. A session may
//!   differ for `converge_within` of one server's life, and not at the end, once faults have stopped. (While no server
//!   runs nothing is promised: none is started for this.)
//! - At no moment are two sessions linked with the same OpenCode session.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle, Pending};
use sim_model::{
    scenario::Limits,
    trace::{Event, Fact, Micros, Name, worker_of},
};

/// See the file's comment.
pub(super) struct Converges {
    within: Micros,
    sides: BTreeMap<String, Sides>,
}

/// One worker's.
#[derive(Default)]
struct Sides {
    /// Since when.
    server_runs: Option<Micros>,
    /// Titles by OpenCode id.
    opencode: BTreeMap<Name, Name>,
    /// Links by session.
    sessions: BTreeMap<Name, Name>,
    /// Session and title by link.
    linked: BTreeMap<Name, (Name, Name)>,
    /// OpenCode ids on which the sides differ, and since when.
    differ: BTreeMap<Name, Micros>,
}

impl Sides {
    fn session_is(
        &mut self,
        session: &Name,
        link: Option<&Name>,
        title: &Name,
        at: Micros,
    ) -> Result<(), Name> {
        if let Some(old) = self.sessions.remove(session) {
            if self.linked.get(&old).is_some_and(|(owner, _)| owner == session) {
                self.linked.remove(&old);
            }
            self.compare(&old, at);
        }
        let Some(link) = link else { return Ok(()) };
        self.sessions.insert(Name::clone(session), Name::clone(link));
        let before = self.linked.insert(Name::clone(link), (Name::clone(session), Name::clone(title)));
        self.compare(link, at);
        match before {
            Some((other, _)) if other != *session => Err(other),
            _ => Ok(()),
        }
    }

    fn compare(&mut self, id: &Name, at: Micros) {
        if self.opencode.get(id) == self.linked.get(id).map(|(_, title)| title) {
            self.differ.remove(id);
        } else {
            self.differ.entry(Name::clone(id)).or_insert(at);
        }
    }

    fn difference(&self, worker: &str) -> Option<Pending> {
        let id = self.differ.keys().next().filter(|_| self.server_runs.is_some())?;
        let what = self.describe(id);
        let count = self.differ.len();
        let reason =
            format!("{worker} and its OpenCode differ in {count} sessions, although it runs: {what}");
        Some(Pending { reason, about: vec![Name::clone(id)] })
    }

    /// A session that has differed for more than `within` of this server's life. It is told once.
    fn overdue(&mut self, at: Micros, within: Micros) -> Option<Name> {
        let runs = self.server_runs?;
        let is_overdue = |since: Micros| at > since.max(runs) + within;
        let id = self.differ.iter().find(|(_, since)| is_overdue(**since)).map(|(id, _)| Name::clone(id))?;
        self.differ.insert(Name::clone(&id), Micros::MAX - within);
        Some(id)
    }

    fn describe(&self, id: &Name) -> String {
        match (self.opencode.get(id), self.linked.get(id)) {
            (Some(title), None) => format!("{id} (`{title}`) is linked with no session"),
            (Some(title), Some((session, other))) => {
                format!("{id} is called `{title}`, but session {session} `{other}`")
            }
            (None, Some((session, _))) => format!("session {session} is linked with {id}, which was deleted"),
            (None, None) => unreachable!("both sides agree that there is no {id}"),
        }
    }
}

impl Converges {
    pub(super) fn new(limits: &Limits) -> Self {
        let within = Micros::try_from(limits.converge_within.0.as_micros()).unwrap_or(Micros::MAX / 4);
        Self { within, sides: BTreeMap::new() }
    }

    /// Asked whenever a worker is measured: that is how time passes here.
    fn overdue(&mut self, worker: &Name, at: Micros, verdict: &mut Findings) {
        let Some(sides) = self.sides.get_mut(&**worker) else { return };
        let Some(id) = sides.overdue(at, self.within) else { return };
        let (seconds, what) = (self.within / 1_000_000, sides.describe(&id));
        verdict.violation(format!("{what}, for more than {seconds} s of its server's life"), &[&id]);
    }
}

impl Oracle for Converges {
    fn id(&self) -> &'static str {
        "converges"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        if let Event::SessionIs { session, worker, opencode_session, title } = &fact.event {
            let sides = self.sides.entry(worker.to_string()).or_default();
            if let Err(other) = sides.session_is(session, opencode_session.as_ref(), title, fact.at)
                && let Some(link) = opencode_session
            {
                let message = format!("sessions {other} and {session} are both linked with {link}");
                verdict.violation(message, &[session, &other, link]);
            }
            return;
        }
        if let Event::Heap { worker, .. } | Event::Process { worker, .. } = &fact.event {
            return self.overdue(worker, fact.at, verdict);
        }
        let Some(worker) = worker_of(&fact.host) else { return };
        let sides = self.sides.entry(worker).or_default();
        match &fact.event {
            Event::OpencodeSessionIs { opencode_session, title } => {
                sides.opencode.insert(Name::clone(opencode_session), Name::clone(title));
                sides.compare(opencode_session, fact.at);
            }
            Event::OpencodeSessionDeleted { opencode_session } => {
                sides.opencode.remove(opencode_session);
                sides.compare(opencode_session, fact.at);
            }
            Event::ServerStarted => sides.server_runs = Some(fact.at),
            Event::ServerStopped => sides.server_runs = None,
            _ => {}
        }
    }

    fn pending(&self) -> Option<Pending> {
        self.sides.iter().find_map(|(worker, sides)| sides.difference(worker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, judge, name};

    fn there(id: &str, title: &str) -> Event {
        Event::OpencodeSessionIs { opencode_session: name(id), title: name(title) }
    }

    fn deleted(id: &str) -> Event {
        Event::OpencodeSessionDeleted { opencode_session: name(id) }
    }

    fn here(session: &str, link: Option<&str>, title: &str) -> Event {
        let opencode_session = link.map(name);
        Event::SessionIs {
            session: name(session),
            worker: name("worker-1"),
            opencode_session,
            title: name(title),
        }
    }

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Converges::new(&Limits::default()), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn a_difference_that_lasts_while_the_server_runs_is_seen_once() {
        let heap = |seconds| (at(seconds), Event::Heap { worker: name("worker-1"), live: 1, peak: 1 });
        let events = [(at(0.0), there("ses_1", "a")), (at(500.0), Event::ServerStarted), heap(1100.0)];
        let quiet = judge(Converges::new(&Limits::default()), events.clone());
        assert_eq!(quiet.len(), 1, "nothing but what is pending: {quiet:?}");
        let told =
            judge(Converges::new(&Limits::default()), events.into_iter().chain([heap(1100.1), heap(1100.2)]));
        assert_eq!(
            told[0],
            "ses_1 (`a`) is linked with no session, for more than 600 s of its server's life"
        );
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn sides_that_agree_and_chats_without_a_link_are_fine() {
        check(
            &[
                Event::ServerStarted,
                there("ses_1", "a"),
                here("s1", Some("ses_1"), "a"),
                here("s2", None, "b"),
            ],
            &[],
        );
        check(&[Event::ServerStarted, here("s1", Some("ses_1"), "a"), here("s1", None, "a")], &[]);
    }

    #[test]
    fn a_session_without_a_chat_is_waited_for_while_the_server_runs() {
        let reason = "pending: worker-1 and its OpenCode differ in 1 sessions, although it runs: ses_1 (`a`) is linked with no session";
        check(&[there("ses_1", "a"), Event::ServerStarted], &[reason]);
        check(&[there("ses_1", "a"), Event::ServerStarted, Event::ServerStopped], &[]);
    }

    #[test]
    fn a_title_that_differs_is_waited_for() {
        let reason = "pending: worker-1 and its OpenCode differ in 1 sessions, although it runs: ses_1 is called `b`, but session s1 `a`";
        let renamed =
            [there("ses_1", "a"), here("s1", Some("ses_1"), "a"), there("ses_1", "b"), Event::ServerStarted];
        check(&renamed, &[reason]);
    }

    #[test]
    fn a_link_with_a_deleted_session_is_waited_for() {
        let reason = "pending: worker-1 and its OpenCode differ in 1 sessions, although it runs: session s1 is linked with ses_1, which was deleted";
        let gone =
            [there("ses_1", "a"), here("s1", Some("ses_1"), "a"), deleted("ses_1"), Event::ServerStarted];
        check(&gone, &[reason]);
    }

    #[test]
    fn two_chats_of_one_session_are_seen_at_once() {
        check(
            &[there("ses_1", "a"), here("s1", Some("ses_1"), "a"), here("s2", Some("ses_1"), "a")],
            &["sessions s1 and s2 are both linked with ses_1"],
        );
    }
}

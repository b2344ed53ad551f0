//! **converges**: the backend has the sessions that OpenCode has.
//!
//! - While a worker's OpenCode server runs and faults have stopped, each OpenCode session that is no child becomes, or
//!   is, linked with exactly one session of the worker, which has its title; and no session stays linked with one that
//!   was deleted. (While no server runs nothing is promised: none is started for this.)
//! - At no moment are two sessions linked with the same OpenCode session.

use std::collections::{BTreeMap, BTreeSet};

use super::{Oracle, Pending, Verdict, worker_of};
use crate::trace::{Event, Fact, Name};

/// See the file's comment.
#[derive(Default)]
pub(super) struct Converges {
    sides: BTreeMap<String, Sides>,
}

/// One worker's.
#[derive(Default)]
struct Sides {
    server_runs: bool,
    /// Titles by OpenCode id.
    opencode: BTreeMap<Name, Name>,
    /// Links by session.
    sessions: BTreeMap<Name, Name>,
    /// Session and title by link.
    linked: BTreeMap<Name, (Name, Name)>,
    /// OpenCode ids on which the sides differ.
    differ: BTreeSet<Name>,
}

impl Sides {
    fn session_is(&mut self, session: &Name, link: Option<&Name>, title: &Name) -> Result<(), Name> {
        if let Some(old) = self.sessions.remove(session) {
            if self.linked.get(&old).is_some_and(|(owner, _)| owner == session) {
                self.linked.remove(&old);
            }
            self.compare(&old);
        }
        let Some(link) = link else { return Ok(()) };
        self.sessions.insert(Name::clone(session), Name::clone(link));
        let before = self.linked.insert(Name::clone(link), (Name::clone(session), Name::clone(title)));
        self.compare(link);
        match before {
            Some((other, _)) if other != *session => Err(other),
            _ => Ok(()),
        }
    }

    fn compare(&mut self, id: &Name) {
        if self.opencode.get(id) == self.linked.get(id).map(|(_, title)| title) {
            self.differ.remove(id);
        } else {
            self.differ.insert(Name::clone(id));
        }
    }

    fn difference(&self, worker: &str) -> Option<Pending> {
        let id = self.differ.first().filter(|_| self.server_runs)?;
        let what = match (self.opencode.get(id), self.linked.get(id)) {
            (Some(title), None) => format!("{id} (`{title}`) is linked with no session"),
            (Some(title), Some((session, other))) => {
                format!("{id} is called `{title}`, but session {session} `{other}`")
            }
            (None, Some((session, _))) => format!("session {session} is linked with {id}, which was deleted"),
            (None, None) => unreachable!("both sides agree that there is no {id}"),
        };
        let count = self.differ.len();
        let reason =
            format!("{worker} and its OpenCode differ in {count} sessions, although it runs: {what}");
        Some(Pending { reason, about: vec![Name::clone(id)] })
    }
}

impl Oracle for Converges {
    fn id(&self) -> &'static str {
        "converges"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Verdict) {
        if let Event::SessionIs { session, worker, opencode_session, title } = &fact.event {
            let sides = self.sides.entry(worker.to_string()).or_default();
            if let Err(other) = sides.session_is(session, opencode_session.as_ref(), title)
                && let Some(link) = opencode_session
            {
                let message = format!("sessions {other} and {session} are both linked with {link}");
                verdict.violation(message, &[session, &other, link]);
            }
            return;
        }
        let Some(worker) = worker_of(&fact.host) else { return };
        let sides = self.sides.entry(worker).or_default();
        match &fact.event {
            Event::OpencodeSessionIs { opencode_session, title } => {
                sides.opencode.insert(Name::clone(opencode_session), Name::clone(title));
                sides.compare(opencode_session);
            }
            Event::OpencodeSessionDeleted { opencode_session } => {
                sides.opencode.remove(opencode_session);
                sides.compare(opencode_session);
            }
            Event::ServerStarted => sides.server_runs = true,
            Event::ServerStopped => sides.server_runs = false,
            _ => {}
        }
    }

    fn pending(&self) -> Option<Pending> {
        self.sides.iter().find_map(|(worker, sides)| sides.difference(worker))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{judge, name},
        *,
    };

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
        assert_eq!(judge(Converges::default(), (0..).zip(events.iter().cloned())), expected);
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

//! **tenancy**: what is of another directory is nobody's business.
//!
//! OpenCode keeps the sessions of all directories of its user on one disk, and shows them to whoever asks.
//! - No session of the backend is linked with one of another directory, nor has the title of one. What was so before the
//!   first worker started is the work of an older version: it may stay as it was until it is unlinked, and keep its title.
//! - No prompt goes to a session of another directory.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact, Name};

/// See the file's comment.
#[derive(Default)]
pub(super) struct Tenancy {
    /// Of other directories.
    foreign: BTreeSet<Name>,
    /// Titles that they have or had.
    titles: BTreeSet<Name>,
    has_begun: bool,
    /// Link and title of the backend's sessions from before the run.
    before: BTreeMap<Name, (Option<Name>, Name)>,
}

impl Tenancy {
    fn session_is(&mut self, session: &Name, link: Option<&Name>, title: &Name, verdict: &mut Findings) {
        if !self.has_begun {
            self.before.insert(Name::clone(session), (link.cloned(), Name::clone(title)));
            return;
        }
        let before = self.before.get(session);
        if let Some(link) = link.filter(|link| self.foreign.contains(*link))
            && before.is_none_or(|(old, _)| old.as_ref() != Some(link))
        {
            let message = format!("session {session} was linked with {link}, which is of another directory");
            verdict.violation(message, &[session, link]);
        }
        if self.titles.contains(title) && before.is_none_or(|(_, old)| old != title) {
            let message =
                format!("session {session} is called `{title:.60}`, as a session of another directory");
            verdict.violation(message, &[session]);
        }
    }
}

impl Oracle for Tenancy {
    fn id(&self) -> &'static str {
        "tenancy"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        match &fact.event {
            Event::ForeignSessionIs { opencode_session, title } => {
                self.foreign.insert(Name::clone(opencode_session));
                self.titles.insert(Name::clone(title));
            }
            Event::WorkerStarted { .. } => self.has_begun = true,
            Event::SessionIs { session, opencode_session, title, .. } => {
                self.session_is(session, opencode_session.as_ref(), title, verdict);
            }
            Event::Prompted { opencode_session, text, .. } if self.foreign.contains(opencode_session) => {
                let message = format!("{opencode_session} was prompted, which is of another directory");
                verdict.violation(message, &[opencode_session, text]);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{judge, name, prompted, started};

    fn theirs(id: &str, title: &str) -> Event {
        Event::ForeignSessionIs { opencode_session: name(id), title: name(title) }
    }

    fn here(link: Option<&str>, title: &str) -> Event {
        let (session, worker) = (name("s1"), name("worker-1"));
        Event::SessionIs { session, worker, opencode_session: link.map(name), title: name(title) }
    }

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Tenancy::default(), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn a_session_of_another_directory_may_be_there() {
        check(&[started(1), theirs("ses_2", "private"), here(Some("ses_1"), "ours"), prompted("t1")], &[]);
    }

    #[test]
    fn a_session_of_another_directory_that_becomes_a_chat_is_seen_by_its_link_and_by_its_title() {
        let linked = "session s1 was linked with ses_2, which is of another directory";
        let titled = "session s1 is called `private`, as a session of another directory";
        let facts = |link, title| [theirs("ses_2", "private"), started(1), here(link, title)];
        check(&facts(Some("ses_2"), "x"), &[linked]);
        check(&facts(None, "private"), &[titled]);
        check(&facts(Some("ses_2"), "private"), &[linked, titled]);
    }

    #[test]
    fn what_an_older_version_did_is_undone_and_never_continued() {
        let before = [theirs("ses_2", "private"), here(Some("ses_2"), "private"), started(1)];
        let then = |event| [&before[..], &[event]].concat();
        check(&then(here(None, "private")), &[]);
        check(
            &[&then(theirs("ses_2", "news"))[..], &[here(Some("ses_2"), "news")]].concat(),
            &["session s1 is called `news`, as a session of another directory"],
        );
    }

    #[test]
    fn a_prompt_to_a_session_of_another_directory_is_seen() {
        let seen = ["ses_1 was prompted, which is of another directory"];
        check(&[theirs("ses_1", "private"), started(1), prompted("t1")], &seen);
    }
}

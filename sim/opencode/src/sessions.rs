//! What one machine keeps on disk: sessions, messages and parts. It survives restarts of the server.
//!
//! Nothing here waits or sends; callers publish the events. Growth is bounded by the run that prompts it.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    ids::Ids,
    wire::{
        Info, Message, MessageTime, PROJECT_ID, Part, PartBody, Session, SessionModel, SessionTime, Tokens,
        UserInfo, VERSION,
    },
};

/// The disk of one machine.
pub(super) struct Store {
    directory: String,
    sessions: BTreeMap<String, Record>,
    pub(super) ids: Ids,
}

struct Record {
    session: Session,
    /// Oldest first.
    messages: Vec<Message>,
}

/// Where on the disk a session works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// In the directory that the servers are started in.
    #[default]
    Here,
    /// In another one, of another project, whose name begins alike.
    Elsewhere,
}

/// What a new session may be given.
#[derive(Debug, Default)]
pub(super) struct NewSession {
    pub(super) place: Place,
    pub(super) title: Option<String>,
    pub(super) parent_id: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) model: Option<SessionModel>,
}

/// Which sessions a list is to hold, as measured on `GET /session`.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// At most so many; 100 unless given.
    pub(super) limit: Option<usize>,
    /// Keeps `time.updated >= start`.
    pub(super) start: Option<u64>,
    /// A part of the title, in any case. `%` matched every title when measured.
    pub(super) search: Option<String>,
    /// Leaves children out.
    pub(super) roots: bool,
    /// Keeps `time.updated < before`: the cursor of `/experimental/session`.
    pub(super) before: Option<u64>,
    /// Leaves archived ones out, as `/experimental/session` does unless it is asked for them.
    pub(super) unarchived: bool,
    /// Keeps those of this directory.
    pub(super) directory: Option<String>,
}

impl Filter {
    /// The limit that holds.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIST_LIMIT)
    }
}

const DEFAULT_LIST_LIMIT: usize = 100;

impl Store {
    pub(super) fn new(seed: u64, directory: String) -> Self {
        Self { directory, sessions: BTreeMap::new(), ids: Ids::new(seed) }
    }

    pub(super) fn directory(&self) -> &str {
        &self.directory
    }

    /// Adds a session made now.
    pub(super) fn create(&mut self, new: NewSession, now: u64) -> Session {
        let id = self.ids.descending("ses", now);
        self.insert(id, new, now)
    }

    /// Adds a session that was made before the run.
    pub(super) fn seed(&mut self, title: &str, created: u64, place: Place) -> Session {
        let id = self.ids.descending_at("ses", created);
        self.insert(id, NewSession { title: Some(title.into()), place, ..NewSession::default() }, created)
    }

    fn insert(&mut self, id: String, new: NewSession, created: u64) -> Session {
        let session = Session {
            id: id.clone(),
            slug: self.ids.slug(),
            project_id: PROJECT_ID,
            directory: match new.place {
                Place::Here => self.directory.clone(),
                Place::Elsewhere => format!("{}-2", self.directory),
            },
            path: "",
            parent_id: new.parent_id,
            summary: None,
            cost: 0,
            tokens: Tokens::default(),
            title: new.title.unwrap_or_else(|| default_title(created)),
            agent: new.agent,
            model: new.model,
            version: VERSION,
            time: SessionTime { created, updated: created, archived: None },
        };
        self.sessions.insert(id, Record { session: session.clone(), messages: Vec::new() });
        session
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.sessions.keys().cloned().collect()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Session> {
        self.sessions.get(id).map(|record| &record.session)
    }

    /// Changes a session; returns it as it is now, or nothing when there is no such session.
    pub(super) fn update(&mut self, id: &str, change: impl FnOnce(&mut Session)) -> Option<Session> {
        let record = self.sessions.get_mut(id)?;
        change(&mut record.session);
        Some(record.session.clone())
    }

    pub(super) fn delete(&mut self, id: &str) -> Option<Session> {
        self.sessions.remove(id).map(|record| record.session)
    }

    /// The most recently updated first; among equals the newest first.
    pub(super) fn list(&self, filter: &Filter) -> Vec<&Session> {
        let mut found: Vec<_> = self
            .sessions
            .values()
            .map(|record| &record.session)
            .filter(|session| filter.keeps(session))
            .collect();
        found.sort_by_key(|session| Reverse(session.time.updated));
        found.truncate(filter.limit());
        found
    }

    pub(super) fn children(&self, parent: &str) -> Vec<&Session> {
        let sessions = self.sessions.values().map(|record| &record.session);
        sessions.filter(|session| session.parent_id.as_deref() == Some(parent)).collect()
    }

    /// The messages of a session, oldest first.
    pub(super) fn messages(&self, session: &str) -> Option<&[Message]> {
        self.sessions.get(session).map(|record| record.messages.as_slice())
    }

    pub(super) fn message(&self, session: &str, id: &str) -> Option<&Message> {
        self.messages(session)?.iter().rfind(|message| message.info.id() == id)
    }

    /// Adds a message. Does nothing when the session is gone: its run goes on without it.
    pub(super) fn push_message(&mut self, session: &str, info: Info) {
        if let Some(record) = self.sessions.get_mut(session) {
            record.messages.push(Message { info, parts: Vec::new() });
        }
    }

    /// Replaces what is known of a message.
    pub(super) fn set_info(&mut self, session: &str, info: Info) {
        if let Some(message) = self.message_mut(session, info.id()) {
            message.info = info;
        }
    }

    /// Adds a part, or replaces the one with its id.
    pub(super) fn set_part(&mut self, part: Part) {
        if let Some(message) = self.message_mut(&part.session_id, &part.message_id) {
            match message.parts.iter_mut().rfind(|known| known.id == part.id) {
                Some(known) => *known = part,
                None => message.parts.push(part),
            }
        }
    }

    fn message_mut(&mut self, session: &str, id: &str) -> Option<&mut Message> {
        self.sessions.get_mut(session)?.messages.iter_mut().rfind(|message| message.info.id() == id)
    }

    /// The last user message that no finished reply follows: what the run has to answer next.
    ///
    /// A reply in steps (`tool-calls`) is not finished; one that was interrupted by a crash never is, but then
    /// nothing runs until the next prompt.
    pub(super) fn unanswered(&self, session: &str) -> Option<UserInfo> {
        for message in self.messages(session)?.iter().rev() {
            match &message.info {
                Info::User(info) => return Some(info.clone()),
                Info::Assistant(info) if info.error.is_some() || info.finish == Some("stop") => return None,
                Info::Assistant(_) => {}
            }
        }
        None
    }

    /// A new part with a fresh id.
    pub(super) fn part(&mut self, session: &str, message: &str, body: PartBody, now: u64) -> Part {
        let id = self.ids.ascending("prt", now);
        Part { id, session_id: session.into(), message_id: message.into(), body }
    }
}

impl Filter {
    fn keeps(&self, session: &Session) -> bool {
        let search = self.search.as_deref().map(|text| text.replace('%', "").to_lowercase());
        self.start.is_none_or(|start| session.time.updated >= start)
            && self.before.is_none_or(|before| session.time.updated < before)
            && !(self.roots && session.parent_id.is_some())
            && !(self.unarchived && session.time.archived.is_some())
            && self.directory.as_ref().is_none_or(|directory| session.directory == *directory)
            && search.is_none_or(|text| session.title.to_lowercase().contains(&text))
    }
}

pub(super) const DEFAULT_TITLE: &str = "New session - ";

fn default_title(created: u64) -> String {
    format!("{DEFAULT_TITLE}{}", iso(created))
}

/// `2026-11-23T10:04:16.191Z`, by the civil calendar counted from 1 March 0000.
fn iso(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000 + 719_468, unix_ms % 86_400_000);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

pub(super) fn created(now: u64) -> MessageTime {
    MessageTime { created: now, completed: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(titles: &[(&str, u64)]) -> Store {
        let mut store = Store::new(1, "/project".into());
        for (title, at) in titles {
            store.seed(title, *at, Place::Here);
        }
        store
    }

    fn check(filter: &Filter, expect: &[&str]) {
        let store = store(&[("one", 10), ("two", 30), ("Three", 20)]);
        let titles: Vec<_> = store.list(filter).iter().map(|session| session.title.as_str()).collect();
        assert_eq!(titles, expect, "{filter:?}");
    }

    #[test]
    fn lists_are_ordered_and_cut_as_measured() {
        check(&Filter::default(), &["two", "Three", "one"]);
        check(&Filter { limit: Some(2), ..Filter::default() }, &["two", "Three"]);
        check(&Filter { limit: Some(0), ..Filter::default() }, &[]);
        check(&Filter { start: Some(20), ..Filter::default() }, &["two", "Three"]);
        check(&Filter { search: Some("THR".into()), ..Filter::default() }, &["Three"]);
        check(&Filter { search: Some("%".into()), ..Filter::default() }, &["two", "Three", "one"]);
    }

    #[test]
    fn a_list_without_limit_stops_at_one_hundred() {
        let titles: Vec<_> = (0..120).map(|at| ("x", at)).collect();
        let store = store(&titles);
        assert_eq!(store.list(&Filter::default()).len(), 100);
        assert_eq!(store.list(&Filter { limit: Some(1000), ..Filter::default() }).len(), 120);
    }

    #[test]
    fn children_are_left_out_of_the_roots() {
        let mut store = store(&[("root", 1)]);
        let root = store.ids()[0].clone();
        store.create(NewSession { parent_id: Some(root.clone()), ..NewSession::default() }, 2);
        assert_eq!(store.list(&Filter::default()).len(), 2);
        assert_eq!(store.list(&Filter { roots: true, ..Filter::default() })[0].id, root);
        assert_eq!(store.children(&root).len(), 1);
    }

    #[test]
    fn a_directory_s_sessions_are_listed_alone_or_among_all() {
        let mut store = store(&[("here", 1)]);
        store.seed("elsewhere", 2, Place::Elsewhere);
        assert_eq!(store.list(&Filter::default()).len(), 2);
        let of = |directory: &str| Filter { directory: Some(directory.into()), ..Filter::default() };
        assert_eq!(store.list(&of("/project"))[0].title, "here");
        assert_eq!(store.list(&of("/project-2"))[0].title, "elsewhere");
        assert!(store.list(&of("/")).is_empty());
    }

    #[test]
    fn a_default_title_tells_the_time_of_creation() {
        assert_eq!(default_title(1_795_428_256_191), "New session - 2026-11-23T10:04:16.191Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
    }
}

//! `/session` and what is below it, but for messages.

use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

use http::HeaderValue;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    answer::{self, Answer, Problem},
    call::Call,
    input,
};
use crate::{
    observation::Observation,
    sessions::Filter,
    state::{ServerState, pause},
    wire::{PROJECT_ID, Session},
};

pub(super) fn list(server: &ServerState, call: &Call) -> Answer {
    if let Some(scope) = call.query.get("scope").filter(|scope| *scope != "project") {
        let message = format!("Expected \"project\", got \"{scope}\"\n  at [\"scope\"]");
        return Err(Problem::Invalid { message, kind: "Query" });
    }
    let elsewhere = call.query.get("path").is_some_and(|path| !path.is_empty());
    if elsewhere || !call.is_for(server.directory()) {
        return answer::json(&json!([]));
    }
    let filter = Filter { directory: Some(server.directory().into()), ..filter(call) };
    let store = server.machine.store.borrow();
    let sessions = store.list(&filter);
    server.machine.observe(&Observation::SessionsListed { count: sessions.len() });
    answer::json(&sessions)
}

/// The list that has pages, of all directories unless it is asked for one (measured). The header names the cursor of the next one if this one is full (measured for full pages
/// only).
pub(super) fn list_pages(server: &ServerState, call: &Call) -> Answer {
    let asked = call.directory().filter(|_| !server.machine.options.blurs_directories);
    let filter = Filter {
        directory: asked,
        before: call.query.get("cursor").and_then(|cursor| cursor.parse().ok()),
        unarchived: call.query.get("archived").is_none_or(|archived| archived != "true"),
        ..filter(call)
    };
    let store = server.machine.store.borrow();
    let sessions = store.list(&filter);
    server.machine.observe(&Observation::SessionsListed { count: sessions.len() });
    let project = json!({ "id": PROJECT_ID, "worktree": server.directory() });
    let last = sessions.last().filter(|_| sessions.len() == filter.limit()).map(|last| last.time.updated);
    let rows: Vec<_> = sessions
        .into_iter()
        .map(|session| WithProject { session: server.shown(session), project: &project })
        .collect();
    let mut answer = answer::json(&rows)?;
    if let Some(last) = last {
        answer.headers_mut().insert("x-next-cursor", HeaderValue::from(last));
    }
    Ok(answer)
}

#[derive(Serialize)]
struct WithProject<'a> {
    #[serde(flatten)]
    session: Cow<'a, Session>,
    project: &'a Value,
}

/// What both lists understand.
fn filter(call: &Call) -> Filter {
    Filter {
        // A limit that is no number, or below zero, counts as absent (measured).
        limit: call.query.get("limit").and_then(|limit| limit.parse().ok()),
        start: call.query.get("start").and_then(|start| start.parse().ok()),
        search: call.query.get("search").cloned(),
        roots: call.query.get("roots").is_some_and(|roots| roots == "true"),
        ..Filter::default()
    }
}

/// Creates a session; it comes into being even if the caller goes away meanwhile.
pub(super) async fn create(server: &Rc<ServerState>, call: &Call) -> Answer {
    call.require_json()?;
    if !call.is_for(server.directory()) {
        return Err(Problem::NotModelled("a session in another directory"));
    }
    let body = if call.has_body() { call.json().map_err(|_| Problem::BadRequest)? } else { json!({}) };
    let new = input::new_session(&body)?;
    let (sender, created) = tokio::sync::oneshot::channel();
    let creating = Creating::begin(server);
    let owner = server.clone();
    server.spawn(async move {
        owner.create_turn().await;
        pause(owner.faults().creation_delay()).await;
        let session = owner.machine.store.borrow_mut().create(new, owner.machine.now());
        owner.machine.observe_session(&session);
        owner.emit_session("session.created", &session);
        creating.end(&session.id);
        // The caller may have gone away.
        let _ = sender.send(session);
    });
    let session = created.await.map_err(|_| Problem::Unexpected)?;
    answer::json(&session)
}

/// Counts creations under way, also when the server dies in the middle of one.
struct Creating {
    server: Rc<ServerState>,
    ended: bool,
}

impl Creating {
    fn begin(server: &Rc<ServerState>) -> Self {
        server.creating.set(server.creating.get() + 1);
        server.machine.observe(&Observation::CreateStarted { in_flight: server.creating.get() });
        Self { server: server.clone(), ended: false }
    }

    fn end(mut self, session: &str) {
        self.report(Some(session));
    }

    fn report(&mut self, session: Option<&str>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.server.creating.set(self.server.creating.get() - 1);
            let in_flight = self.server.creating.get();
            self.server.machine.observe(&Observation::CreateEnded { session, in_flight });
        }
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.report(None);
    }
}

/// Sessions that are not idle.
pub(super) fn status(server: &ServerState) -> Answer {
    let runs = server.runs.borrow();
    let busy = runs.iter().filter(|(_, run)| run.is_busy());
    let status: BTreeMap<_, _> = busy.map(|(id, run)| (id, &run.status)).collect();
    answer::json(&status)
}

pub(super) fn get(server: &ServerState, call: &Call) -> Answer {
    let id = call.session()?;
    let store = server.machine.store.borrow();
    answer::json(&server.shown(Problem::unless_known(id, store.get(id))?))
}

/// Renames or archives. Neither counts as an update (measured): `time.updated` stays.
pub(super) fn patch(server: &ServerState, call: &Call) -> Answer {
    let id = call.session()?;
    call.require_json()?;
    let body: Value = call.json().map_err(|_| Problem::BadRequest)?;
    let title = input::optional(&body, "title")?;
    let archived = body["time"]["archived"].as_u64();
    let changed = server.machine.store.borrow_mut().update(id, |session| {
        session.title = title.unwrap_or_else(|| session.title.clone());
        session.time.archived = archived.or(session.time.archived);
    });
    let changed = Problem::unless_known(id, changed)?;
    server.machine.observe_session(&changed);
    server.emit_session("session.updated", &changed);
    answer::json(&changed)
}

/// Deletes a session at once. Its run is not stopped (measured): it stays busy until it ends by itself.
pub(super) fn delete(server: &ServerState, call: &Call) -> Answer {
    let id = call.session()?;
    let deleted = server.machine.store.borrow_mut().delete(id);
    let deleted = Problem::unless_known(id, deleted)?;
    server.machine.observe_deleted(&deleted);
    server.emit_session("session.deleted", &deleted);
    answer::json(&true)
}

pub(super) fn children(server: &ServerState, call: &Call) -> Answer {
    let id = call.session()?;
    let store = server.machine.store.borrow();
    Problem::unless_known(id, store.get(id))?;
    answer::json(&store.children(id))
}

/// Always true, also for sessions that are idle or do not exist (measured).
pub(super) fn abort(server: &ServerState, call: &Call) -> Answer {
    server.abort(call.session()?);
    answer::json(&true)
}

impl ServerState {
    /// The session as it is told of.
    fn shown<'a>(&self, session: &'a Session) -> Cow<'a, Session> {
        if !self.machine.options.blurs_directories {
            return Cow::Borrowed(session);
        }
        Cow::Owned(Session { directory: self.directory().into(), ..session.clone() })
    }

    pub(super) fn directory(&self) -> &str {
        &self.machine.options.directory
    }
}

//! Somebody uses OpenCode on this machine without the worker: its web page or another client of the same server, or
//! another OpenCode process on the same disk.

use super::{
    opencode::OpenCode,
    sessions::{NewSession, Place},
    wire::Session,
};

/// How they do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the server, which publishes events. Where none runs, as by another process.
    Server,
    /// By a process of their own. The server learns nothing of it (each process has its own bus).
    OtherProcess,
}

impl OpenCode {
    /// Makes a session. Returns its id.
    pub fn create_directly(&self, title: &str, place: Place, way: Way) -> String {
        let new = NewSession { title: Some(title.into()), place, ..NewSession::default() };
        let session = self.machine.store.borrow_mut().create(new, self.machine.now());
        self.machine.observe_session(&session);
        self.publish("session.created", &session, way);
        session.id
    }

    /// Renames a session, which does not move its time (measured). Does nothing if there is none.
    pub fn rename_directly(&self, session: &str, title: &str, way: Way) {
        let renamed = self.machine.store.borrow_mut().update(session, |session| session.title = title.into());
        if let Some(renamed) = renamed {
            self.machine.observe_session(&renamed);
            self.publish("session.updated", &renamed, way);
        }
    }

    /// Deletes a session; its run is not stopped (measured). Does nothing if there is none.
    pub fn delete_directly(&self, session: &str, way: Way) {
        let deleted = self.machine.store.borrow_mut().delete(session);
        if let Some(deleted) = deleted {
            self.machine.observe_deleted(&deleted);
            self.publish("session.deleted", &deleted, way);
        }
    }

    /// Whether a server process lives.
    pub fn has_server(&self) -> bool {
        self.machine.server.borrow().upgrade().is_some()
    }

    /// A session that works on a prompt right now, if one does.
    pub fn busy_session(&self) -> Option<String> {
        let server = self.machine.server.borrow().upgrade()?;
        let runs = server.runs.borrow();
        let exists = |id: &str| self.machine.store.borrow().get(id).is_some();
        runs.iter().find(|(id, run)| run.is_busy() && exists(id)).map(|(id, _)| id.clone())
    }

    /// What happens in another directory is published to whoever listens to that one; nobody does.
    fn publish(&self, kind: &str, session: &Session, way: Way) {
        let server = self.machine.server.borrow().upgrade();
        if let (Way::Server, Some(server), true) = (way, server, self.machine.is_here(session)) {
            server.emit_session(kind, session);
        }
    }
}

//! One machine: its disk, its servers, and what may be done there before and beside a run.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::{Rc, Weak},
};

use super::{
    observation::Observation,
    options::Options,
    server::Server,
    sessions::{Place, Store},
    state::Machine,
    wire::{Info, Message},
};

/// One machine with OpenCode on it. Clones share it.
#[derive(Clone)]
pub struct OpenCode {
    pub(super) machine: Rc<Machine>,
}

impl fmt::Debug for OpenCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCode").field("directory", &self.machine.options.directory).finish_non_exhaustive()
    }
}

impl OpenCode {
    /// A machine with an empty disk.
    pub fn new(options: Options) -> Self {
        assert!(!options.models.is_empty(), "a server without models answers nothing");
        let store = RefCell::new(Store::new(options.seed, options.directory.clone()));
        let (generations, servers) = (Cell::new(0), RefCell::default());
        let server = RefCell::default();
        Self { machine: Rc::new(Machine { options, store, generations, servers, server }) }
    }

    /// Adds a session that was made before the run, without an event. Returns its id.
    pub fn seed_session(&self, title: &str, created_ms: u64, place: Place) -> String {
        let session = self.machine.store.borrow_mut().seed(title, created_ms, place);
        self.machine.observe_session(&session);
        session.id
    }

    /// Starts a server process; with a password, every request must present it (user `opencode`).
    /// Call it inside the runtime. It listens only after [`Server::ready`].
    pub fn start(&self, password: Option<String>) -> Server {
        let generation = self.machine.generations.get() + 1;
        self.machine.generations.set(generation);
        self.machine.observe(&Observation::ServerStarted { generation });
        let server = Server::new(self.machine.clone(), generation, password);
        let mut servers = self.machine.servers.borrow_mut();
        servers.retain(|server| server.strong_count() > 0);
        servers.push(server.downgrade());
        self.machine.server.replace(server.downgrade());
        server
    }

    /// Ends all event streams, as a server does that closes them.
    pub fn cut_event_streams(&self) {
        self.machine.servers.borrow().iter().filter_map(Weak::upgrade).for_each(|server| server.bus.cut());
    }

    /// Takes a session from the disk without an event, as another process with the same disk may. A run in it goes on.
    pub fn lose_session(&self, session: &str) -> bool {
        let lost = self.machine.store.borrow_mut().delete(session);
        lost.iter().for_each(|lost| self.machine.observe_deleted(lost));
        lost.is_some()
    }

    /// What `opencode models` prints, one `provider/model` each.
    pub fn models(&self) -> Vec<String> {
        self.machine.observe(&Observation::ModelsListed);
        self.machine.options.models.clone()
    }

    /// All sessions, the newest first.
    pub fn session_ids(&self) -> Vec<String> {
        self.machine.store.borrow().ids()
    }

    /// What the disk holds of a session, oldest first; empty when there is no such session.
    pub fn messages(&self, session: &str) -> Vec<StoredMessage> {
        let store = self.machine.store.borrow();
        store.messages(session).unwrap_or_default().iter().map(StoredMessage::of).collect()
    }
}

/// A message as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// `msg_…`
    pub id: String,
    /// The user message that this one answers; nothing for user messages.
    pub parent: Option<String>,
    /// The text parts, joined. Empty while a reply is written, and for ever after a crash in the middle.
    pub text: String,
    /// When a reply ended, by whatever cause. Unix milliseconds.
    pub completed: Option<u64>,
    /// The name of the error that ended it, such as `MessageAbortedError`.
    pub error: Option<String>,
}

impl StoredMessage {
    fn of(message: &Message) -> Self {
        let (parent, completed, error) = match &message.info {
            Info::User(_) => (None, None, None),
            Info::Assistant(info) => {
                let name = info.error.as_ref().and_then(|error| error["name"].as_str());
                (Some(info.parent_id.clone()), info.time.completed, name.map(Into::into))
            }
        };
        Self { id: message.info.id().into(), parent, text: message.text(), completed, error }
    }
}

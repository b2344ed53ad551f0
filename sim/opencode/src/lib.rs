//! A stand-in for `opencode serve` 1.18.33: its HTTP API and event stream, with scripted replies.
//!
//! One [`OpenCode`] is one machine: its disk survives restarts. [`OpenCode::start`] gives one server process, which
//! speaks HTTP/1 over any byte stream ([`Server::serve_connection`]): in the simulated network or on loopback.
//! Everything runs in one thread; call it inside a `tokio::task::LocalSet`.
//!
//! Shapes, orders and errors are those that were measured on the real server; the recordings beside this file are
//! replayed by the tests.
//!
//! # Modelled
//! `/global/health`, `/event`, `/experimental/session`, `/session` (list, create, get, patch, delete, children), `/session/status`,
//! `/session/{id}/message` (list with cursors, prompt, one message), `/session/{id}/prompt_async`,
//! `/session/{id}/abort`, `/permission` (list, both ways to reply), `/question` (always empty),
//! `/config/providers`, `/doc`. Basic auth; HTML with status 200 for routes that do not exist.
//!
//! # Not modelled: refused with 501 and [`Observation::Refused`]
//! All other routes of the real server, also `/api/*` and `/global/event`; prompt parts other than text; structured
//! output (`format`); a `messageID` that is taken; creating a session in another directory; bodies over 8 MiB.
//!
//! # Differences that remain
//! * `/experimental/session` knows the parameters of `/session`, `cursor` and `archived`; `workspace` is ignored.
//! * The web page is a short one of our own (2,884 bytes in the real one); `/doc` names the version and no paths.
//! * The first prompt of a process publishes four of the some fifty events about plugins and catalogues.
//! * The title of a session is made of the prompt's first words, at once; the real one asks the model in parallel.
//! * All events between the phases of a reply carry the same millisecond; the real ones are 1 to 60 ms apart.
//! * Whether a refusal of the model's is asked again is the script's choice; the real server asks again after 429 and 5xx.
//! * A summary is made at once and cannot be aborted; the pauses before a model is asked again have no jitter.
//!
//! # Assumed, because it was not measured
//! * The permission flow: shapes are those of the API description; a refusal ends the turn. Of a child session there is
//!   nothing but its creation, its question and its idleness.
//! * Reasoning parts; and that a tool which is aborted ends as `error`.
//! * Prompts that were queued when a run is aborted or fails stay unanswered.
//! * A deleted session's run goes on and publishes deltas only.
//! * Aborting a session that does not exist publishes idle, as for one that is idle.
//! * Messages are ordered by arrival, also when a prompt brings a `messageID` that sorts elsewhere.
//! * `before` without `limit`; a reader that is 65,536 events behind is cut off (and reported as refused).

use std::{
    cell::RefCell,
    fmt,
    rc::{Rc, Weak},
    time::Duration,
};

mod api;
mod direct;
mod events;
mod faults;
mod ids;
mod observation;
mod permissions;
mod run;
mod script;
mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod wire;

pub use direct::Way;
pub use faults::{Faults, NoFaults};
pub use observation::{Observation, ReplyOutcome};
pub use script::{
    Compaction, Content, MAX_DELTA_BYTES, MAX_DELTAS, Outcome, Prompt, PutOff, Reply, Script, ToolCall,
    by_directives,
};
use server::Inner;
pub use server::Server;
use sessions::Store;
use wire::Session;
pub use wire::{Model, VERSION};

/// The provider's key, which the real server shows in clear to whoever lists providers. It must never travel on.
pub const PROVIDER_KEY: &str = "sk-fake-never-to-be-published";

/// How one fake behaves.
#[derive(Clone)]
pub struct Options {
    /// Decides all identifiers.
    pub seed: u64,
    /// The machine's wall clock, Unix milliseconds.
    pub clock: Rc<dyn Fn() -> u64>,
    /// What prompts are answered with.
    pub script: Script,
    /// What things cost.
    pub latencies: Latencies,
    /// The directory that the server works in.
    pub directory: String,
    /// `provider/model`, at least one; the first is the default.
    pub models: Vec<String>,
    /// Told of everything that happens.
    pub observer: Rc<dyn Fn(&Observation<'_>)>,
    /// Asked what goes wrong.
    pub faults: Rc<dyn Faults>,
}

/// What things cost, in the time of the runtime. Zero costs nothing, not even a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    /// From start to ready (measured 1.3 to 2.1 s).
    pub startup: Duration,
    /// Every request but prompts (measured 1 to 40 ms).
    pub request: Duration,
    /// One creation; concurrent ones queue (measured 3.6 ms alone, 100 at once took 270 ms).
    pub create: Duration,
    /// Until `prompt_async` answers (measured 17 to 26 ms). The message is stored before.
    pub prompt_accept: Duration,
    /// The first prompt of a process (measured 1 s more than later ones).
    pub warm_up: Duration,
    /// From the first `session.idle` to the last part, after an abort or a model error (measured 30 to 55 ms).
    pub settle: Duration,
    /// From the end of a turn to the last `message.updated` of its user message (measured 33 to 58 ms).
    pub summary: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            startup: Duration::from_millis(1500),
            request: Duration::from_millis(3),
            create: Duration::from_millis(4),
            prompt_accept: Duration::from_millis(20),
            warm_up: Duration::from_secs(1),
            settle: Duration::from_millis(40),
            summary: Duration::from_millis(35),
        }
    }
}

impl Latencies {
    /// Everything at once.
    pub const NONE: Self = Self {
        startup: Duration::ZERO,
        request: Duration::ZERO,
        create: Duration::ZERO,
        prompt_accept: Duration::ZERO,
        warm_up: Duration::ZERO,
        settle: Duration::ZERO,
        summary: Duration::ZERO,
    };
}

impl Options {
    /// The measured latencies, two models, replies by directives in the prompt, and nobody who watches.
    pub fn new(seed: u64, clock: Rc<dyn Fn() -> u64>) -> Self {
        Self {
            seed,
            clock,
            script: Rc::new(by_directives),
            latencies: Latencies::default(),
            directory: "/project".into(),
            models: vec!["fake/m1".into(), "fake/m2".into()],
            observer: Rc::new(|_| ()),
            faults: Rc::new(NoFaults),
        }
    }
}

/// One machine with OpenCode on it. Clones share it.
#[derive(Clone)]
pub struct OpenCode {
    machine: Rc<Machine>,
}

struct Machine {
    options: Options,
    store: RefCell<Store>,
    generations: std::cell::Cell<u64>,
    /// Of servers that run; more than one only while an old process of the owner still lives.
    servers: RefCell<Vec<Weak<Inner>>>,
    /// The server that was started last.
    server: RefCell<Weak<Inner>>,
}

impl Machine {
    fn now(&self) -> u64 {
        (self.options.clock)()
    }

    fn observe(&self, observation: &Observation<'_>) {
        (self.options.observer)(observation);
    }

    /// A session was made or renamed. Children are not told of.
    fn observe_session(&self, Session { id, title, parent_id, .. }: &Session) {
        if parent_id.is_none() {
            self.observe(&Observation::SessionStands { session: id, title });
        }
    }

    fn observe_deleted(&self, Session { id, parent_id, .. }: &Session) {
        if parent_id.is_none() {
            self.observe(&Observation::SessionDeleted { session: id });
        }
    }
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
        let (generations, servers) = (std::cell::Cell::new(0), RefCell::default());
        let server = RefCell::default();
        Self { machine: Rc::new(Machine { options, store, generations, servers, server }) }
    }

    /// Adds a session that was made before the run, without an event. Returns its id.
    pub fn seed_session(&self, title: &str, created_ms: u64) -> String {
        let id = self.machine.store.borrow_mut().seed(title, created_ms);
        self.machine.observe(&Observation::SessionStands { session: &id, title });
        id
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
        let is_lost = self.machine.store.borrow_mut().delete(session).is_some();
        if is_lost {
            self.machine.observe(&Observation::SessionDeleted { session });
        }
        is_lost
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
    fn of(message: &wire::Message) -> Self {
        let (parent, completed, error) = match &message.info {
            wire::Info::User(_) => (None, None, None),
            wire::Info::Assistant(info) => {
                let name = info.error.as_ref().and_then(|error| error["name"].as_str());
                (Some(info.parent_id.clone()), info.time.completed, name.map(Into::into))
            }
        };
        Self { id: message.info.id().into(), parent, text: message.text(), completed, error }
    }
}

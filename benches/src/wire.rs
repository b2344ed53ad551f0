//! The worker's Convex client over an in-memory connection, against a peer that answers from frames made beforehand; and
//! the same frames over the same kind of connection to the same peer, without the client.

mod peer;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use convex::Value;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    task::{AbortHandle, JoinHandle, JoinSet},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use tokio_util::task::AbortOnDropHandle;
use worker::{
    config::{ConvexUrl, Token},
    convex::{
        Backend, ConvexClient,
        api::{ReadySession, WindowWatch},
    },
    env::{Address, Env, Launch, LaunchError, ServerProcess, UnixMillis},
    turns::inbox::{Inbox, InboxAction},
};

use peer::{Peer, TEXT};

/// Bytes that may be on their way.
const BUFFER: usize = 64 * 1024;
/// Whoever is served needs a token.
const TOKEN: &str = "machine_bench:worker_1:0123456789abcdef0123456789abcdef";
/// Turns that may run at once.
const PLACES: usize = 8;

/// Surroundings in which every connection leads to a peer, which shows the window when it is told to.
#[derive(Debug, Clone)]
struct Memory {
    peers: Arc<Mutex<JoinSet<()>>>,
    shows: Arc<Mutex<Option<mpsc::Receiver<()>>>>,
}

impl Memory {
    /// Surroundings, and how to tell the peer of the first connection.
    fn new() -> (Self, mpsc::Sender<()>) {
        let (show, shows) = mpsc::channel(1);
        let shows = Arc::new(Mutex::new(Some(shows)));
        (Self { peers: Arc::default(), shows }, show)
    }

    fn start(&self) -> (Self, ConvexClient, AbortOnDropHandle<()>) {
        let url = ConvexUrl::plain(Address { host: "memory".into(), port: 1 });
        let (client, task) = ConvexClient::start(self, url);
        (self.clone(), client, task)
    }

    fn dial(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let shows = self.shows.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (_, never) = mpsc::channel(1);
        let peer = Peer::default().serve(theirs, shows.unwrap_or(never));
        let _: AbortHandle = self.peers.lock().unwrap_or_else(PoisonError::into_inner).spawn(peer);
        ours
    }
}

/// There is no OpenCode here.
enum Never {}

impl ServerProcess for Never {
    fn address(&self) -> Address {
        match *self {}
    }

    async fn exited(&mut self) -> String {
        match *self {}
    }

    async fn stop(self, _: Duration) {
        match self {}
    }
}

impl Env for Memory {
    type Stream = DuplexStream;
    type Server = Never;

    async fn connect(&self, _: &Address) -> io::Result<DuplexStream> {
        Ok(self.dial())
    }

    async fn launch(&self, _: Launch) -> Result<Never, LaunchError> {
        unreachable!("no turn runs here")
    }

    fn now(&self) -> UnixMillis {
        0
    }

    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }

    #[expect(clippy::disallowed_methods, reason = "this is `Env::spawn`: the caller owns the handle")]
    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task)
    }
}

/// A client that is connected, and lives as long as this.
pub struct Wire {
    client: ConvexClient,
    _task: AbortOnDropHandle<()>,
    _env: Box<dyn Send>,
}

impl Wire {
    /// Starts the client; call it inside a runtime.
    #[must_use]
    pub fn new() -> Self {
        let (env, client, task) = Memory::new().0.start();
        Self { client, _task: task, _env: Box::new(env) }
    }

    /// One mutation, from its call to its result.
    ///
    /// # Panics
    /// If the peer refuses it.
    pub async fn mutation(&self) {
        let args = [("turn", "t".into()), ("sequence", 1.0.into()), ("text", TEXT.into())];
        let args = args.map(|(name, value): (&str, Value)| (name.to_owned(), value)).into();
        self.client.mutation("chat:writeChunk", args).await.expect("this peer accepts everything");
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

/// A client that watches the window, and the inbox behind it.
pub struct Watch {
    show: mpsc::Sender<()>,
    window: WindowWatch,
    inbox: Inbox,
    _task: AbortOnDropHandle<()>,
    _env: Box<dyn Send>,
}

impl Watch {
    /// Subscribes; call it inside a runtime.
    ///
    /// # Panics
    /// If the peer does not answer.
    pub async fn new() -> Self {
        let (env, show) = Memory::new();
        let (env, client, task) = env.start();
        let token: Token = TOKEN.parse().expect("a token");
        let mut window = Backend::new(client, token).watch_window(PLACES);
        window.next().await.expect("the first window");
        Self { show, window, inbox: Inbox::new(PLACES), _task: task, _env: Box::new(env) }
    }

    /// A window with one new turn, from its frame to the decision to start it. Returns what was decided.
    ///
    /// # Panics
    /// If the window does not come, or starts nothing.
    pub async fn window(&mut self) -> ReadySession {
        self.show.send(()).await.expect("the peer is there");
        let window = self.window.next().await.expect("a window");
        let mut actions = self.inbox.window_changed(window);
        let Some(InboxAction::Start(row)) = actions.pop() else { panic!("{actions:?}") };
        self.inbox.ended(&row.session);
        row
    }
}

/// The floor: the same frames over the same kind of connection to the same peer, and nobody reads them.
pub struct Floor {
    socket: WebSocketStream<DuplexStream>,
    show: mpsc::Sender<()>,
    request: String,
    _env: Memory,
}

impl Floor {
    /// Connects; call it inside a runtime.
    ///
    /// # Panics
    /// If the connection does not stand.
    pub async fn new() -> Self {
        let (env, show) = Memory::new();
        let (socket, _) = client_async("ws://memory/", env.dial()).await.expect("a WebSocket");
        let request = format!(
            r#"{{"type":"Mutation","requestId":1,"udfPath":"chat:writeChunk","args":[{{"sequence":1.0,"text":"{TEXT}","turn":"t"}}]}}"#
        );
        Self { socket, show, request, _env: env }
    }

    /// One frame up, two down.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn mutation(&mut self) {
        self.socket.send(Message::text(self.request.as_str())).await.expect("the peer reads");
        self.receive().await;
        self.receive().await;
    }

    /// One frame down, when the peer is told to.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn window(&mut self) {
        self.show.send(()).await.expect("the peer is there");
        self.receive().await;
    }

    async fn receive(&mut self) {
        self.socket.next().await.expect("the peer answers").expect("the peer answers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_and_windows_come_back_and_so_do_frames() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Wire::new();
            for _ in 0..3 {
                wire.mutation().await;
            }
            let mut watch = Watch::new().await;
            let started = [watch.window().await, watch.window().await, watch.window().await];
            assert_ne!(started[0].turn, started[1].turn);
            let mut floor = Floor::new().await;
            floor.mutation().await;
            floor.window().await;
        });
    }
}

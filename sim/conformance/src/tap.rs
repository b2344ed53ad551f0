//! A tap on the sync protocol: between a client and a backend it keeps what both say, and cuts the connection where it
//! is told to.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use serde_json::Value as Json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, spawn_local},
    time::sleep,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Transitions can be large.
const MAX_FRAME: usize = 64 << 20;
/// What the client needs to read the last message before the cut.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Where the connection is cut, once for each that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The backend never sees the mutation.
    BeforeRun,
    /// The mutation is committed; the client never sees the answer.
    BeforeAnswer,
    /// The client sees the answer, and no Transition after it.
    BeforeTransition,
    /// The same, but by a close frame.
    CloseBeforeTransition,
    /// An action is over; the client never sees the answer.
    BeforeActionAnswer,
}

/// One message that passed.
#[derive(Debug, Clone)]
pub struct Said {
    /// Which connection, from 1.
    pub connection: usize,
    /// Whether the client said it.
    pub by_client: bool,
    /// What.
    pub message: Json,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    said: Vec<Said>,
    cuts: Vec<Cut>,
}

/// A tap on loopback; it ends when it is dropped.
#[derive(Debug)]
pub struct Tap {
    /// Where clients connect to.
    pub address: SocketAddr,
    state: Rc<RefCell<State>>,
    task: AbortHandle,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tap {
    /// Listens on any port of loopback for clients of `backend`. Call it inside a `LocalSet`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(backend: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Rc::<RefCell<State>>::default();
        let shared = state.clone();
        let task = spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.borrow_mut().connections += 1;
                let line = Line { state: shared.clone(), connection: shared.borrow().connections };
                spawn_local(async move { line.carry(stream, backend).await });
            }
        });
        Ok(Self { address, state, task: task.abort_handle() })
    }

    /// Cuts at the next mutations, one after the other.
    pub fn cut(&self, cuts: &[Cut]) {
        self.state.borrow_mut().cuts = cuts.iter().rev().copied().collect();
    }

    /// Cuts that are still to come.
    #[must_use]
    pub fn cuts_left(&self) -> usize {
        self.state.borrow().cuts.len()
    }

    /// All that passed.
    #[must_use]
    pub fn said(&self) -> Vec<Said> {
        self.state.borrow().said.clone()
    }
}

/// One connection.
struct Line {
    state: Rc<RefCell<State>>,
    connection: usize,
}

type Socket = WebSocketStream<TcpStream>;

impl Line {
    /// Carries messages until one side ends or a cut is due.
    async fn carry(&self, client: TcpStream, backend: SocketAddr) {
        let Ok((mut client, mut server)) = open(client, backend).await else { return };
        loop {
            let (by_client, message) = tokio::select! {
                message = client.next() => (true, message),
                message = server.next() => (false, message),
            };
            let Some(Ok(message)) = message else { return };
            let cut = self.note(by_client, &message);
            if matches!(cut, Some(Cut::BeforeRun | Cut::BeforeAnswer | Cut::BeforeActionAnswer)) {
                return;
            }
            let to = if by_client { &mut server } else { &mut client };
            let is_over = message.is_close();
            // Pings are answered by each side of the tap itself.
            if !(message.is_ping() || message.is_pong()) && to.send(message).await.is_err() || is_over {
                return;
            }
            if cut.is_some() {
                if cut == Some(Cut::CloseBeforeTransition) {
                    let _ = client.send(Message::Close(Some(overloaded()))).await;
                }
                sleep(LAST_WORDS).await;
                return;
            }
        }
    }

    /// Keeps a message, and says whether the connection is cut at it.
    fn note(&self, by_client: bool, message: &Message) -> Option<Cut> {
        let Message::Text(text) = message else { return None };
        let message: Json = serde_json::from_str(text).unwrap_or_default();
        let mut state = self.state.borrow_mut();
        let next = state.cuts.last().copied();
        let at = next.map(|cut| match cut {
            Cut::BeforeRun => (true, "Mutation"),
            Cut::BeforeAnswer | Cut::BeforeTransition | Cut::CloseBeforeTransition => {
                (false, "MutationResponse")
            }
            Cut::BeforeActionAnswer => (false, "ActionResponse"),
        });
        let due = next.filter(|_| at == message["type"].as_str().map(|kind| (by_client, kind)));
        if due.is_some() {
            state.cuts.pop();
        }
        state.said.push(Said { connection: self.connection, by_client, message });
        due
    }
}

/// What the backend closes with when it cannot go on.
fn overloaded() -> CloseFrame {
    CloseFrame { code: CloseCode::Restart, reason: "InternalServerError".into() }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_frame_size(Some(MAX_FRAME)).max_message_size(Some(MAX_FRAME))
}

/// Shakes hands with both: the backend sees the client's path and what the client calls itself.
async fn open(client: TcpStream, backend: SocketAddr) -> tungstenite::Result<(Socket, Socket)> {
    client.set_nodelay(true)?;
    let (mut path, mut name) = (String::new(), None::<HeaderValue>);
    #[expect(clippy::result_large_err, reason = "the callback's type is given")]
    let look = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        name = request.headers().get("convex-client").cloned();
        Ok(response)
    };
    let client = accept_hdr_async_with_config(client, look, Some(config())).await?;
    let mut request = format!("ws://{backend}{path}").into_client_request()?;
    if let Some(name) = name {
        request.headers_mut().insert("convex-client", name);
    }
    let stream = TcpStream::connect(backend).await?;
    stream.set_nodelay(true)?;
    let (server, _) = client_async_with_config(request, stream, Some(config())).await?;
    Ok((client, server))
}

//! The worker's Convex client over an in-memory connection, against a backend that answers at once; and the same frames
//! without the client.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use convex::Value;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{
    io::DuplexStream,
    task::{AbortHandle, JoinHandle, JoinSet},
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};
use tokio_util::task::AbortOnDropHandle;
use worker::{
    config::ConvexUrl,
    convex::ConvexClient,
    env::{Address, Env, Launch, LaunchError, ServerProcess, UnixMillis},
};

/// Bytes that may be on their way.
const BUFFER: usize = 64 * 1024;
/// About what a chunk of a reply holds.
const TEXT: &str = "A chunk of a reply holds what the model said since the last one, some hundred bytes.";

/// Surroundings in which every connection leads to the backend below.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<JoinSet<()>>>);

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
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let _: AbortHandle = self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(answer(theirs));
        Ok(ours)
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

/// The backend: each mutation succeeds, and the transition that shows it follows.
async fn answer(stream: DuplexStream) {
    let mut socket = accept_async(stream).await.expect("the client speaks WebSocket");
    let mut ts: u64 = 1;
    while let Some(Ok(message)) = socket.next().await {
        let Ok(text) = message.to_text() else { continue };
        let Ok(frame) = serde_json::from_str::<serde_json::Value>(text) else { continue };
        if frame["type"] != "Mutation" {
            continue;
        }
        for frame in answers(&frame["requestId"], ts) {
            socket.feed(Message::text(frame)).await.expect("the client reads");
        }
        socket.flush().await.expect("the client reads");
        ts += 1;
    }
}

fn answers(request: &serde_json::Value, ts: u64) -> [String; 2] {
    let stamp = |ts: u64| STANDARD.encode(ts.to_le_bytes());
    let version = |ts: u64| json!({ "querySet": 0, "identity": 0, "ts": stamp(ts) });
    let before = if ts == 1 { 0 } else { ts - 1 };
    let response = json!({
        "type": "MutationResponse", "requestId": request, "success": true, "result": null,
        "ts": stamp(ts), "logLines": [],
    });
    let transition = json!({
        "type": "Transition", "startVersion": version(before), "endVersion": version(ts), "modifications": [],
    });
    [response.to_string(), transition.to_string()]
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
        let env = Memory::default();
        let url = ConvexUrl { address: Address { host: "memory".into(), port: 1 }, tls: false };
        let (client, task) = ConvexClient::start(&env, url);
        Self { client, _task: task, _env: Box::new(env) }
    }

    /// One mutation, from its call to its result.
    ///
    /// # Panics
    /// If the backend refuses it.
    pub async fn mutation(&self) {
        let args = [("turn", "t".into()), ("sequence", 1.0.into()), ("text", TEXT.into())];
        let args = args.map(|(name, value): (&str, Value)| (name.to_owned(), value)).into();
        self.client.mutation("chat:writeChunk", args).await.expect("this backend accepts everything");
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

/// The floor: frames of the same size over the same kind of connection, one up and two down, and nobody reads them.
pub struct Floor {
    socket: tokio_tungstenite::WebSocketStream<DuplexStream>,
    _peer: JoinSet<()>,
    request: String,
}

impl Floor {
    /// Connects; call it inside a runtime.
    ///
    /// # Panics
    /// If the connection does not stand.
    pub async fn new() -> Self {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let mut peer = JoinSet::new();
        peer.spawn(async move {
            let mut socket = accept_async(theirs).await.expect("a WebSocket");
            let frames = answers(&1.into(), 7);
            while let Some(Ok(_)) = socket.next().await {
                for frame in &frames {
                    socket.feed(Message::text(frame.as_str())).await.expect("the client reads");
                }
                socket.flush().await.expect("the client reads");
            }
        });
        let (socket, _) = client_async("ws://memory/", ours).await.expect("a WebSocket");
        let args = json!([{ "turn": "t", "sequence": 1.0, "text": TEXT }]);
        let request =
            json!({ "type": "Mutation", "requestId": 1, "udfPath": "chat:writeChunk", "args": args });
        Self { socket, _peer: peer, request: request.to_string() }
    }

    /// One frame up, two down.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn round_trip(&mut self) {
        self.socket.send(Message::text(self.request.as_str())).await.expect("the peer reads");
        for _ in 0..2 {
            self.socket.next().await.expect("the peer answers").expect("the peer answers");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_come_back_and_so_do_frames() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Wire::new();
            for _ in 0..3 {
                wire.mutation().await;
            }
            Floor::new().await.round_trip().await;
        });
    }
}

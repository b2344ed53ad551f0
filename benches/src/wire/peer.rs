//! A backend that reads of a frame only what it must, and answers from frames made beforehand: what it costs is small,
//! and the same for the client and for the floor.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

/// About what a chunk of a reply holds.
pub(super) const TEXT: &str =
    "A chunk of a reply holds what the model said since the last one, some hundred bytes.";

/// What the next frame has to follow on.
#[derive(Debug, Default)]
pub(super) struct Peer {
    query_set: u64,
    ts: u64,
    /// Windows shown so far.
    shown: u64,
}

impl Peer {
    /// Each mutation succeeds, and the Transition that shows it follows; each new query set is answered with a window,
    /// and each word from `shows` with another one.
    pub(super) async fn serve(mut self, stream: DuplexStream, mut shows: mpsc::Receiver<()>) {
        let mut socket = accept_async(stream).await.expect("the other side speaks WebSocket");
        loop {
            let frames = tokio::select! {
                Some(()) = shows.recv() => vec![self.window(self.query_set)],
                frame = socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.answer(&text),
                    Some(Ok(_)) => continue,
                    _ => return,
                },
            };
            send(&mut socket, frames).await;
        }
    }

    fn answer(&mut self, frame: &str) -> Vec<String> {
        if let Some(request) = number(frame, "\"requestId\":") {
            let ts = stamp(self.ts + 1);
            let response = format!(
                r#"{{"type":"MutationResponse","requestId":{request},"success":true,"result":null,"ts":"{ts}","logLines":[]}}"#
            );
            return vec![response, self.transition(self.query_set, "")];
        }
        match number(frame, "\"newVersion\":") {
            Some(version) if frame.contains("ModifyQuerySet") => vec![self.window(version)],
            _ => Vec::new(),
        }
    }

    /// A Transition that shows a window with one turn, each time another one.
    fn window(&mut self, query_set: u64) -> String {
        self.shown += 1;
        let turn = self.shown;
        let window = format!(
            r#"{{"cancelled":[],"ready":[{{"session":"session of the bench","turn":"turn {turn} of the bench"}}]}}"#
        );
        let update =
            format!(r#"{{"type":"QueryUpdated","queryId":0,"value":{window},"logLines":[],"journal":null}}"#);
        self.transition(query_set, &update)
    }

    fn transition(&mut self, query_set: u64, modifications: &str) -> String {
        let version = |query_set: u64, ts: u64| {
            format!(r#"{{"querySet":{query_set},"identity":0,"ts":"{}"}}"#, stamp(ts))
        };
        let (start, end) = (version(self.query_set, self.ts), version(query_set, self.ts + 1));
        self.ts += 1;
        self.query_set = query_set;
        format!(
            r#"{{"type":"Transition","startVersion":{start},"endVersion":{end},"modifications":[{modifications}]}}"#
        )
    }
}

async fn send(socket: &mut WebSocketStream<DuplexStream>, frames: Vec<String>) {
    for frame in frames {
        socket.feed(Message::text(frame)).await.expect("the other side reads");
    }
    socket.flush().await.expect("the other side reads");
}

fn stamp(ts: u64) -> String {
    STANDARD.encode(ts.to_le_bytes())
}

/// The number that follows `key` in a frame.
fn number(frame: &str, key: &str) -> Option<u64> {
    let (_, rest) = frame.split_once(key)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

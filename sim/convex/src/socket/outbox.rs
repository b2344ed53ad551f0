//! What waits to be sent to a client: messages in order, long Transitions in parts, and whether all has left.

use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
};

use convex::Value;
use convex_sync_types::ServerMessage;
use futures_util::{SinkExt, stream::SplitSink};
use serde_json::Value as Json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

/// Transitions above this size are sent in parts to the clients that can put them together.
const CHUNK_BYTES: usize = 5_000_000;
/// Messages that may wait for a client that does not read; beyond them nothing is read from it either.
const BOUND: usize = 1_000;

/// Messages that wait, and with each whether a Transition has left with it.
pub(super) struct Outbox {
    waiting: VecDeque<(Message, bool)>,
    unflushed: bool,
    /// Bytes of messages of the sync protocol until now.
    pub(super) bytes: u64,
    /// When the last message of the sync protocol was put in.
    pub(super) last: Instant,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), unflushed: false, bytes: 0, last: Instant::now() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= BOUND
    }

    /// Whether everything has left.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// The WebSocket itself has something to send, which leaves with the next flush.
    pub(super) fn flush(&mut self) {
        self.unflushed = true;
    }

    /// Puts in a frame that is no message of the sync protocol.
    pub(super) fn push(&mut self, frame: Message) {
        self.waiting.push_back((frame, false));
    }

    /// Puts in a message; a Transition is larger than it is by `padding` bytes, and comes in parts if it may.
    pub(super) fn send(&mut self, message: ServerMessage<Value>, padding: usize, takes_chunks: bool) {
        self.last = Instant::now();
        let is_transition = matches!(message, ServerMessage::Transition { .. });
        let mut text = serde_json::to_string(&Json::from(message)).expect("JSON prints");
        if is_transition {
            // JSON may end in white space.
            text.extend(std::iter::repeat_n(' ', padding));
        }
        let frames = if is_transition && takes_chunks { chunks(text) } else { vec![text] };
        let last = frames.len() - 1;
        for (at, frame) in frames.into_iter().enumerate() {
            self.bytes += frame.len() as u64;
            self.waiting.push_back((Message::text(frame), is_transition && at == last));
        }
    }

    /// Hands one message to the socket, or flushes it; says whether a Transition has left. Waits if there is nothing
    /// to do, and loses nothing when it is dropped while it waits.
    pub(super) async fn write<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
    ) -> Result<bool, tungstenite::Error> {
        if !self.waiting.is_empty() {
            poll_fn(|cx| sink.poll_ready_unpin(cx)).await?;
            let (message, is_transition) = self.waiting.pop_front().expect("it is not empty");
            sink.start_send_unpin(message)?;
            self.unflushed = true;
            return Ok(is_transition);
        }
        if self.unflushed {
            poll_fn(|cx| sink.poll_flush_unpin(cx)).await?;
            self.unflushed = false;
            return Ok(false);
        }
        pending().await
    }
}

/// Splits a long Transition.
fn chunks(text: String) -> Vec<String> {
    if text.len() <= CHUNK_BYTES {
        return vec![text];
    }
    let transition_id = text.len().to_string();
    let mut parts = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let cut = (0..=CHUNK_BYTES.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at));
        let (part, after) = rest.split_at(cut.expect("0 is a boundary"));
        parts.push(part.to_owned());
        rest = after;
    }
    let total_parts = parts.len() as u32;
    let chunk = |(part_number, chunk)| {
        let transition_id = transition_id.clone();
        Json::from(ServerMessage::<Value>::TransitionChunk { chunk, part_number, total_parts, transition_id })
            .to_string()
    };
    (0..).zip(parts).map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_transition_is_split_into_parts_that_join_to_it() {
        let text = "é".repeat(CHUNK_BYTES);
        let parts = chunks(text.clone());
        let joined: String = parts
            .iter()
            .map(|part| match ServerMessage::<Value>::try_from(serde_json::from_str::<Json>(part).unwrap()) {
                Ok(ServerMessage::TransitionChunk { chunk, total_parts: 2, transition_id, .. }) => {
                    assert_eq!(transition_id, text.len().to_string());
                    chunk
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((parts.len(), joined), (2, text));
        assert_eq!(chunks("short".into()), ["short"]);
    }
}

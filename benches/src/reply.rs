//! One reply as OpenCode sends it: the data of every event, in the order that was measured, and what the worker's turn
//! does with them.

use std::{hint::black_box, time::Duration};

use worker::{
    config::Settings,
    convex::api::Written,
    opencode::{SessionEvent, events},
    stream::{self, Chunk},
    turns::state::{Ending, Turn, TurnAction, TurnEvent},
};

/// The id that the prompt carries.
const PROMPT: &str = "msg_0000000000000000000000prompt";
const SESSION: &str = "ses_0000000000000000000000bench";
const ANSWER: &str = "msg_0000000000000000000001answer";
const PART: &str = "prt_0000000000000000000000000part";
/// Between two deltas.
const PACE: Duration = Duration::from_millis(50);

/// A reply in as many deltas as asked for.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The data of its events, in order.
    pub events: Vec<String>,
    /// Its pieces.
    pub deltas: Vec<String>,
    /// Its text.
    pub text: String,
}

impl Reply {
    /// A reply in `count` deltas of about 16 bytes.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let deltas: Vec<_> = (0..count).map(|n| format!("{n}: some words, ")).collect();
        let text = deltas.concat();
        let mut events = vec![status("busy"), message(""), part("", "")];
        events.extend(deltas.iter().map(|delta| self::delta(delta)));
        events.extend([
            part(&text, r#","end":2"#),
            message(r#","completed":3"#),
            status("idle"),
            event("session.idle", &format!(r#""sessionID":"{SESSION}""#)),
        ]);
        Self { events, deltas, text }
    }
}

fn event(kind: &str, properties: &str) -> String {
    format!(r#"{{"id":"evt_0000000000000000000000bench","type":"{kind}","properties":{{{properties}}}}}"#)
}

fn status(status: &str) -> String {
    event("session.status", &format!(r#""sessionID":"{SESSION}","status":{{"type":"{status}"}}"#))
}

fn message(completed: &str) -> String {
    let finish = if completed.is_empty() { "" } else { r#","finish":"stop""# };
    let info = format!(
        r#""id":"{ANSWER}","sessionID":"{SESSION}","role":"assistant","parentID":"{PROMPT}","time":{{"created":1{completed}}}{finish}"#
    );
    event("message.updated", &format!(r#""sessionID":"{SESSION}","info":{{{info}}}"#))
}

fn part(text: &str, end: &str) -> String {
    let part = format!(
        r#""id":"{PART}","sessionID":"{SESSION}","messageID":"{ANSWER}","type":"text","text":"{text}","time":{{"start":1{end}}}"#
    );
    event("message.part.updated", &format!(r#""sessionID":"{SESSION}","part":{{{part}}},"time":1"#))
}

fn delta(delta: &str) -> String {
    let properties = format!(
        r#""sessionID":"{SESSION}","messageID":"{ANSWER}","partID":"{PART}","field":"text","delta":"{delta}""#
    );
    event("message.part.delta", &properties)
}

/// A turn in the middle of its reply.
pub struct Listening(Turn, Duration);

impl Listening {
    /// A turn that has heard the beginning of `reply`, up to its first deltas.
    ///
    /// # Panics
    /// If the reply is no reply.
    #[must_use]
    pub fn to_a_reply(reply: &Reply) -> Self {
        let mut listening =
            Self(Turn::new(PROMPT.to_owned(), &Settings::default(), Duration::ZERO), Duration::ZERO);
        for data in reply.events.iter().take(6) {
            listening.hear(data);
        }
        listening
    }

    /// Parses an event and dispatches it to the turn. Returns how many actions follow.
    ///
    /// # Panics
    /// If it is no event.
    pub fn hear(&mut self, data: &str) -> usize {
        self.1 += PACE;
        let event = events::parse(data).expect("an event of OpenCode's");
        self.0.apply(TurnEvent::Opencode(SessionEvent::Event(event)), self.1).len()
    }
}

/// All deltas, 50 ms apart, each chunk stored at once. Returns how many chunks there were.
#[must_use]
pub fn coalesce(deltas: &[String]) -> usize {
    let (mut reply, mut chunks, mut now) =
        (stream::Reply::new(&Settings::default().turns), 0, Duration::ZERO);
    reply.begin("prt_1");
    for delta in deltas {
        reply.delta("prt_1", delta, now);
        if let Some(chunk) = reply.due(now) {
            black_box(chunk);
            reply.written();
            chunks += 1;
        }
        now += PACE;
    }
    chunks
}

/// Runs a turn through all events of its reply; every chunk is stored at once. Returns the chunks, the last included.
///
/// # Panics
/// If the turn does not complete with exactly the reply.
#[must_use]
pub fn reply_of_a_turn(reply: &Reply, settings: &Settings) -> Vec<Chunk> {
    let mut turn = Turn::new(PROMPT.to_owned(), settings, Duration::ZERO);
    let (mut chunks, mut now) = (Vec::new(), Duration::ZERO);
    let mut waiting = Vec::new();
    for data in &reply.events {
        now += PACE;
        let event = events::parse(data).expect("an event of OpenCode's");
        waiting.push(TurnEvent::Opencode(SessionEvent::Event(event)));
        while let Some(event) = waiting.pop() {
            for action in turn.apply(event, now) {
                match action {
                    TurnAction::Write(chunk) => {
                        chunks.push(chunk);
                        waiting.push(TurnEvent::Written(Written::Written));
                    }
                    TurnAction::End(ending) => {
                        assert_eq!(ending, Ending::Completed);
                        chunks.push(turn.reply.finish(now).0);
                        return chunks;
                    }
                    other => unreachable!("nothing in this reply asks for {other:?}"),
                }
            }
        }
    }
    unreachable!("a reply ends its turn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_exactly_its_reply() {
        let reply = Reply::new(200);
        let chunks = reply_of_a_turn(&reply, &Settings::default());
        let text: String = chunks.iter().map(|chunk| &*chunk.text).collect();
        assert_eq!(text, reply.text);
        // 200 deltas, 50 ms apart, collected for 250 ms each.
        assert!((30..=45).contains(&chunks.len()), "{}", chunks.len());
    }
}

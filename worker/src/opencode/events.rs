//! One event of OpenCode's stream: text in, [`Event`] out. Pure.
//!
//! The envelope and the hot event (a delta) are parsed without copying; everything that the worker does not act on is
//! skipped unread. A part's text, which may be megabytes, is made in the room that the event had.

use std::borrow::Cow;

use serde::{Deserialize, de::Error};
use serde_json::value::RawValue;

use super::{
    id::OpencodeSessionId,
    json_text,
    types::{MessageInfo, Part, PermissionAsked, RawPart, RemoteError, Session, SessionStatus},
};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The session that it concerns, if it concerns one.
    pub session: Option<OpencodeSessionId>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
///
/// Orders to expect (measured on 1.18.33): a reply is complete with a [`Message`](Self::Message) that is `completed`,
/// once per step; the turn is over at [`Idle`](Self::Idle). After an abort or a model's error, `Error` and `Idle` come
/// *before* the last part and the completed message, and `Idle` comes twice. An unknown model gives `Error` and `Idle`
/// without any message. `Idle` may also come right after a prompt, before `Busy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The stream is open: nothing that happens from now on is missed.
    Connected,
    /// Nothing happened for 10 s.
    Heartbeat,
    /// A message was made or changed.
    Message(MessageInfo),
    /// A part was made or has ended, with its whole text.
    Part(Part),
    /// Text to append to a part.
    Delta(Delta),
    /// A session began or ended work.
    Status(SessionStatus),
    /// A session has nothing left to do.
    Idle,
    /// A session's prompt failed.
    Error(RemoteError),
    /// A session was made.
    SessionCreated(Session),
    /// A session's title, model or time changed.
    SessionUpdated(Session),
    /// A session was deleted; this is how it was.
    SessionDeleted(Session),
    /// A tool wants to be allowed something; the turn waits for the answer.
    PermissionAsked(PermissionAsked),
    /// A permission question was answered, by us or by somebody else.
    PermissionReplied {
        /// Names the question (`per…`).
        id: String,
    },
    /// The model asks a person something; the turn waits for the answer.
    QuestionAsked {
        /// Names the question (`que…`).
        id: String,
    },
    /// Anything that the worker does not act on.
    Other,
}

/// Text to append to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The message that the part belongs to.
    pub message: String,
    /// The part. Whether it is text or reasoning was said when it was made.
    pub part: String,
    /// The field that grows: `text`.
    pub field: String,
    /// What to append.
    pub delta: String,
}

/// Why an event could not be read. It is counted and skipped: one strange event must not end a stream.
#[derive(Debug, thiserror::Error)]
#[error("cannot read an event of type `{kind}`: {source}")]
pub struct EventError {
    /// The event's type, or `?` if not even that was readable.
    pub kind: String,
    /// What is wrong with it.
    source: serde_json::Error,
}

const PART_UPDATED: &str = "message.part.updated";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OfSession<T> {
    #[serde(default, rename = "sessionID")]
    session: Option<OpencodeSessionId>,
    #[serde(flatten)]
    rest: T,
}

#[derive(Deserialize)]
struct Info<T> {
    info: T,
}

#[derive(Deserialize)]
struct PartOf<'a> {
    #[serde(borrow)]
    part: RawPart<'a>,
}

#[derive(Deserialize)]
struct StatusOf {
    #[serde(rename = "sessionID")]
    session: OpencodeSessionId,
    status: SessionStatus,
}

#[derive(Deserialize)]
struct ErrorOf {
    #[serde(default, rename = "sessionID")]
    session: Option<OpencodeSessionId>,
    error: Option<RemoteError>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct RequestId {
    #[serde(rename = "requestID")]
    id: String,
}

#[derive(Deserialize)]
struct RawDelta<'a> {
    #[serde(rename = "sessionID")]
    session: OpencodeSessionId,
    #[serde(borrow, rename = "messageID")]
    message: Cow<'a, str>,
    #[serde(borrow, rename = "partID")]
    part: Cow<'a, str>,
    #[serde(borrow)]
    field: Cow<'a, str>,
    #[serde(borrow)]
    delta: Cow<'a, str>,
}

/// Reads the data of one server-sent event.
pub fn parse(data: impl Into<String>) -> Result<Event, EventError> {
    let data: String = data.into();
    let envelope: Envelope<'_> =
        serde_json::from_str(&data).map_err(|source| EventError { kind: "?".into(), source })?;
    let properties = envelope.properties.map_or("{}", RawValue::get);
    let kind = || envelope.kind.chars().take(40).collect();
    if envelope.kind != PART_UPDATED {
        return parse_properties(&envelope.kind, properties)
            .map_err(|source| EventError { kind: kind(), source });
    }
    let PartOf { part: raw } =
        serde_json::from_str(properties).map_err(|source| EventError { kind: kind(), source })?;
    let place = raw.text.map(|text| json_text::place_of(text.get(), &data));
    let mut part = raw.without_text();
    if let (Some(text), Some(place)) = (part.text_mut(), place) {
        *text = json_text::take(data, place).map_err(|error| EventError {
            kind: PART_UPDATED.into(),
            source: serde_json::Error::custom(error),
        })?;
    }
    Ok(Event { session: Some(part.session.clone()), kind: EventKind::Part(part) })
}

fn parse_properties(kind: &str, text: &str) -> Result<Event, serde_json::Error> {
    let event = |session: Option<OpencodeSessionId>, kind| Ok(Event { session, kind });
    match kind {
        "message.part.delta" => delta(text),
        "message.updated" => {
            let info = serde_json::from_str::<Info<MessageInfo>>(text)?.info;
            event(Some(info.session.clone()), EventKind::Message(info))
        }
        "session.status" => {
            let StatusOf { session, status } = serde_json::from_str(text)?;
            event(Some(session), EventKind::Status(status))
        }
        "session.error" => {
            let ErrorOf { session, error } = serde_json::from_str(text)?;
            let unnamed = || RemoteError::unnamed("OpenCode reported an error without a description");
            event(session, EventKind::Error(error.unwrap_or_else(unnamed)))
        }
        "session.created" => session(text, EventKind::SessionCreated),
        "session.updated" => session(text, EventKind::SessionUpdated),
        "session.deleted" => session(text, EventKind::SessionDeleted),
        "session.idle" => of_session(text, |_: Nothing| EventKind::Idle),
        "permission.asked" => {
            let OfSession { session, rest } = serde_json::from_str::<OfSession<PermissionAsked>>(text)?;
            let asked = PermissionAsked { session: session.clone(), ..rest };
            event(session, EventKind::PermissionAsked(asked))
        }
        "permission.replied" => of_session(text, |RequestId { id }| EventKind::PermissionReplied { id }),
        "question.asked" => of_session(text, |Id { id }| EventKind::QuestionAsked { id }),
        "server.connected" => event(None, EventKind::Connected),
        "server.heartbeat" => event(None, EventKind::Heartbeat),
        _ => event(None, EventKind::Other),
    }
}

#[derive(Deserialize)]
struct Nothing {}

fn delta(text: &str) -> Result<Event, serde_json::Error> {
    let raw: RawDelta<'_> = serde_json::from_str(text)?;
    let delta = Delta {
        message: raw.message.into_owned(),
        part: raw.part.into_owned(),
        field: raw.field.into_owned(),
        delta: raw.delta.into_owned(),
    };
    Ok(Event { session: Some(raw.session), kind: EventKind::Delta(delta) })
}

fn session(text: &str, kind: impl FnOnce(Session) -> EventKind) -> Result<Event, serde_json::Error> {
    let info = serde_json::from_str::<Info<Session>>(text)?.info;
    Ok(Event { session: Some(info.id.clone()), kind: kind(info) })
}

fn of_session<T>(text: &str, kind: impl FnOnce(T) -> EventKind) -> Result<Event, serde_json::Error>
where
    T: for<'de> Deserialize<'de>,
{
    let OfSession { session, rest } = serde_json::from_str::<OfSession<T>>(text)?;
    Ok(Event { session, kind: kind(rest) })
}

#[cfg(test)]
mod tests;

//! Request bodies, checked in the words of the real server.

use serde_json::Value;

use super::answer::Problem;
use crate::{
    run::Ask,
    sessions::{NewSession, Place},
    wire::Model,
};

/// The body of `POST /session`; every field is optional, unknown ones are ignored (measured).
pub(super) fn new_session(body: &Value) -> Result<NewSession, Problem> {
    if !body.is_object() {
        return Err(Problem::BadRequest);
    }
    let model = match &body["model"] {
        Value::Null => None,
        model => Some(serde_json::from_value(model.clone()).map_err(|_| Problem::BadRequest)?),
    };
    Ok(NewSession {
        place: Place::Here,
        title: optional(body, "title")?,
        parent_id: optional(body, "parentID")?,
        agent: optional(body, "agent")?,
        model,
    })
}

/// A string, or nothing; anything else is a bad request.
pub(super) fn optional(body: &Value, key: &str) -> Result<Option<String>, Problem> {
    match &body[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(Problem::BadRequest),
    }
}

/// The body of a prompt.
pub(super) fn ask(body: &Value) -> Result<Ask, Problem> {
    if !body["format"].is_null() {
        return Err(Problem::NotModelled("structured output"));
    }
    let message_id = text_at(body, "messageID")?;
    if let Some(id) = message_id.as_deref().filter(|id| !id.starts_with("msg")) {
        return Err(payload(format!(
            "Expected a string starting with \"msg\", got \"{id}\"\n  at [\"messageID\"]"
        )));
    }
    let parts = body["parts"].as_array().ok_or_else(|| missing("[\"parts\"]"))?;
    let texts = parts.iter().enumerate().map(|(index, part)| text_part(index, part));
    Ok(Ask {
        texts: texts.collect::<Result<_, _>>()?,
        model: model(&body["model"])?,
        agent: text_at(body, "agent")?,
        message_id,
        no_reply: body["noReply"].as_bool().unwrap_or(false),
    })
}

fn text_part(index: usize, part: &Value) -> Result<String, Problem> {
    match part["type"].as_str() {
        Some("text") => {}
        Some("file" | "agent" | "subtask") => {
            return Err(Problem::NotModelled("a prompt part other than text"));
        }
        _ => return Err(missing(&format!("[\"parts\"][{index}][\"type\"]"))),
    }
    let text = part["text"].as_str().map(str::to_owned);
    text.ok_or_else(|| missing(&format!("[\"parts\"][{index}][\"text\"]")))
}

fn model(value: &Value) -> Result<Option<Model>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    let field = |key: &str| {
        let text = value[key].as_str().map(str::to_owned);
        text.ok_or_else(|| missing(&format!("[\"model\"][\"{key}\"]")))
    };
    Ok(Some(Model { provider_id: field("providerID")?, model_id: field("modelID")? }))
}

fn text_at(body: &Value, key: &str) -> Result<Option<String>, Problem> {
    match &body[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(payload(format!("Expected string, got {other}\n  at [\"{key}\"]"))),
    }
}

fn missing(path: &str) -> Problem {
    payload(format!("Missing key\n  at {path}"))
}

fn payload(message: String) -> Problem {
    Problem::Invalid { message, kind: "Payload" }
}

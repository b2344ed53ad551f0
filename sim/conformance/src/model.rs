//! A model behind the OpenAI chat completions API, on loopback. Its answers follow the directives in the prompt, which
//! are those of the fake OpenCode (`fake_opencode::by_directives`), so that the fake and the real server can be asked
//! the same. One more: `sleep=SECONDS` is how long the tool's command takes.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
};

use bytes::Bytes;
use fake_opencode::{Compaction, Model as ModelName, Outcome, Prompt, Reply, by_directives};
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, spawn_local},
    time::sleep,
};

/// What titles are made of.
const TITLE: &str = "A title by the model";

/// The model server. It ends when it is dropped.
#[derive(Debug)]
pub struct ModelServer {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Rc<RefCell<Vec<Asked>>>,
    task: AbortHandle,
}

/// One request that the model got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The last text of a person.
    pub text: String,
    /// How many tools have answered since.
    pub tools_done: usize,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    /// Listens on any port of loopback. Call it inside a `LocalSet`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let asked = Rc::<RefCell<Vec<Asked>>>::default();
        let task = spawn_local(serve(listener, asked.clone())).abort_handle();
        Ok(Self { address, asked, task })
    }

    /// What OpenCode is given as the provider's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All that it was asked for replies; titles are left out.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// How often it was asked to begin a reply to this text.
    #[must_use]
    pub fn times(&self, text: &str) -> usize {
        self.asked.borrow().iter().filter(|asked| asked.text == text && asked.tools_done == 0).count()
    }
}

/// The reply to a prompt, in full.
#[must_use]
pub fn reply_text(prompt: &str) -> String {
    let (content, tag) = (plan(prompt).content, tag(prompt));
    (0..content.deltas()).map(|index| content.delta(&tag, index)).collect()
}

async fn serve(listener: TcpListener, asked: Rc<RefCell<Vec<Asked>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let asked = asked.clone();
        spawn_local(async move {
            let service = service_fn(|request| answer(&asked, request));
            // A client that goes away in the middle is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(asked: &RefCell<Vec<Asked>>, request: Request<Incoming>) -> hyper::Result<Answer> {
    let body = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if body["tools"].as_array().is_none_or(Vec::is_empty) {
        return Ok(events(title()));
    }
    let question = read(&body["messages"]);
    let reply = plan(&question.text);
    let before = asked.borrow().iter().filter(|asked| **asked == question).count();
    asked.borrow_mut().push(question.clone());
    if reply.compaction == Some(Compaction::Refused) && before == 0 {
        return Ok(refuse(
            400,
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens.",
        ));
    }
    if before < reply.put_off.times as usize {
        let mut refusal = refuse(429, "scripted", "scripted overload");
        if let Some(after) = reply.put_off.after {
            refusal.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
        }
        return Ok(refusal);
    }
    if question.tools_done < reply.tools.len() {
        return Ok(events(call_tool(&question)));
    }
    Ok(match reply.outcome {
        Outcome::ModelError(status) => refuse(status, "scripted", &format!("scripted error {status}")),
        Outcome::Completes | Outcome::Hangs => events(speak(&question.text, &reply)),
    })
}

/// Finds the last text of a person, and counts what tools said after it.
fn read(messages: &Value) -> Asked {
    let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
    let last = messages.iter().rposition(|message| message["role"] == "user").unwrap_or_default();
    let tools = messages.iter().skip(last).filter(|message| message["role"] == "tool").count();
    Asked { text: text_of(&messages[last]["content"]), tools_done: tools }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// What the directives in a prompt's text ask for.
pub(crate) fn plan(text: &str) -> Reply {
    let model = ModelName { provider_id: "fake".into(), model_id: "m1".into() };
    by_directives(&Prompt { session: "", message: "", text, model: &model })
}

/// Names a reply by its prompt: eight letters, as the fake's names are.
fn tag(prompt: &str) -> String {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let sum = prompt.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    (0..8)
        .map(|at| char::from(b'a' + u8::try_from((sum >> (8 * at)) % 26).expect("it is below 26")))
        .collect()
}

/// The events of one answer: each after its pause, in milliseconds.
type Script = Vec<(u64, Option<Value>)>;

fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m1",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
    })
}

/// The end of an answer: why, and what it cost.
fn end(reason: &str, output: u32) -> [(u64, Option<Value>); 2] {
    let mut usage = chunk(json!({}), None);
    usage["choices"] = json!([]);
    usage["usage"] = json!({ "prompt_tokens": 11, "completion_tokens": output, "total_tokens": 11 + output });
    [(0, Some(chunk(json!({}), Some(reason)))), (0, Some(usage))]
}

fn title() -> Script {
    let mut script = vec![(0, Some(chunk(json!({ "role": "assistant", "content": TITLE }), None)))];
    script.extend(end("stop", 1));
    script
}

fn speak(prompt: &str, reply: &Reply) -> Script {
    let (tag, millis) =
        (tag(prompt), |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(0));
    let mut script =
        vec![(millis(reply.first_token_after), Some(chunk(json!({ "role": "assistant" }), None)))];
    script.extend((0..reply.reasoning_deltas).map(|index| {
        let thought = reply.content.delta(&tag, index);
        (millis(reply.pace), Some(chunk(json!({ "reasoning_content": thought }), None)))
    }));
    let deltas = (0..reply.content.deltas()).map(|index| {
        let said = chunk(json!({ "content": reply.content.delta(&tag, index) }), None);
        (if index == 0 { 0 } else { millis(reply.pace) }, Some(said))
    });
    script.extend(deltas);
    match reply.outcome {
        Outcome::Hangs => script.push((0, None)),
        _ => script.extend(end("stop", reply.content.deltas())),
    }
    script
}

fn call_tool(question: &Asked) -> Script {
    let seconds = question.text.split_whitespace().find_map(|word| word.strip_prefix("sleep="));
    let seconds = seconds.map(|text| text.trim_end_matches(']'));
    let command = match seconds.and_then(|text| text.parse::<u32>().ok()) {
        Some(seconds) => format!("sleep {seconds}"),
        None => format!("echo {}", tag(&question.text)),
    };
    let arguments = json!({ "command": command, "description": "say it" }).to_string();
    let call = json!({ "role": "assistant", "tool_calls": [{
        "index": 0, "id": format!("call_{}", question.tools_done + 1), "type": "function",
        "function": { "name": "bash", "arguments": arguments },
    }] });
    // No word of what it cost, as in the recordings of the fake OpenCode.
    vec![(0, Some(chunk(call, None))), (0, Some(chunk(json!({}), Some("tool_calls"))))]
}

fn events(script: Script) -> Answer {
    let said = stream::iter(script).then(|(pause, event)| async move {
        sleep(std::time::Duration::from_millis(pause)).await;
        match event {
            Some(event) => format!("data: {event}\n\n"),
            None => std::future::pending().await,
        }
    });
    let said = said.chain(stream::once(async { "data: [DONE]\n\n".to_owned() }));
    let body = StreamBody::new(said.map(|text| Ok(Frame::data(Bytes::from(text)))));
    respond(StatusCode::OK, "text/event-stream", BodyExt::boxed(body))
}

fn refuse(status: u16, code: &str, message: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let error = json!({ "error": { "message": message, "type": "scripted", "code": code } });
    respond(status, "application/json", BodyExt::boxed(http_body_util::Full::from(error.to_string())))
}

fn respond(status: StatusCode, kind: &str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    let response = response.header(header::SERVER, "scripted");
    response.body(body).expect("the status and the header are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_the_last_text_of_a_person_and_what_tools_said_since() {
        let messages = json!([
            { "role": "user", "content": "one" },
            { "role": "tool", "content": "x" },
            { "role": "user", "content": [{ "type": "text", "text": "two" }] },
            { "role": "assistant" },
            { "role": "tool", "content": "y" },
        ]);
        assert_eq!(read(&messages), Asked { text: "two".into(), tools_done: 1 });
    }

    #[test]
    fn replies_differ_and_each_begins_with_its_name() {
        let (one, two) = (reply_text("one [[deltas=2]]"), reply_text("two [[deltas=2]]"));
        assert_ne!(one, two);
        assert!(one.starts_with(&format!("<{}> ", tag("one [[deltas=2]]"))), "{one}");
    }
}

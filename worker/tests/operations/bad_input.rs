//! What comes from outside and makes no sense, and what cannot be written: neither may end in a panic.

use std::{
    fs::{File, OpenOptions},
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::{free_port, get, printed, start, token, worker};

type Socket = WebSocketStream<TcpStream>;

/// The next connection of a worker, and why its `Connect` says that the last one ended.
async fn next_connection(listener: &TcpListener) -> (Socket, String) {
    let accepted = timeout(Duration::from_secs(60), listener.accept()).await.expect("the worker comes again");
    let mut socket = accept_async(accepted.unwrap().0).await.unwrap();
    let connect = next_message(&mut socket).await;
    assert_eq!(connect["type"], "Connect");
    let reason = connect["lastCloseReason"].as_str().unwrap().to_owned();
    (socket, reason)
}

async fn next_message(socket: &mut Socket) -> Value {
    let frame = socket.next().await.unwrap().unwrap();
    serde_json::from_str(frame.to_text().unwrap()).unwrap()
}

/// A WebSocket frame with this first byte that says it is `length` bytes long.
fn frame(first: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    [&[first, 127], &length.to_be_bytes()[..], payload].concat()
}

fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.len() as u64, text.as_bytes())
}

#[tokio::test]
async fn frames_that_are_oversized_or_malformed_end_the_connection_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = start(listener.local_addr().unwrap().port(), &[]);
    let (mut socket, reason) = next_connection(&listener).await;
    assert_eq!(reason, "InitialConnect");
    let cases = [
        (frame(0x81, 1 << 40, b"{"), "WebsocketProtocolError: Space limit exceeded"),
        (text_frame(&"[".repeat(100_000)), "MalformedFrame: recursion limit"),
        (text_frame(r#"{"type":"Transition","modifications":7}"#), "MalformedFrame"),
        (frame(0x81, 2, &[0xc3, 0x28]), "WebsocketProtocolError: UTF-8"),
        (frame(0x82, 1, b"x"), "UnexpectedBinaryFrame"),
        // The server found a message of the worker's too large: the connection is lost, and the worker is not.
        ([&[0x88, 9], &1009_u16.to_be_bytes()[..], b"too big"].concat(), "closed with code 1009: too big"),
    ];
    for (bytes, expected) in cases {
        socket.get_mut().write_all(&bytes).await.unwrap();
        let reason;
        (socket, reason) = next_connection(&listener).await;
        assert!(reason.starts_with(expected), "{reason:?} is not {expected:?}");
    }
    let output = running.terminate();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(!printed(&output).contains("panicked"), "{}", printed(&output));
}

#[tokio::test]
async fn an_answer_of_the_wrong_shape_is_a_failed_call_that_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = start(listener.local_addr().unwrap().port(), &[]);
    let (mut socket, _) = next_connection(&listener).await;
    let register = loop {
        let message = next_message(&mut socket).await;
        if message["type"] == "Mutation" {
            break message;
        }
    };
    let version = json!({ "querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA=" });
    let answers = [
        json!({ "type": "MutationResponse", "requestId": register["requestId"], "success": true,
            "result": { "epoch": "one", "approval": [] }, "ts": "AAAAAAAAAAA=", "logLines": [] }),
        json!({ "type": "Transition", "startVersion": version, "endVersion": version, "modifications": [] }),
    ];
    for answer in answers {
        socket.send(Message::text(answer.to_string())).await.unwrap();
    }
    // It pauses and registers anew.
    while next_message(&mut socket).await["type"] != "Mutation" {}
    let output = running.terminate();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let expected = "workers:register returned an unexpected value";
    assert!(printed(&output).contains(expected), "{}", printed(&output));
}

fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_worker_whose_logs_find_the_disk_full_goes_on() {
    let admin = free_port();
    let url = format!("http://127.0.0.1:{}", free_port());
    let address = format!("127.0.0.1:{admin}");
    let mut command = worker(&["run", "--convex-url", &url, "--admin", &address]);
    command.env("WORKER_TOKEN", token()).env("RUST_LOG", "trace").stdout(full_disk()).stderr(full_disk());
    let mut child = command.spawn().unwrap();
    let health = get(admin, "/healthz");
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let status = child.wait().unwrap();
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert_eq!(status.code(), Some(0));
}

/// Runs `worker check --print` with this standard output, and with standard error on the full disk too.
fn check_printing(stdout: impl Into<Stdio>, url: &str, code: i32) {
    let mut command = worker(&["check", "--print", "--convex-url", url]);
    command.env("WORKER_TOKEN", token()).stdout(stdout).stderr(full_disk());
    assert_eq!(command.status().unwrap().code(), Some(code));
}

#[test]
fn an_exit_code_tells_what_cannot_be_printed() {
    check_printing(full_disk(), "https://a.b", 74);
    check_printing(full_disk(), "no url", 78);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    check_printing(writer, "https://a.b", 0);
}

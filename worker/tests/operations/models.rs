//! `worker models`, with an OpenCode that this test plays.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
};

use super::{printed, token, worker};

/// An executable that says what OpenCode says when it is ready, and a server that answers in its place.
fn play_opencode(dir: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ready = format!("opencode server listening on http://{}", listener.local_addr().unwrap());
    let binary = dir.join("opencode");
    fs::write(&binary, format!("#!/bin/sh\necho '{ready}'\nexec sleep 60\n")).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    thread::spawn(move || {
        listener.incoming().map_while(Result::ok).for_each(|s| drop(thread::spawn(|| answer(s))))
    });
    binary.to_str().unwrap().to_owned()
}

/// Answers one request and closes the connection; an event stream stays open.
fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path {
        "/global/health" => ("application/json", r#"{"healthy":true,"version":"1.18.33"}"#),
        "/config/providers" => {
            ("application/json", r#"{"providers":[{"id":"p","models":{"two":{},"one":{}}}],"default":{}}"#)
        }
        "/event" => ("text/event-stream", "data: {\"type\":\"server.connected\",\"properties\":{}}\n\n"),
        _ => ("text/html", "<!doctype html>"),
    };
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{body}");
    if path == "/event" {
        lines.for_each(drop);
    }
}

#[test]
fn the_models_of_each_worker_of_a_file_stand_below_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let opencode = play_opencode(dir.path());
    let file = dir.path().join("workers.toml");
    let entry = |name: &str, directory: &str| {
        let token = token().replace("w1", name);
        format!("[[workers]]\nname = '{name}'\ndirectory = '{directory}'\ntoken = '{token}'\n")
    };
    let head = "convex_url = 'https://a.b'\n";
    let arguments = ["models", "--workers", file.to_str().unwrap(), "--opencode", &opencode];

    fs::write(&file, format!("{head}{}{}", entry("a", "."), entry("b", "."))).unwrap();
    let output = worker(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "# worker a\np/one\np/two\n# worker b\np/one\np/two\n"
    );

    fs::write(&file, format!("{head}{}{}", entry("a", "/nowhere"), entry("b", "."))).unwrap();
    let output = worker(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", printed(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "# worker b\np/one\np/two\n");
    assert!(printed(&output).contains("worker `a`: "), "{}", printed(&output));
}

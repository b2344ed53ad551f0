//! `worker models`, `doctor` and `opencode`, with an OpenCode that this test plays.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
};

use super::{printed, token, worker, write_secret};

const PROVIDER: &str = r#"{"providers":[{"id":"p","models":{"two":{},"one":{}}}],"default":{}}"#;

/// An executable that says what OpenCode says when it is ready, and a server that answers in its place, with these
/// providers. With other arguments than `serve` it says what they are, where it is and where its data are.
pub(super) fn play_opencode(dir: &Path, providers: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ready = format!("opencode server listening on http://{}", listener.local_addr().unwrap());
    let binary = dir.join("opencode");
    let other = "echo \"$*; $PWD; $XDG_DATA_HOME; $WORKER_TOKEN\"; exit 3";
    let script = format!("#!/bin/sh\n[ $1 = serve ] || {{ {other}; }}\necho '{ready}'\nexec sleep 60\n");
    fs::write(&binary, script).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    thread::spawn(move || {
        listener
            .incoming()
            .map_while(Result::ok)
            .for_each(|s| drop(thread::spawn(move || answer(s, providers))))
    });
    binary.to_str().unwrap().to_owned()
}

/// Answers one request and closes the connection; an event stream stays open.
fn answer(mut stream: TcpStream, providers: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path {
        "/global/health" => ("application/json", r#"{"healthy":true,"version":"1.18.33"}"#),
        "/config/providers" => ("application/json", providers),
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
    let opencode = play_opencode(dir.path(), PROVIDER);
    let file = dir.path().join("workers.toml");
    let entry = |name: &str, directory: &str| {
        let token = token().replace("w1", name);
        format!("[[workers]]\nname = '{name}'\ndirectory = '{directory}'\ntoken = '{token}'\n")
    };
    let head = "convex_url = 'https://a.b'\n";
    let arguments = ["models", "--workers", file.to_str().unwrap(), "--opencode", &opencode];

    write_secret(&file, format!("{head}{}{}", entry("a", "."), entry("b", ".")));
    let output = worker(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "# worker a\np/one\np/two\n# worker b\np/one\np/two\n"
    );

    write_secret(&file, format!("{head}{}{}", entry("a", "/nowhere"), entry("b", ".")));
    let output = worker(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", printed(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "# worker b\np/one\np/two\n");
    assert!(printed(&output).contains("worker `a`: "), "{}", printed(&output));
}

#[test]
fn doctor_fails_where_no_provider_is_logged_in() {
    const FREE: &str = r#"{"providers":[{"id":"opencode","options":{"apiKey":"public"},"models":{"m":{}}}]}"#;
    for (providers, expected) in [(PROVIDER, "ok    login"), (FREE, "FAIL  login")] {
        let dir = tempfile::tempdir().unwrap();
        let opencode = play_opencode(dir.path(), providers);
        let mut doctor = worker(&["doctor", "--convex-url", "http://127.0.0.1:9", "--opencode", &opencode]);
        let output = doctor.env("WORKER_TOKEN", token()).output().unwrap();
        assert!(printed(&output).contains(expected), "{}", printed(&output));
    }
}

#[test]
fn opencode_s_own_commands_run_where_the_workers_of_an_owner_keep_their_logins() {
    let dir = tempfile::tempdir().unwrap();
    let opencode = play_opencode(dir.path(), PROVIDER);
    let file = dir.path().join("workers.toml");
    let entry = |name: &str, machine: &str| {
        let token = token().replace("w1", name).replace("machine_m1", machine);
        format!("[[workers]]\nname = '{name}'\ndirectory = '.'\ntoken = '{token}'\n")
    };
    let login = |more: &[&str]| {
        let first = ["opencode", "--workers", file.to_str().unwrap(), "--opencode", &opencode];
        let mut command = worker(&[&first[..], more, &["--", "auth", "login"]].concat());
        command.env("STATE_DIRECTORY", dir.path().join("state")).output().unwrap()
    };
    let here = dir.path().canonicalize().unwrap();
    let said = |data: &str| format!("auth login; {}; {data}; \n", here.display());

    write_secret(
        &file,
        format!("convex_url = 'https://a.b'\n{}{}", entry("a", "machine_1"), entry("b", "machine_1")),
    );
    let output = login(&[]);
    assert_eq!((output.status.code(), printed(&output)), (Some(3), said("")));

    write_secret(
        &file,
        format!("convex_url = 'https://a.b'\n{}{}", entry("a", "machine_1"), entry("b", "machine_2")),
    );
    let output = login(&["--worker", "b"]);
    let data = dir.path().join("state/opencode/machine_2");
    assert_eq!((output.status.code(), printed(&output)), (Some(3), said(&data.display().to_string())));
    assert_eq!(fs::metadata(data).unwrap().permissions().mode() & 0o777, 0o700);
    let output = login(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(printed(&output).contains("say which with `--worker`: `a`, `b`"), "{}", printed(&output));
    let output = login(&["--worker", "c"]);
    assert!(printed(&output).contains("no worker is called `c`; there are `a`, `b`"), "{}", printed(&output));
}

//! The binary as operators meet it: what it serves, what it tells systemd, how it ends, and that no secret gets out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

const SECRET: &str = "s3cr3t-that-nobody-may-ever-see-0123456789";

fn token() -> String {
    format!("machine_m1:worker_w1:{SECRET}")
}

/// The binary with nothing of this process's environment but `PATH`.
fn worker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// All that a run printed.
fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A worker whose backend is `port`, with its admin server on `admin`.
fn start(port: u16, extra: &[&str]) -> Running {
    let url = format!("http://127.0.0.1:{port}");
    let mut command = worker(&["run", "--convex-url", &url]);
    Running(command.args(extra).env("WORKER_TOKEN", token()).env("RUST_LOG", "trace").spawn().unwrap())
}

/// Killed if it is still there in the end.
struct Running(Child);

impl Running {
    fn terminate(self) -> Output {
        Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        self.wait()
    }

    fn wait(mut self) -> Output {
        let mut output = Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        self.0.stdout.take().unwrap().read_to_end(&mut output.stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until somebody answers.
#[expect(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
fn get(port: u16, path: &str) -> String {
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            return answer;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody listens on {port}");
}

#[test]
fn a_worker_without_its_backend_is_alive_but_not_ready() {
    let admin = free_port();
    let running = start(free_port(), &["--admin", &format!("127.0.0.1:{admin}")]);
    let health = get(admin, "/healthz");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let readiness = get(admin, "/readyz");
    assert!(readiness.starts_with("HTTP/1.1 503") && readiness.contains("registering"), "{readiness}");
    let metrics = get(admin, "/metrics");
    assert!(metrics.contains("worker_phase{phase=\"registering\"} 1"), "{metrics}");
    let output = running.terminate();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(!printed(&output).contains(SECRET) && !metrics.contains(SECRET));
}

#[test]
fn a_port_that_is_taken_ends_the_worker_before_it_begins() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = format!("http://127.0.0.1:{}", free_port());
    let output =
        worker(&["run", "--convex-url", &url, "--admin", &address]).env("WORKER_TOKEN", token()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(69));
    let text = printed(&output);
    assert!(text.contains(&format!("cannot listen on {address}")) && !text.contains("phase"), "{text}");
}

#[test]
fn systemd_is_told_the_phase_and_given_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut command = worker(&["run", "--convex-url", &url]);
    command.env("WORKER_TOKEN", token()).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "12000000");
    let running = Running(command.spawn().unwrap());
    let next = || {
        let mut buffer = [0; 1024];
        let length = loop {
            match socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(next(), "STATUS=registering\nWATCHDOG=1\n");
    assert_eq!(next(), "WATCHDOG=1\n", "the loop comes round although nothing happens");
    let output = running.terminate();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(next().starts_with("STOPPING=1\n"));
}

#[test]
fn the_units_directives_are_known_to_systemd() {
    let unit = include_str!("../deploy/worker.service");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.service");
    fs::write(&path, unit.replace("/usr/local/bin/worker", env!("CARGO_BIN_EXE_worker"))).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => {
            assert!(output.status.success() && printed(&output).is_empty(), "{}", printed(&output));
        }
        Err(error) => println!("skipped: systemd-analyze is not here: {error}"),
    }
}

#[test]
fn what_init_writes_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("worker.toml");
    let file = file.to_str().unwrap();
    let init = ["init", "--config", file, "--convex-url", "https://a.b", "--machine", "machine_m1"];
    let output = worker(&init).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let token = fs::read_to_string(dir.path().join("worker.token")).unwrap();
    let secret = token.trim().rsplit(':').next().unwrap();
    assert!(!printed(&output).contains(secret));

    let output = worker(&["check", "--config", file, "--print", "--directory", "/"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let text = printed(&output);
    let origin =
        |key: &str| text.lines().find(|line| line.starts_with(key)).map(|l| l.split_once("# ").unwrap().1);
    assert_eq!(
        (origin("convex_url"), origin("directory"), origin("turns.window")),
        (Some("file"), Some("--directory"), Some("default"))
    );
    assert!(!text.contains(secret), "{text}");

    let again = worker(&init).output().unwrap();
    assert_eq!(again.status.code(), Some(73));
}

/// Runs it to its end; its code must be `code`, and the secret nowhere in what it prints.
fn check(arguments: &[&str], environment: &[(&str, &str)], code: i32) {
    let mut command = worker(arguments);
    let output = command.env("RUST_LOG", "trace").envs(environment.iter().copied()).output().unwrap();
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(!text.is_empty() && !text.contains(SECRET), "{arguments:?}: {text}");
}

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn no_error_shows_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (token, url) = (token(), ("CONVEX_URL", "https://a.b"));
    let given = ("WORKER_TOKEN", token.as_str());
    check(&["check", "--print"], &[url, given], 0);
    check(&["check"], &[given], 78);
    check(&["check"], &[("CONVEX_URL", &token), given], 78);
    let with_secret = format!("https://user:{SECRET}@a.b");
    check(&["check", "--print"], &[("CONVEX_URL", &with_secret), given], 78);
    check(&["doctor", "--opencode", "/nowhere"], &[("CONVEX_URL", &with_secret), given], 78);
    check(&["init"], &[("CONVEX_URL", &with_secret)], 78);
    check(&["check"], &[url, ("WORKER_TOKEN", &token[1..])], 78);
    check(&["check"], &[url, ("WORKER_TOKEN", &format!("{token}:more"))], 78);
    check(&["check", "--directory", "/nowhere"], &[url, given], 78);
    check(&["run", "--admin", "0.0.0.0:1"], &[url, given], 78);
    check(&["run", "--admin", &token], &[url, given], 78);
    // A token where it does not belong is quoted by the parser, line and all.
    for text in [format!("token = '{token}'"), format!("token = {token}"), format!("convex_url = '{token}")] {
        check(&["run", "--config", &written(dir.path(), "worker.toml", &text)], &[], 78);
    }
    let file = written(dir.path(), "worker.token", &format!("{token} and more"));
    check(&["check", "--token-file", &file], &[url], 78);
    check(&["init", "--machine", &token], &[url], 78);
}

#[test]
fn neither_refused_connections_nor_doctors_findings_show_the_secret() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let environment =
        [("CONVEX_URL", url.as_str()), ("WORKER_TOKEN", &token()), ("WORKER_OPENCODE", "/nowhere")];
    check(&["doctor"], &environment, 69);
    check(&["models"], &environment, 69);
}

#[tokio::test]
async fn doctor_shakes_hands_with_the_backend() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut command = worker(&["doctor", "--convex-url", &url, "--opencode", "/nowhere"]);
    let doctor = Running(command.env("WORKER_TOKEN", token()).spawn().unwrap());
    let (stream, _) = listener.accept().await.unwrap();
    tokio_tungstenite::accept_async(stream).await.unwrap();
    let output = doctor.wait();
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("ok    token      machine_m1:worker_w1:[redacted]\n"), "{text}");
    assert!(text.contains("FAIL  opencode   the OpenCode server did not start"), "{text}");
    assert!(text.contains(&format!("ok    convex     {}", listener.local_addr().unwrap())), "{text}");
}

/// Even the most talkative log must not show what goes over the wire.
#[tokio::test]
async fn a_worker_that_registers_does_not_log_its_secret() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = start(listener.local_addr().unwrap().port(), &[]);
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let mut sent = String::new();
    while !sent.contains(SECRET) {
        let frame = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
        sent = frame.into_text().unwrap().to_string();
    }
    drop(socket);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let text = printed(&running.terminate());
    assert!(text.contains("Convex connection lost"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

//! The binary as operators meet it: what it serves, what it tells systemd, how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod guide;
mod models;
mod precedence;
mod probes;
mod secrets;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
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

/// A file that nobody else can read.
fn write_secret(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
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

/// What systemd says of the unit, with this drop-in beside it; nothing where it is not installed.
fn verify_unit(drop_in: Option<&str>) -> std::io::Result<Output> {
    let installed = |text: &str| text.replace("/usr/local/bin/worker", env!("CARGO_BIN_EXE_worker"));
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("worker.service");
    fs::write(&path, installed(include_str!("../../deploy/worker.service")))?;
    if let Some(text) = drop_in {
        fs::create_dir(dir.path().join("worker.service.d"))?;
        fs::write(dir.path().join("worker.service.d/fleet.conf"), installed(text))?;
    }
    Command::new("systemd-analyze").arg("verify").arg(&path).output()
}

#[test]
fn the_units_directives_are_known_to_systemd() {
    for drop_in in [None, Some(include_str!("../../deploy/fleet.conf"))] {
        match verify_unit(drop_in) {
            Ok(output) => {
                assert!(output.status.success() && printed(&output).is_empty(), "{}", printed(&output));
            }
            Err(error) => println!("skipped: systemd-analyze is not here: {error}"),
        }
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

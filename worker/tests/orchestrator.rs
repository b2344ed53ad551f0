//! Many workers in one process, as operators meet them: one backend that answers nobody, real processes and signals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

const SECRET: &str = "s3cr3t-that-nobody-may-ever-see-0123456789";
const PATIENCE: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A workers file with these names, in a directory of its own.
fn write_file(path: &Path, admin: u16, names: &[&str]) {
    let mut text = format!("convex_url = 'http://127.0.0.1:{}'\nadmin = '127.0.0.1:{admin}'\n", free_port());
    for name in names {
        text += &format!(
            "[[workers]]\nname = '{name}'\ndirectory = '.'\ntoken = 'machine_m:worker_{name}:{SECRET}'\n"
        );
    }
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

struct Process {
    child: Child,
    log: Receiver<String>,
}

impl Process {
    fn start(file: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command
            .args(["run", "--workers"])
            .arg(file)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (line, log) = sync_channel(10_000);
        let stderr = child.stderr.take().unwrap();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|text| line.send(text))
        });
        Self { child, log }
    }

    fn signal(&self, signal: &str) {
        Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for a line with `expected`; returns it and those before.
    #[track_caller]
    fn wait_for(&self, expected: &str) -> String {
        let mut passed = String::new();
        loop {
            let line =
                self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no `{expected}` after {passed}"));
            assert!(!line.contains(SECRET), "{line}");
            passed += &format!("{line}\n");
            if line.contains(expected) {
                return passed;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Asks until the answer is as expected.
#[expect(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
#[track_caller]
fn wait_until(port: u16, path: &str, expected: impl Fn(&str) -> bool) {
    let mut answer = String::new();
    for _ in 0..200 {
        answer = get(port, path);
        if expected(&answer) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{path} answers {answer}");
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("workers.toml")
}

#[test]
fn sighup_adds_and_removes_workers_and_a_broken_file_changes_nothing() {
    let (dir, admin) = (tempfile::tempdir().unwrap(), free_port());
    write_file(&file(&dir), admin, &["a", "b"]);
    let process = Process::start(&file(&dir));
    let log = process.wait_for(r#""name":"b""#);
    assert!(log.contains("the workers that are to run"), "{log}");
    wait_until(admin, "/readyz", |answer| answer.matches(r#""phase":"registering""#).count() == 2);
    wait_until(admin, "/healthz", |answer| answer.starts_with("HTTP/1.1 200"));

    let kept = fs::read_to_string(file(&dir)).unwrap();
    fs::write(file(&dir), kept.replace("name = 'b'", "nme = 'b'")).unwrap();
    process.signal("HUP");
    let log = process.wait_for("the workers file is not valid any more");
    assert!(log.contains("nme"), "{log}");
    assert!(get(admin, "/metrics").contains(r#"worker="b""#));

    let third = format!("[[workers]]\nname = 'c'\ndirectory = '.'\ntoken = 'machine_m:worker_c:{SECRET}'\n");
    let (before, from_b) = kept.split_once("[[workers]]\nname = 'b'").unwrap();
    assert!(!from_b.contains("[[workers]]"));
    fs::write(file(&dir), format!("{before}{third}")).unwrap();
    process.signal("HUP");
    process.wait_for(r#""worker":"b""#);
    wait_until(admin, "/metrics", |text| !text.contains(r#"worker="b""#) && text.contains(r#"worker="c""#));
    let metrics = get(admin, "/metrics");
    assert!(metrics.contains(r#"worker_phase{phase="registering",worker="a"} 1"#), "{metrics}");
    assert!(!metrics.contains(SECRET));

    process.signal("TERM");
    let mut process = process;
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let rest: Vec<String> = process.log.iter().collect();
    let ended = |name: &str| {
        rest.iter()
            .any(|line| line.contains("a worker ended") && line.contains(&format!(r#""worker":"{name}""#)))
    };
    assert!(ended("a") && ended("c"), "{rest:#?}");
}

/// A process as a killed worker's tool: in a session of its own, with nothing but the mark to tell whose it was.
fn orphan() -> Child {
    let mut worker = Command::new("true").spawn().unwrap();
    let pid = worker.id();
    worker.wait().unwrap();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    let namespace: String = namespace.to_str().unwrap().chars().filter(char::is_ascii_digit).collect();
    let mark = format!("{pid}.1.{namespace}-00000000000000aa");
    Command::new("setsid").args(["sleep", "300"]).env("OPENCODE_WORKER_MARK", mark).spawn().unwrap()
}

#[test]
fn what_a_killed_fleet_has_left_ends_when_the_next_one_starts() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&file(&dir), free_port(), &["a"]);
    let mut orphan = orphan();
    let process = Process::start(&file(&dir));
    process.wait_for(&format!(r#""pid":{}"#, orphan.id()));
    let status = orphan.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
}

#[test]
fn an_admin_address_that_changes_is_said_to_wait_for_the_next_start() {
    let (dir, admin) = (tempfile::tempdir().unwrap(), free_port());
    write_file(&file(&dir), admin, &["a"]);
    let process = Process::start(&file(&dir));
    process.wait_for("the workers that are to run");
    let text = fs::read_to_string(file(&dir)).unwrap();
    fs::write(file(&dir), text.replace(&format!(":{admin}'"), &format!(":{}'", free_port()))).unwrap();
    process.signal("HUP");
    process.wait_for("`admin` has changed; that takes effect when the process is started anew");
    wait_until(admin, "/healthz", |answer| answer.starts_with("HTTP/1.1 "));
}

#[test]
fn a_file_that_is_not_valid_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&file(&dir), free_port(), &["a", "a"]);
    let output = Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(["run", "--workers"])
        .arg(file(&dir))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("worker `a` in line 7 has the name of an earlier one"), "{text}");
}

#[test]
fn check_shows_every_worker_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&file(&dir), free_port(), &["a", "b"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    let output = command.args(["check", "--print", "--workers"]).arg(file(&dir)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("# worker a\n") && text.contains("machine_m:worker_b:[redacted], from file"),
        "{text}"
    );
    assert!(!text.contains(SECRET), "{text}");
}

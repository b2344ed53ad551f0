//! The `worker` binary against `sim serve`: real processes, real sockets, real time.

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use assert_cmd::cargo::cargo_bin;
use fake_opencode::{Content, PROVIDER_KEY};
use sim_serve::guide::RUN_WORKER;

use crate::worker::{PATIENCE, WORKER};

/// A child process that is killed if it is still there in the end.
struct Process {
    pid: u32,
    out: Receiver<String>,
    err: Receiver<String>,
    ended: Receiver<ExitStatus>,
    waited: Cell<bool>,
    stdin: Option<ChildStdin>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (pid, stdin) = (child.id(), child.stdin.take());
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        let (end, ended) = sync_channel(1);
        thread::spawn(move || end.send(child.wait().unwrap()));
        Self { pid, out, err, ended, waited: Cell::new(false), stdin }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn signal(&self, signal: &str) {
        signal_process(self.pid, signal);
    }

    #[track_caller]
    fn wait(&self) -> Option<i32> {
        match self.ended.recv_timeout(PATIENCE) {
            Ok(status) => {
                self.waited.set(true);
                status.code()
            }
            Err(error) => panic!(
                "process {} does not end: {error}; {:?}",
                self.pid,
                self.err.try_iter().collect::<Vec<_>>()
            ),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.waited.get() && self.ended.try_recv().is_err() {
            self.signal("KILL");
        }
    }
}

fn signal_process(pid: u32, signal: &str) {
    Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (line, lines) = sync_channel(10_000);
    thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|text| line.send(text))
    });
    lines
}

/// The next line in which `expected` occurs; the ones before it are passed over.
#[track_caller]
fn line_with(lines: &Receiver<String>, expected: &str) -> String {
    let mut passed = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(expected) => return line,
            Ok(line) => passed.push(line),
            Err(RecvTimeoutError::Timeout) => panic!("no `{expected}` in time after {passed:#?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("no `{expected}` before the end of {passed:#?}"),
        }
    }
}

fn sim(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("sim"));
    command.args(arguments);
    command
}

/// `sim serve` on any port, and the command that it prints.
struct Served {
    process: Process,
    command: String,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        // Before the time that `sim serve` allows begins to run.
        LazyLock::force(&WORKER);
        let process = Process::start(sim(&["serve", "--convex-port", "0"]).args(arguments));
        let command = line_with(&process.out, "WORKER_TOKEN=");
        Self { process, command }
    }

    /// Starts a worker by the printed command, except that the binary is not built once more.
    fn worker(&self) -> Process {
        start_worker(&self.command)
    }

    fn worker_that_is_ready(&self) -> Process {
        let worker = self.worker();
        line_with(&worker.err, r#""to":"Ready""#);
        worker
    }
}

fn start_worker(command: &str) -> Process {
    assert!(command.contains(RUN_WORKER), "{command}");
    let command = command.trim().replace(RUN_WORKER, &format!("'{}'", *WORKER));
    Process::start(Command::new("sh").args(["-c", &format!("exec env {command}")]).env_remove("RUST_LOG"))
}

/// What the fake OpenCode says when it says `deltas` deltas; `shown` tells which reply it was.
fn produced(shown: &str, deltas: u32) -> String {
    let (tag, _) =
        shown.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("it begins with its name");
    let content = Content::Generated { deltas, delta_bytes: 16 };
    (0..deltas).map(|index| content.delta(tag, index)).collect()
}

#[track_caller]
fn check_reply(serve: &Process, message: &str, deltas: u32) {
    line_with(&serve.out, &format!("> {message}"));
    let shown = serve.out.recv_timeout(PATIENCE).unwrap();
    assert_eq!(shown, produced(&shown, deltas));
    line_with(&serve.out, "[completed after ");
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|child| parent(*child) == Some(pid)).collect()
}

/// Nothing if the process is gone.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[test]
fn messages_are_answered_in_full_by_a_worker_that_leaves_nothing_behind() {
    let messages = ["hello [[deltas=20 pace=10]]", "and again"];
    let served = Served::start(&["--message", messages[0], "--message", messages[1]]);
    let worker = served.worker();
    check_reply(&served.process, messages[0], 20);
    let opencode = children(worker.pid);
    assert_eq!(opencode.len(), 1);
    check_reply(&served.process, messages[1], 8);
    assert_eq!(served.process.wait(), Some(0));
    worker.signal("TERM");
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(opencode.iter().filter_map(|pid| parent(*pid)).count(), 0, "OpenCode outlives the worker");
    let (_, project) = served.command.split_once("--directory ").unwrap();
    assert!(!Path::new(project).exists(), "the temporary directory outlives `sim serve`");
}

#[test]
fn a_second_process_of_a_worker_takes_over_from_the_first() {
    let mut served = Served::start(&["--for", "60s"]);
    let first = served.worker_that_is_ready();
    let second = served.worker_that_is_ready();
    assert_eq!(first.wait(), Some(75));
    line_with(&first.err, "error: a newer process of this worker has taken over");
    served.process.say("are you there?");
    check_reply(&served.process, "are you there?", 8);
    second.signal("TERM");
    assert_eq!(second.wait(), Some(0));
    line_with(&served.process.err, "-- worker_demo: approved, offline");
    line_with(&served.process.err, "-- worker_demo: approved, online");
    line_with(&served.process.err, "-- worker_demo: approved, offline");
    served.process.signal("INT");
    assert_eq!(served.process.wait(), Some(0));
}

#[test]
fn a_worker_with_a_wrong_secret_is_turned_away() {
    let served = Served::start(&["--for", "60s"]);
    let _right = served.worker_that_is_ready();
    let (before, after) = served.command.split_once(":worker_demo:").unwrap();
    let wrong = start_worker(&format!("{before}:worker_demo:not-{after}"));
    assert_eq!(wrong.wait(), Some(77));
    line_with(&wrong.err, "error: the backend does not let this worker work: ");
    // Told, not killed: it removes its temporary directory.
    served.process.signal("TERM");
    assert_eq!(served.process.wait(), Some(0));
}

#[test]
fn a_worker_waits_until_it_is_approved_and_a_session_can_be_ended() {
    let mut served = Served::start(&["--for", "60s", "--no-approve"]);
    let worker = served.worker();
    line_with(&served.process.err, "-- type /approve");
    served.process.say("/approve");
    line_with(&served.process.err, "-- worker_demo: approved, online");
    served.process.say("for ever [[hang=1 deltas=3]]");
    line_with(&served.process.out, "> for ever");
    line_with(&worker.err, "the OpenCode server runs");
    served.process.say("/end");
    line_with(&served.process.out, "[failed after ");
    served.process.say("once more");
    check_reply(&served.process, "once more", 8);
    served.process.say("/quit");
    assert_eq!(served.process.wait(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_turns_that_run() {
    let mut served = Served::start(&["--for", "60s"]);
    let worker = served.worker_that_is_ready();
    served.process.say("for ever [[hang=1 deltas=3]]");
    line_with(&worker.err, "the OpenCode server runs");
    line_with(&served.process.out, "> for ever");
    worker.signal("TERM");
    line_with(&worker.err, r#""to":"Stopping""#);
    // The turns' time to end is ten seconds, and this is far from them.
    assert!(worker.ended.recv_timeout(Duration::from_secs(2)).is_err(), "it waits for the turn");
    worker.signal("TERM");
    let ended = worker.ended.recv_timeout(Duration::from_secs(6)).expect("it waits no more");
    worker.waited.set(true);
    assert_eq!(ended.code(), Some(0));
    line_with(&served.process.out, "[failed after ");
}

#[test]
fn a_person_who_asks_a_worker_to_connect_sees_its_models_without_a_message() {
    let mut served = Served::start(&["--for", "60s"]);
    let worker = served.worker_that_is_ready();
    assert_eq!(children(worker.pid).len(), 0, "nobody has asked for anything yet");
    served.process.say("/connect");
    line_with(&worker.err, "the OpenCode server runs");
    let shown = (0..40).find_map(|_| {
        served.process.say("/models");
        let line = line_with(&served.process.err, " models: ");
        let is_there = !line.starts_with("-- 0 models");
        is_there.then_some(line).or_else(|| served.process.err.recv_timeout(Duration::from_millis(250)).ok())
    });
    assert!(shown.is_some_and(|line| line.contains('/')), "no models were published");
    assert_eq!(children(worker.pid).len(), 1);
}

#[test]
fn a_worker_that_is_revoked_while_it_runs_ends_and_its_turn_says_why() {
    let mut served = Served::start(&["--for", "60s"]);
    let worker = served.worker_that_is_ready();
    served.process.say("for ever [[hang=1 deltas=3]]");
    line_with(&worker.err, "the OpenCode server runs");
    let opencode = children(worker.pid);
    served.process.say("/revoke");
    assert_eq!(worker.wait(), Some(77));
    line_with(&worker.err, "error: the backend does not let this worker work: ");
    let ending = line_with(&served.process.out, "[failed after ");
    assert!(ending.contains("(revoked)"), "{ending}");
    assert_eq!(opencode.iter().filter_map(|pid| parent(*pid)).count(), 0, "OpenCode outlives the worker");
    served.process.say("are you there?");
    line_with(&served.process.err, "-- not sent: ");
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What everybody on the machine can see of a process.
fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned()
}

#[test]
fn nothing_that_a_working_worker_shows_holds_a_secret() {
    const KEY: &str = "sk-key-of-a-model-provider-0123456789";
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut served = Served::start(&["--for", "60s"]);
    let (_, token) = served.command.split_once("WORKER_TOKEN=").unwrap();
    let secret =
        token.split_whitespace().next().unwrap().trim_matches('\'').rsplit(':').next().unwrap().to_owned();
    assert!(secret.len() >= 32, "{secret}");
    // Everything but what `info` and above show, too.
    let command = served.command.trim().replace(RUN_WORKER, &format!("'{}'", *WORKER));
    let command =
        format!("exec env RUST_LOG=trace ANTHROPIC_API_KEY={KEY} WORKER_ADMIN=127.0.0.1:{port} {command}");
    let worker = Process::start(Command::new("sh").args(["-c", &command]));
    line_with(&served.process.err, "-- worker_demo: approved, online");
    for message in ["hello", "no [[error=400]]"] {
        served.process.say(message);
        line_with(&served.process.out, " after ");
    }
    let opencode = children(worker.pid);
    let environment = fs::read(format!("/proc/{}/environ", opencode[0])).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let password = environment.split('\0').find_map(|v| v.strip_prefix("OPENCODE_SERVER_PASSWORD=")).unwrap();
    assert!(
        environment.contains(KEY) && !environment.contains(&secret),
        "OpenCode gets its keys, not our token"
    );
    let pids = [vec![worker.pid], opencode.clone()].concat();
    let mut shown: Vec<String> = pids.into_iter().map(command_line).collect();
    shown.extend(["/metrics", "/healthz", "/readyz"].map(|path| get(port, path)));
    worker.signal("TERM");
    assert_eq!(worker.wait(), Some(0));
    shown.extend(worker.err.iter().chain(worker.out.iter()));
    let text = shown.join("\n");
    assert!(
        text.contains("Convex connected") && text.contains("turn failed"),
        "the log is not talkative: {text}"
    );
    // The last is what `/config/providers` shows in clear.
    for (what, secret) in
        [("token", &*secret), ("password", password), ("key", KEY), ("provider's key", PROVIDER_KEY)]
    {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the {what} is shown");
    }
}

#[test]
fn messages_that_do_not_complete_are_told_by_the_exit_code() {
    let served = Served::start(&["--message", "no [[error=400]]", "--message", "yes"]);
    let _worker = served.worker();
    line_with(&served.process.out, "[failed after ");
    check_reply(&served.process, "yes", 8);
    assert_eq!(served.process.wait(), Some(11));
    let served = Served::start(&["--message", "nobody is there", "--timeout", "1s"]);
    assert_eq!(served.process.wait(), Some(11));
    line_with(&served.process.err, "error: 1 of 1 messages had no end within 1s; is the worker running?");
}

#[track_caller]
fn check_refused(arguments: &[&str], code: i32, expected: &str) {
    let process = Process::start(&mut sim(arguments));
    assert_eq!(process.wait(), Some(code), "{arguments:?}");
    line_with(&process.err, expected);
}

#[test]
fn wrong_usage_is_explained() {
    check_refused(&["serve", "--oops"], 2, "unexpected argument '--oops'");
    check_refused(&["serve", "--sessions", "0"], 2, "0 is not in 1..=1000");
    check_refused(&["serve", "--convex-port", "70000"], 2, "70000 is not in 0..=65535");
    check_refused(&["serve", "--timeout", "1s"], 2, "--message <TEXT>");
    check_refused(&["serve", "--for", "soon"], 2, "invalid value 'soon' for '--for <DURATION>'");
    check_refused(&["serve", "--for", "1s", "--message", "hi"], 2, "cannot be used with");
    check_refused(
        &["internal", "opencode", "serve", "--hostname", "0.0.0.0"],
        1,
        "0.0.0.0 is not a loopback address",
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let expected = format!("error: cannot listen on 127.0.0.1:{port}: ");
    check_refused(&["serve", "--convex-port", &port], 1, &expected);
    check_refused(&["internal", "opencode", "serve", "--port", &port], 1, "error: ServeError");
}

#[test]
fn without_anybody_who_types_it_serves_as_long_as_it_is_told() {
    let mut served = Served::start(&["--for", "1s"]);
    served.process.stdin = None;
    assert_eq!(served.process.wait(), Some(0));
}

//! Real processes, on the real clock: small shell scripts in OpenCode's place.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;
use crate::env::ServerProcess;

const READY: &str = "echo \"opencode server listening on http://127.0.0.1:$5\"";
/// Replaced by a child of the script's, whose id is written to the file `child`.
const CHILD: &str = "sleep 300 & echo $! > child.new; mv child.new child";

struct Script {
    dir: TempDir,
}

impl Script {
    fn new(lines: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("opencode");
        fs::write(&file, format!("#!/bin/sh\n{}\n", lines.join("\n"))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn launch(&self, timeout: Duration) -> Launch {
        Launch {
            binary: self.dir.path().join("opencode"),
            directory: self.dir.path().into(),
            data_directory: None,
            password: "the-secret".to_owned().into(),
            startup_timeout: timeout,
        }
    }

    async fn start(&self) -> Result<SystemServer, LaunchError> {
        SystemEnv.launch(self.launch(Duration::from_secs(20))).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn pid(&self, name: &str) -> Pid {
        pid_in(&self.file(name)).await
    }
}

async fn pid_in(file: &Path) -> Pid {
    for _ in 0..500 {
        if let Ok(text) = fs::read_to_string(file) {
            return Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{} was never written", file.display());
}

/// Whether a process is gone, or a zombie that nobody has collected yet.
fn is_dead(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_err() || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

async fn dies(pid: Pid) -> bool {
    for _ in 0..500 {
        if is_dead(pid) {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_server_starts_at_its_ready_line_with_its_password_in_the_environment_only() {
    let script = Script::new(&[
        "echo \"$* $OPENCODE_SERVER_PASSWORD $OPENCODE_DISABLE_AUTOUPDATE\" > seen",
        "echo warning >&2",
        READY,
        "sleep 300",
    ]);
    let server = script.start().await.unwrap();
    let address = server.address();
    let seen = fs::read_to_string(script.file("seen")).unwrap();
    assert_eq!(seen, format!("serve --hostname 127.0.0.1 --port {} the-secret 1\n", address.port));
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_server_that_ends_before_it_is_ready_is_reported_with_its_last_words() {
    let script = Script::new(&["echo one", "echo 'no such model' >&2", "exit 3"]);
    let LaunchError::Exited { status, output, .. } = script.start().await.unwrap_err() else { panic!() };
    assert_eq!(status, "exit code 3");
    assert!(output.contains("one") && output.contains("no such model"), "{output}");
}

#[tokio::test]
async fn a_port_that_somebody_else_took_meanwhile_is_exchanged() {
    let script = Script::new(&[
        "echo x >> tries",
        "[ $(wc -l < tries) -ge 3 ] || { printf 'Error: Unexpected error\\n\\nServeError' >&2; exit 1; }",
        READY,
        "sleep 300",
    ]);
    script.start().await.unwrap().stop(Duration::from_secs(5)).await;
    let script = Script::new(&["echo x >> tries", "echo ServeError; exit 1"]);
    assert!(matches!(script.start().await, Err(LaunchError::Exited { .. })));
    assert_eq!(fs::read_to_string(script.file("tries")).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn a_server_without_a_ready_line_is_given_up_and_killed() {
    let script = Script::new(&["echo $$ > pid.new; mv pid.new pid", "sleep 300"]);
    let begun = Instant::now();
    let error = SystemEnv.launch(script.launch(Duration::from_secs(1))).await.unwrap_err();
    assert!(matches!(error, LaunchError::Timeout { .. }) && begun.elapsed() >= Duration::from_secs(1));
    assert!(dies(script.pid("pid").await).await);
}

#[tokio::test]
async fn a_server_that_others_could_reach_is_refused_and_killed() {
    let script = Script::new(&[
        "echo $$ > pid.new; mv pid.new pid",
        "echo 'opencode server listening on http://0.0.0.0:4096'",
        "sleep 300",
    ]);
    assert!(matches!(script.start().await, Err(LaunchError::NotLoopback { .. })));
    assert!(dies(script.pid("pid").await).await);
}

#[tokio::test]
async fn an_executable_that_is_missing_is_named() {
    let script = Script::new(&[]);
    let launch = Launch { binary: "/no/such/opencode".into(), ..script.launch(Duration::from_secs(1)) };
    let error = SystemEnv.launch(launch).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot start `/no/such/opencode`") && error.contains("install OpenCode"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stop_ends_the_server_and_the_children_that_it_leaves() {
    let script = Script::new(&[CHILD, READY, "trap 'echo term > term; exit 0' TERM", "wait"]);
    let server = script.start().await.unwrap();
    let child = script.pid("child").await;
    let begun = Instant::now();
    server.stop(Duration::from_secs(20)).await;
    assert!(dies(child).await);
    assert!(begun.elapsed() < Duration::from_secs(10), "it did not wait for the grace to pass");
}

#[tokio::test]
async fn a_server_that_ignores_the_request_to_stop_is_killed_after_its_grace() {
    let script = Script::new(&["trap '' TERM", CHILD, READY, "while :; do sleep 1; done"]);
    let server = script.start().await.unwrap();
    let child = script.pid("child").await;
    let begun = Instant::now();
    server.stop(Duration::from_millis(500)).await;
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(dies(child).await);
}

#[tokio::test]
async fn dropping_a_server_kills_its_whole_group() {
    let script = Script::new(&["trap '' TERM HUP", CHILD, READY, "while :; do sleep 1; done"]);
    let server = script.start().await.unwrap();
    let child = script.pid("child").await;
    assert!(!is_dead(child));
    drop(server);
    assert!(dies(child).await);
}

#[tokio::test]
async fn a_tool_s_shell_in_a_session_of_its_own_does_not_outlive_the_server() {
    let tool = "setsid sh -c 'echo $$ > child.new; mv child.new child; exec sleep 300' &";
    let script = Script::new(&[tool, "echo $$ > pid.new; mv pid.new pid", READY, "sleep 300"]);
    let server = script.start().await.unwrap();
    let child = script.pid("child").await;
    server.stop(Duration::from_secs(5)).await;
    assert!(dies(child).await, "it outlived a stop");

    fs::remove_file(script.file("child")).unwrap();
    let mut server = script.start().await.unwrap();
    let child = script.pid("child").await;
    kill_process(script.pid("pid").await, Signal::KILL).unwrap();
    server.exited().await;
    assert!(dies(child).await, "it outlived a crash");
}

#[tokio::test]
async fn an_exit_is_seen_again_and_again_and_takes_the_children_along() {
    let script = Script::new(&[CHILD, "echo $$ > pid.new; mv pid.new pid", READY, "sleep 300"]);
    let mut server = script.start().await.unwrap();
    kill_process(script.pid("pid").await, Signal::KILL).unwrap();
    assert_eq!(server.exited().await, "killed by signal 9");
    assert_eq!(server.exited().await, "killed by signal 9");
    assert!(dies(script.pid("child").await).await);
}

#[tokio::test]
async fn a_server_that_prints_without_end_never_blocks() {
    let script = Script::new(&[
        READY,
        "yes | head -c 1000000",
        "yes | head -c 1000000 >&2",
        "echo > done",
        "sleep 300",
    ]);
    let server = script.start().await.unwrap();
    for _ in 0..500 {
        if script.file("done").exists() {
            return server.stop(Duration::from_secs(5)).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the pipes were not drained");
}

/// The worker of the test below: started again from this very test executable, it launches a server and is killed.
#[tokio::test]
#[ignore = "run by the test below"]
async fn worker_that_is_killed() {
    let Some(dir) = std::env::var_os("KILLED_WORKER_DIR").map(PathBuf::from) else { return };
    let launch = Launch {
        binary: dir.join("opencode"),
        directory: dir,
        data_directory: None,
        password: "the-secret".to_owned().into(),
        startup_timeout: Duration::from_secs(20),
    };
    let _server = SystemEnv.launch(launch).await.unwrap();
    sleep(Duration::from_secs(300)).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_takes_its_server_along() {
    let script =
        Script::new(&["trap '' TERM HUP", READY, "echo $$ > pid.new; mv pid.new pid", "exec sleep 300"]);
    let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "env::system::tests::worker_that_is_killed"])
        .env("KILLED_WORKER_DIR", script.dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let server = script.pid("pid").await;
    assert!(!is_dead(server));
    worker.kill().unwrap();
    assert_eq!(worker.wait().unwrap().signal(), Some(9));
    assert!(dies(server).await, "the server outlived its worker");
}

#[tokio::test]
async fn an_address_that_never_answers_does_not_keep_one_that_does_from_being_reached() {
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let (swallows, mut waiting) = (full.local_addr().unwrap(), Vec::new());
    // Whoever comes when the queue of a listener is full gets no answer.
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(swallows)).await
    {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 16, "the queue is never full");
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answers = listener.local_addr().unwrap();
    let reached = race([swallows, answers], TcpStream::connect);
    let stream = tokio::time::timeout(Duration::from_secs(5), reached).await.unwrap().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), answers);
}

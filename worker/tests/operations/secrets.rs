//! No secret gets out, whatever goes wrong and however talkative the log is.

use std::{fs, path::Path, time::Duration};

use super::{SECRET, free_port, printed, start, token, worker, write_secret};

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
    write_secret(&path, text);
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

/// A user that owns nothing: what root may see says nothing about anybody else.
const NOBODY: u32 = 65_534;

/// A tool that a worker's OpenCode starts runs as the same user. Without root, that is whoever runs the test.
#[cfg(target_os = "linux")]
#[test]
fn other_processes_of_the_same_user_cannot_read_the_token_out_of_a_worker() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let is_root = rustix::process::geteuid().is_root();
    // Where everybody may execute it.
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("worker");
    fs::copy(env!("CARGO_BIN_EXE_worker"), &binary).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |program: &std::ffi::OsStr| {
        let mut command = std::process::Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir("/");
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let mut command = as_nobody(binary.as_os_str());
    command
        .args(["run", "--convex-url", &format!("http://127.0.0.1:{}", free_port())])
        .env("WORKER_TOKEN", token());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut running = super::Running(command.spawn().unwrap());
    let mut log = std::io::BufReader::new(running.0.stderr.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut log, &mut first).unwrap();
    assert!(first.contains("phase") || first.contains("Convex"), "{first}");

    let process = format!("/proc/{}", running.0.id());
    for file in ["environ", "mem", "maps"] {
        let read = as_nobody("cat".as_ref()).arg(format!("{process}/{file}")).output().unwrap();
        assert!(!read.status.success() && read.stdout.is_empty(), "{file} can be read");
    }
    if is_root {
        // Root sees the environment, but the token is in it no more.
        let environ = fs::read(format!("{process}/environ")).unwrap();
        let environ = String::from_utf8_lossy(&environ);
        assert!(environ.contains("WORKER_TOKEN=") && !environ.contains(SECRET), "{environ}");
    }
}

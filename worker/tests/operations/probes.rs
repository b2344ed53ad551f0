//! Whoever looks at a worker changes nothing: neither OpenCode nor the backend notices.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use futures_util::StreamExt;
use tokio::{net::TcpListener, time::timeout};

use super::{free_port, get, printed, start, worker};

#[tokio::test]
async fn probes_start_no_opencode_and_call_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (binary, started) = (dir.path().join("opencode"), dir.path().join("started"));
    fs::write(&binary, format!("#!/bin/sh\ntouch {}\n", started.display())).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let (listener, admin) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), free_port());
    let address = format!("127.0.0.1:{admin}");
    let flags = ["--admin", &address, "--opencode", binary.to_str().unwrap()];
    let running = start(listener.local_addr().unwrap().port(), &flags);
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    // It connects and registers, and gets no answer: it has nothing more to say.
    let mut said = 0;
    while timeout(Duration::from_secs(2), socket.next()).await.is_ok() {
        said += 1;
    }
    assert!(said >= 2, "{said}");
    // The worker is another process: nothing here has to go on meanwhile.
    for path in ["/healthz", "/readyz", "/metrics"].repeat(50) {
        assert!(get(admin, path).starts_with("HTTP/1.1 "));
    }
    let more = timeout(Duration::from_secs(1), socket.next()).await;
    assert!(more.is_err(), "a probe made the worker say {more:?}");
    assert!(!started.exists(), "a probe started OpenCode");
    let output = running.terminate();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
}

#[tokio::test]
async fn health_says_by_its_exit_code_whether_a_worker_is_well() {
    let admin = format!("127.0.0.1:{}", free_port());
    let ask = || worker(&["health", "--admin", &admin]).output().unwrap();
    let output = ask();
    assert_eq!(output.status.code(), Some(69), "{}", printed(&output));
    assert!(printed(&output).contains(&format!("no worker answers at {admin}")), "{}", printed(&output));
    let running = start(free_port(), &["--admin", &admin]);
    let mut output = ask();
    for _ in 0..100 {
        if output.status.success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        output = ask();
    }
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(printed(&output).contains("alive"), "{}", printed(&output));
    running.terminate();
    let output = worker(&["health"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", printed(&output));
}

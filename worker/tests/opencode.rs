//! The client against a real OpenCode 1.18, offline: `OPENCODE_BINARY=… cargo test -p worker --test opencode -- --ignored`.
//! Give it a `HOME` of its own: OpenCode writes there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::timeout;
use worker::{
    config::OpencodeSettings,
    env::system::SystemEnv,
    opencode::{EventKind, EventReceiver, OpencodeSessionId, Server, ServerStats, SessionEvent, prompt_id},
};

async fn next_event(events: &mut EventReceiver) -> EventKind {
    match timeout(Duration::from_secs(60), events.recv()).await.expect("an event comes") {
        SessionEvent::Event(event) => event.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs a real OpenCode"]
async fn a_real_server_starts_answers_reports_and_ends() {
    let binary = std::env::var_os("OPENCODE_BINARY").expect("OPENCODE_BINARY names the executable");
    let project = tempfile::tempdir().unwrap();
    let settings = OpencodeSettings { binary: PathBuf::from(binary), ..OpencodeSettings::default() };
    let stats = Arc::new(ServerStats::default());
    let server = Server::new(SystemEnv, project.path().into(), settings, stats.clone(), None);
    let lease = server.acquire().await.unwrap();
    assert_eq!((lease.generation(), stats.open_streams()), (1, 1));

    let client = lease.client();
    let session = client.create_session("a title", None).await.unwrap();
    assert_eq!(client.session(&session.id).await.unwrap().title, "a title");
    assert_eq!(client.messages(&session.id, 10).await.unwrap(), []);
    assert!(client.statuses().await.unwrap().is_empty());
    assert!(!client.models().await.unwrap().is_empty());
    client.abort(&session.id).await.unwrap();
    let missing = OpencodeSessionId::new("ses_doesnotexist000000000000").unwrap();
    assert!(client.session(&missing).await.unwrap_err().is_not_found());
    assert!(
        client
            .prompt_async(&missing, "msg_207dd0a83000aaaaaaaaaaaaaa", "hi", None)
            .await
            .unwrap_err()
            .is_not_found()
    );

    // An unknown model is accepted and then reported by event: the one end of a turn that needs no provider.
    let mut events = lease.events(&session.id);
    let model = "nope/nothing".parse().unwrap();
    client.prompt_async(&session.id, &prompt_id::new(&SystemEnv), "hello", Some(&model)).await.unwrap();
    let error = loop {
        if let EventKind::Error(error) = next_event(&mut events).await {
            break error;
        }
    };
    assert!(error.message.contains("Model not found: nope/nothing"), "{error:?}");
    while next_event(&mut events).await != EventKind::Idle {}

    server.shutdown(Duration::from_secs(5)).await;
    assert_eq!(stats.open_streams(), 0);
    assert!(matches!(events.recv().await, SessionEvent::ServerLost { .. } | SessionEvent::Event(_)));
    assert!(client.health().await.is_err());
}

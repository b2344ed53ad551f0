use std::sync::{Arc, atomic::Ordering};

use super::*;
use crate::{
    config::{OpencodeSettings, SyncSettings},
    env::testing::{Answer, TestEnv},
    opencode::{Lease, Server},
    sync::{
        SyncHandle,
        state::{State, Step},
    },
    telemetry::Status,
};

/// A sync that knows nothing, beside a server whose answers can be set.
struct World {
    env: TestEnv,
    shared: Arc<Shared>,
    status: Arc<Status>,
    lease: Lease,
    _server: Server,
}

impl World {
    async fn new(settings: SyncSettings) -> Self {
        let (env, status) = (TestEnv::new(), Arc::new(Status::default()));
        let opencode = OpencodeSettings::default();
        let server = Server::new(env.clone(), ".".into(), opencode, status.server.clone(), None);
        let lease = server.acquire().await.unwrap();
        let shared = SyncHandle::new(settings, status.clone()).0.unwrap();
        Self { env, shared, status, lease, _server: server }
    }

    /// OpenCode has this session, with a title that Convex does not know.
    fn renamed(&self, number: usize) {
        let session = format!(
            r#"{{"id":"ses_{number}","slug":"s","title":"new","cost":0,"version":"1.18.33","projectID":"p",
                "directory":"/","time":{{"created":1,"updated":2}}}}"#
        );
        self.env.answer(&format!("GET /session/ses_{number}"), Answer::json(200, session));
    }

    fn answers(&self, number: usize, status: u16) {
        let body = r#"{"name":"NotFoundError","data":{"message":"no"}}"#;
        self.env.answer(&format!("GET /session/ses_{number}"), Answer::json(status, body));
    }

    async fn compare(&self, numbers: std::ops::RangeInclusive<usize>) -> Result<(), ApiError> {
        let ids: Vec<_> = numbers.map(|number| format!("ses_{number}")).collect();
        let page = Linked { titles: vec!["old".to_owned(); ids.len()], ids, is_done: true };
        let stamp = self.shared.look(|state| state.stamp());
        compare_page(&self.shared, self.lease.client(), &page, stamp).await
    }

    /// How many deletions and renames are to be applied.
    fn changes(&self) -> (usize, usize) {
        let later = self.shared.settings.coalesce * 2;
        match self.shared.look(|state: &mut State| state.next(false, later)) {
            Step::Apply(batch) => (batch.plan.deletions.len(), batch.plan.name_updates.len()),
            _ => (0, 0),
        }
    }

    fn errors(&self) -> u64 {
        self.status.sync.errors.load(Ordering::Relaxed)
    }
}

fn settings() -> SyncSettings {
    SyncSettings { batch: 100, ..SyncSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_opencode_cannot_show_does_not_hold_up_the_others_for_ever() {
    let world = World::new(settings()).await;
    world.answers(1, 500);
    (2..=4).for_each(|number| world.renamed(number));
    while !world.shared.look(|state| state.is_stuck()) {
        assert!(world.compare(1..=4).await.is_err());
        world.shared.look(|state| state.failed(None, std::time::Duration::ZERO));
    }
    world.compare(1..=4).await.unwrap();
    world.shared.look(|state| state.scrubbed(None, std::time::Duration::ZERO));
    assert_eq!(world.changes(), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shows_nothing_is_not_asked_for_a_whole_page() {
    let world = World::new(settings()).await;
    (1..=20).for_each(|number| world.answers(number, 500));
    while !world.shared.look(|state| state.is_stuck()) {
        world.shared.look(|state| state.failed(None, std::time::Duration::ZERO));
    }
    world.env.world().requests.clear();
    world.compare(1..=20).await.unwrap();
    let asked = world.env.world().requests.iter().filter(|line| line.contains("/session/")).count();
    assert_eq!(asked, MAX_UNREADABLE);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_gone_lose_their_chats_unless_nearly_all_of_them_are() {
    let world = World::new(settings()).await;
    (1..=8).for_each(|number| world.answers(number, 404));
    (9..=10).for_each(|number| world.renamed(number));
    world.compare(1..=10).await.unwrap();
    assert_eq!((world.changes(), world.errors()), ((8, 2), 0));

    let world = World::new(settings()).await;
    (1..=9).for_each(|number| world.answers(number, 404));
    world.renamed(10);
    world.compare(1..=10).await.unwrap();
    assert_eq!((world.changes(), world.errors()), ((0, 1), 1), "as if it were another disk");
}

#[tokio::test(start_paused = true)]
async fn a_mass_deletion_is_carried_through_for_whoever_asks_for_it() {
    let world = World::new(SyncSettings { accept_mass_deletions: true, ..settings() }).await;
    (1..=10).for_each(|number| world.answers(number, 404));
    world.compare(1..=10).await.unwrap();
    assert_eq!((world.changes(), world.errors()), ((10, 0), 0));
}

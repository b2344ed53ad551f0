//! The host `convex`: the backend, and the people who act beside it.

use std::rc::Rc;

use tokio::task::JoinSet;

use super::{
    backend::{Backend, PORT},
    direct::Direct,
    hostile::Tenant,
    users::People,
};
use crate::engine::network::Listener;

/// Runs the host for ever: answers connections, runs scheduled functions, and lets `people` and a stranger act.
///
/// # Errors
/// If the port is taken.
pub(super) async fn run(
    backend: Backend,
    people: Rc<Vec<People>>,
    direct: Rc<Vec<Direct>>,
    stranger: Tenant,
) -> turmoil::Result {
    let listener = Listener::bind(PORT).await?;
    let mut tasks = JoinSet::new();
    let scheduler = backend.convex().clone();
    tasks.spawn_local(async move { scheduler.run_scheduler().await });
    for person in people.iter() {
        tasks.spawn_local(person.clone().live());
        tasks.spawn_local(person.clone().answer_questions());
    }
    for someone in direct.iter() {
        tasks.spawn_local(someone.clone().live());
    }
    tasks.spawn_local(stranger.live());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                let convex = backend.convex().clone();
                tasks.spawn_local(async move { convex.serve_connection(stream, &peer).await });
            }
            Some(ended) = tasks.join_next() => ended?,
        }
    }
}

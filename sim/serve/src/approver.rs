//! Looks after the worker: approves it and tells what becomes of it.

use std::{collections::BTreeMap, convert::Infallible};

use tokio::sync::watch;

use crate::{
    deployment::Bells,
    person::{CallFailed, Person, Worker},
    screen::Screen,
};

/// The person's workers, watched.
#[derive(Debug)]
pub struct Approver {
    person: Person,
    bells: Bells,
    screen: Screen,
    approve: bool,
    /// Where the first worker that registered is announced.
    first: watch::Sender<Option<Worker>>,
}

impl Approver {
    /// Looks after the workers of `person`; whether they are approved at once is up to `approve`.
    #[must_use]
    pub fn new(person: Person, bells: Bells, screen: Screen, approve: bool) -> Self {
        Self { person, bells, screen, approve, first: watch::Sender::default() }
    }

    /// The first worker that registered, kept up to date; none before.
    #[must_use]
    pub fn first(&self) -> watch::Receiver<Option<Worker>> {
        self.first.subscribe()
    }

    /// Watches for ever.
    ///
    /// # Errors
    /// If a call of the person's fails.
    pub async fn watch(&self) -> Result<Infallible, CallFailed> {
        let mut changed = self.bells.workers.subscribe();
        let mut seen = BTreeMap::new();
        loop {
            for worker in self.person.workers().await? {
                self.look(&worker, seen.insert(worker.id.clone(), worker.clone()).as_ref()).await?;
            }
            // The bells live as long as this.
            let _ = changed.changed().await;
        }
    }

    async fn look(&self, worker: &Worker, before: Option<&Worker>) -> Result<(), CallFailed> {
        if before == Some(worker) {
            return Ok(());
        }
        let Worker { id, worker_id, approval, status } = worker;
        self.screen.notice(&format!("-- {worker_id}: {approval}, {status}"));
        if self.first.borrow().as_ref().is_none_or(|first| first.id == *id) {
            self.first.send_replace(Some(worker.clone()));
        }
        match (approval.as_str(), self.approve) {
            ("pending", true) => self.person.approve(id).await,
            ("pending", false) => {
                self.screen.notice("-- type /approve to let it work");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

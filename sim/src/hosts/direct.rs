//! Somebody who uses OpenCode on a worker's machine without the worker: makes, renames and deletes sessions there.
//!
//! They act as planned, whether or not a server runs, and whatever happens to the worker.

use std::{rc::Rc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use fake_opencode::{OpenCode, Way};
use sim_model::workload_plan::{DirectUse, Directly};

/// How often somebody looks whether a session works on a prompt.
const LOOK: Duration = Duration::from_millis(50);
/// How often at most.
const LOOKS: u32 = 20_000;

/// Whoever uses one machine's OpenCode directly.
#[derive(Clone)]
pub struct Direct {
    uses: Rc<[DirectUse]>,
    machine: OpenCode,
}

impl Direct {
    /// Somebody who does what is planned on `machine`.
    #[must_use]
    pub fn new(uses: Vec<DirectUse>, machine: OpenCode) -> Self {
        Self { uses: uses.into(), machine }
    }

    /// Does everything that is planned. What waits for its moment delays nothing else.
    pub async fn live(self) {
        let start = Instant::now();
        let mut acts = JoinSet::new();
        for (number, direct) in self.uses.iter().copied().enumerate() {
            sleep_until(start + direct.at).await;
            let this = self.clone();
            acts.spawn_local(async move { this.act(number, &direct).await });
        }
        while acts.join_next().await.is_some() {}
    }

    async fn act(&self, number: usize, direct: &DirectUse) {
        let way = if direct.behind_the_server { Way::OtherProcess } else { Way::Server };
        let machine = &self.machine;
        match direct.what {
            Directly::Create => {
                machine.create_directly(&format!("made directly {number}"), way);
            }
            Directly::Rename => {
                if let Some(session) = self.pick(direct.pick) {
                    machine.rename_directly(&session, &format!("renamed directly {number}"), way);
                }
            }
            Directly::Delete => {
                if let Some(session) = self.pick(direct.pick) {
                    machine.delete_directly(&session, way);
                }
            }
            Directly::DeleteBusy => {
                if let Some(session) = self.busy().await {
                    machine.delete_directly(&session, way);
                }
            }
        }
    }

    /// The order of ids is that of their making, so the same number picks the same session in the same world.
    fn pick(&self, pick: u64) -> Option<String> {
        let mut ids = self.machine.session_ids();
        let count = u64::try_from(ids.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from(pick % count).expect("an index fits");
        Some(ids.swap_remove(index))
    }

    async fn busy(&self) -> Option<String> {
        for _ in 0..LOOKS {
            if let Some(session) = self.machine.busy_session() {
                return Some(session);
            }
            sleep(LOOK).await;
        }
        None
    }
}

//! What OpenCode may still be working on when nobody follows it any more.
//!
//! A prompt into a session that is busy is merged into the reply in progress (measured), so nothing is prompted there
//! before the session is idle.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use super::{generation::Generation, http::Client, id::OpencodeSessionId};

/// How often a session that is perhaps busy is looked at, and asked to stop, before it is given up.
const LOOKS: u32 = 5;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// A prompt that OpenCode works on. Whoever drops it without having seen the end (the worker begins anew, a write
/// failed, a panic) leaves a session that is asked to stop, and not prompted before it is idle.
pub struct ActivePrompt {
    generation: Arc<Generation>,
    session: OpencodeSessionId,
    is_finished: bool,
}

impl ActivePrompt {
    pub(super) fn new(generation: Arc<Generation>, session: &OpencodeSessionId) -> Self {
        Self { generation, session: session.clone(), is_finished: false }
    }

    /// OpenCode does not work on it any more, or never did.
    pub fn finish(mut self) {
        self.is_finished = true;
    }

    /// OpenCode was asked to stop, in vain.
    pub fn abandon(mut self) {
        self.is_finished = true;
        self.generation.maybe_busy.add(&self.session);
    }
}

impl Drop for ActivePrompt {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        self.generation.maybe_busy.add(&self.session);
        let (client, session) = (self.generation.client.clone(), self.session.clone());
        self.generation.client.spawn(async move { abort(&client, &session).await });
    }
}

/// Returns true once the session is idle, as far as is known. One that is perhaps busy is waited for and asked to stop
/// again, within bounds.
pub(super) async fn wait_until_idle(generation: &Generation, session: &OpencodeSessionId) -> bool {
    if !generation.maybe_busy.contains(session) {
        return true;
    }
    let client = &generation.client;
    for look in 0..LOOKS {
        if look > 0 {
            abort(client, session).await;
            sleep(PAUSE).await;
        }
        match client.statuses().await {
            Ok(busy) if !busy.contains_key(session) => {
                generation.maybe_busy.remove(session);
                return true;
            }
            Ok(_) => {}
            Err(error) => warn!(%error, %session, "cannot tell whether the session is busy"),
        }
    }
    false
}

async fn abort(client: &Client, session: &OpencodeSessionId) {
    if let Err(error) = client.abort(session).await {
        warn!(%error, %session, "cannot abort");
    }
}

//! A model whose provider puts OpenCode off: it is asked again, without limit (measured on 429, 500, 503 and 529).

use std::time::Duration;

use serde_json::{Value, json};

use super::step::Step;
use crate::{script::PutOff, state::pause};

/// The first pause; each one doubles up to the longest. The real ones are jittered.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);
/// What the provider says.
const SAID: &str = "scripted overload";

impl Step<'_> {
    /// Before the first step: each refusal is told, with when the model is asked again.
    pub(super) async fn wait_while_put_off(&mut self) {
        let PutOff { times, after } = std::mem::take(&mut self.plan.reply.put_off);
        for attempt in 1..=times {
            let wait = after.unwrap_or_else(|| pause_before(attempt));
            let next = self.server.machine.now() + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let status = json!({ "type": "retry", "attempt": attempt, "message": SAID, "next": next });
            self.tell(status);
            self.is_put_off = true;
            pause(wait).await;
            self.is_put_off = false;
            self.tell(json!({ "type": "busy" }));
        }
    }

    fn tell(&self, status: Value) {
        if let Some(run) = self.server.runs.borrow_mut().get_mut(self.session) {
            run.status = status.clone();
        }
        self.server.emit("session.status", &json!({ "sessionID": self.session, "status": status }));
    }
}

fn pause_before(attempt: u32) -> Duration {
    FIRST.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST)
}

//! What the models say: drawn for each prompt from the scenario, whatever came before.

use std::{rc::Rc, time::Duration};

use rand::Rng;

use crate::{
    opencode::{Content, Outcome, Prompt, Reply, Script, ToolCall},
    scenario::Replies,
    seed::Seed,
};

/// The status that models fail with: a refusal that no one retries.
const MODEL_ERROR: u16 = 400;
/// How long a permitted tool runs.
const TOOL: Duration = Duration::from_millis(200);

/// A script that draws replies. The same prompt is answered alike wherever and whenever it comes, so that one turn more
/// or less shifts no other.
#[must_use]
pub fn script(replies: Replies, seed: Seed) -> Script {
    Rc::new(move |prompt| draw(&replies, seed, prompt))
}

fn draw(replies: &Replies, seed: Seed, prompt: &Prompt<'_>) -> Reply {
    let mut random = seed.stream(&format!("reply/{}", prompt.text));
    let deltas = u32::try_from(replies.deltas.draw(&mut random)).unwrap_or(u32::MAX);
    let bytes = replies.bytes.draw(&mut random);
    let delta_bytes = usize::try_from(bytes / u64::from(deltas.max(1))).unwrap_or(usize::MAX);
    let fails = random.random_bool(replies.model_errors.0);
    let mut reply = Reply {
        first_token_after: replies.first_token.draw(&mut random),
        content: Content::Generated { deltas, delta_bytes },
        pace: replies.pace.draw(&mut random),
        outcome: if fails { Outcome::ModelError(MODEL_ERROR) } else { Outcome::Completes },
        ..Reply::default()
    };
    if random.random_bool(replies.asks.0) {
        reply.tools.push(ToolCall { runs_for: TOOL, asks: true });
    }
    reply
}

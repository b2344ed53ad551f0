//! What the models say: drawn for each prompt from the scenario, whatever came before.

use std::{rc::Rc, time::Duration};

use rand::Rng;

use fake_opencode::{Compaction, Content, Outcome, Prompt, PutOff, Reply, Script, ToolCall};
use sim_model::{scenario::Replies, seed::Seed, units::Share};

/// The status that models fail with: a refusal that no one retries.
const MODEL_ERROR: u16 = 400;
/// Calls of a reply that uses tools, each in a message of its own: more than one page of them.
const TOOLS: usize = 12;
/// Deltas of thought before a reply.
const REASONING: u32 = 20;
/// How often a provider refuses that answers in the end.
const FEW: u32 = 2;
/// When a provider may say to ask again.
const HOUR: Duration = Duration::from_secs(3_600);
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
        reply.tools.push(ToolCall { runs_for: TOOL, asks: true, child: false });
    }
    vary(replies, &mut reply, &mut random);
    reply
}

/// What makes a reply unusual.
fn vary(replies: &Replies, reply: &mut Reply, random: &mut impl Rng) {
    let mut drawn = |share: Share| random.random_bool(share.0);
    if drawn(replies.asks_in_child) {
        reply.tools.push(ToolCall { runs_for: TOOL, asks: true, child: true });
    }
    if drawn(replies.tools) {
        reply.tools.extend([ToolCall { runs_for: TOOL, asks: false, child: false }; TOOLS]);
    }
    if drawn(replies.reasoning) {
        reply.reasoning_deltas = REASONING;
    }
    if drawn(replies.empty) {
        reply.content = Content::Generated { deltas: 0, delta_bytes: 0 };
    }
    if drawn(replies.put_off) {
        let times = if drawn(Share(0.5)) { u32::MAX } else { FEW };
        reply.put_off = PutOff { times, after: drawn(Share(0.25)).then_some(HOUR) };
    }
    if drawn(replies.full) {
        reply.compaction = Some(Compaction::AfterStep);
    } else if drawn(replies.too_long) {
        reply.compaction = Some(Compaction::Refused);
    }
}

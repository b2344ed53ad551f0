//! What a prompt is answered with. Pure: the simulator draws replies from the scenario and the seed,
//! people who try things by hand write directives into the prompt.

use std::{rc::Rc, time::Duration};

use super::wire::Model;

/// Chooses the reply to a prompt.
pub type Script = Rc<dyn Fn(&Prompt<'_>) -> Reply>;

/// What the script sees of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// The OpenCode session.
    pub session: &'a str,
    /// The user message that will be the parent of the reply.
    pub message: &'a str,
    /// The text parts of that message.
    pub text: &'a str,
    /// The model in force.
    pub model: &'a Model,
}

/// How the model behaves for one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// From the prompt (or the end of the tool step before) to the first sign of the model.
    pub first_token_after: Duration,
    /// The text, in deltas.
    pub content: Content,
    /// Between two deltas.
    pub pace: Duration,
    /// Deltas of reasoning before the text; none by default.
    pub reasoning_deltas: u32,
    /// Tool calls before the text, each in an assistant message of its own.
    pub tools: Vec<ToolCall>,
    /// How often the model's provider puts OpenCode off before it answers.
    pub put_off: PutOff,
    /// When the model's context is full, if ever; then OpenCode has it summed up and goes on.
    pub compaction: Option<Compaction>,
    /// How the reply ends.
    pub outcome: Outcome,
}

/// The text of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Made up: unique per prompt, with characters of more than one byte, no delta equal to another.
    Generated {
        /// How many; at most [`MAX_DELTAS`]. None means a reply without a text part.
        deltas: u32,
        /// The least size of each in bytes; at most [`MAX_DELTA_BYTES`].
        delta_bytes: usize,
    },
    /// Given word by word.
    Text(Vec<String>),
}

/// The most deltas of one reply.
pub const MAX_DELTAS: u32 = 20_000;
/// The largest size asked of one delta.
pub const MAX_DELTA_BYTES: usize = 64 * 1024;

/// Refusals that OpenCode takes for passing (429, overload): it asks again, without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOff {
    /// How many; [`u32::MAX`] is for ever.
    pub times: u32,
    /// When the provider says to ask again. If it does not: after 2 s, 4 s and so on, 30 s at most.
    pub after: Option<Duration>,
}

/// When the model's context is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// After the first step, by what it cost. OpenCode lets the model go on by a message of its own.
    AfterStep,
    /// The provider refuses the prompt as too long. OpenCode repeats it when the history is summed up.
    Refused,
}

/// One call of the `bash` tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolCall {
    /// How long the command runs.
    pub runs_for: Duration,
    /// Whether OpenCode asks for permission first and waits until somebody answers.
    pub asks: bool,
    /// Whether it is an agent in a child session that calls it, which the `task` tool started.
    pub child: bool,
}

/// How a reply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model stops by itself.
    Completes,
    /// The model answers with this HTTP status, before any token. Never retried here, whatever the status.
    ModelError(u16),
    /// The model falls silent after its last delta, until abort or crash.
    Hangs,
}

impl Default for Reply {
    /// Eight short deltas, 50 ms apart, as the scripted model of the recordings.
    fn default() -> Self {
        Self {
            first_token_after: Duration::from_millis(50),
            content: Content::Generated { deltas: 8, delta_bytes: 16 },
            pace: Duration::from_millis(50),
            reasoning_deltas: 0,
            tools: Vec::new(),
            put_off: PutOff::default(),
            compaction: None,
            outcome: Outcome::Completes,
        }
    }
}

impl Content {
    /// How many deltas there are.
    pub fn deltas(&self) -> u32 {
        match self {
            Self::Generated { deltas, .. } => (*deltas).min(MAX_DELTAS),
            Self::Text(words) => u32::try_from(words.len()).unwrap_or(MAX_DELTAS).min(MAX_DELTAS),
        }
    }

    /// The delta number `index`, for the reply that `tag` identifies.
    pub fn delta(&self, tag: &str, index: u32) -> String {
        match self {
            Self::Generated { delta_bytes, .. } => generate(tag, index, (*delta_bytes).min(MAX_DELTA_BYTES)),
            Self::Text(words) => words.get(index as usize).cloned().unwrap_or_default(),
        }
    }
}

/// The script that understands directives in the prompt's text:
/// `[[deltas=N bytes=N pace=MS first=MS error=CODE tool=N ask=1 child=1 reasoning=N empty=1 hang=1 putoff=N after=MS
/// full=1 toolong=1]]`.
/// What it does not know it leaves alone: the text is a person's.
pub fn by_directives(prompt: &Prompt<'_>) -> Reply {
    let mut reply = Reply::default();
    let inside = prompt.text.split_once("[[").and_then(|(_, rest)| rest.split_once("]]"));
    for word in inside.map_or("", |(inside, _)| inside).split_whitespace() {
        if let Some((key, Ok(value))) = word.split_once('=').map(|(key, value)| (key, value.parse::<u32>())) {
            reply.apply(key, value);
        }
    }
    reply
}

/// Tool calls that one directive may ask for.
const MAX_TOOLS: u32 = 100;

impl Reply {
    fn apply(&mut self, key: &str, value: u32) {
        let millis = Duration::from_millis(value.into());
        match (key, &mut self.content) {
            ("deltas", Content::Generated { deltas, .. }) => *deltas = value.min(MAX_DELTAS),
            ("bytes", Content::Generated { delta_bytes, .. }) => {
                *delta_bytes = (value as usize).min(MAX_DELTA_BYTES)
            }
            ("empty", Content::Generated { deltas, .. }) if value > 0 => *deltas = 0,
            ("pace", _) => self.pace = millis,
            ("first", _) => self.first_token_after = millis,
            ("error", _) => self.outcome = Outcome::ModelError(u16::try_from(value).unwrap_or(500)),
            ("hang", _) if value > 0 => self.outcome = Outcome::Hangs,
            ("reasoning", _) => self.reasoning_deltas = value.min(MAX_DELTAS),
            ("tool", _) => self.add_tools(value.min(MAX_TOOLS)),
            ("ask", _) => self.tools.iter_mut().for_each(|tool| tool.asks = value > 0),
            ("child", _) => self.tools.iter_mut().for_each(|tool| tool.child = value > 0),
            ("putoff", _) => self.put_off.times = value,
            ("after", _) => self.put_off.after = Some(millis),
            ("full", _) if value > 0 => self.compaction = Some(Compaction::AfterStep),
            ("toolong", _) if value > 0 => self.compaction = Some(Compaction::Refused),
            _ => {}
        }
    }

    fn add_tools(&mut self, count: u32) {
        let call = ToolCall { runs_for: Duration::from_millis(100), asks: false, child: false };
        self.tools = vec![call; count as usize];
    }
}

/// Words whose characters take one to four bytes, so that byte and character offsets differ.
const WORDS: [&str; 12] = [
    "alpha",
    "café",
    "delta",
    "naïve",
    "Ωmega",
    "river",
    "日本語",
    "stone",
    "🦀crab",
    "über",
    "plain",
    "señal",
];

/// Starts with its own number, so no delta equals another; the first names the reply, so no reply equals another.
fn generate(tag: &str, index: u32, at_least: usize) -> String {
    let mut delta = if index == 0 { format!("<{tag}> ") } else { format!("{index}:") };
    let start = tag.bytes().fold(index as usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    for word in WORDS.iter().cycle().skip(start % WORDS.len()) {
        delta.push_str(word);
        delta.push(' ');
        if delta.len() >= at_least {
            return delta;
        }
    }
    unreachable!("the words are cycled")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    fn check(text: &str, expect: Reply) {
        let model = Model { provider_id: "fake".into(), model_id: "m1".into() };
        assert_eq!(
            by_directives(&Prompt { session: "ses_1", message: "msg_1", text, model: &model }),
            expect
        );
    }

    #[test]
    fn directives_in_the_text_choose_the_reply() {
        check("hello", Reply::default());
        check("hello [[", Reply::default());
        check("[[deltas=x colour=3 pace]]", Reply::default());
        check("[[error=400]]", Reply { outcome: Outcome::ModelError(400), ..Reply::default() });
        check(
            "say [[hang=1 pace=5]] it",
            Reply { outcome: Outcome::Hangs, pace: Duration::from_millis(5), ..Reply::default() },
        );
        check(
            "[[empty=1]]",
            Reply { content: Content::Generated { deltas: 0, delta_bytes: 16 }, ..Reply::default() },
        );
        check(
            "[[putoff=2 after=50 full=1]]",
            Reply {
                put_off: PutOff { times: 2, after: Some(Duration::from_millis(50)) },
                compaction: Some(Compaction::AfterStep),
                ..Reply::default()
            },
        );
        check(
            "[[tool=1 ask=1]]",
            Reply {
                tools: vec![ToolCall { runs_for: Duration::from_millis(100), asks: true, child: false }],
                ..Reply::default()
            },
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]
        #[test]
        fn generated_deltas_are_distinct_and_large_enough(tag in "[a-zA-Z0-9]{4,8}", bytes in 1_usize..200) {
            let content = Content::Generated { deltas: 300, delta_bytes: bytes };
            let deltas: Vec<_> = (0..content.deltas()).map(|index| content.delta(&tag, index)).collect();
            prop_assert!(deltas.iter().all(|delta| delta.len() >= bytes));
            prop_assert_eq!(deltas.iter().collect::<BTreeSet<_>>().len(), deltas.len());
            let text = deltas.concat();
            prop_assert!(text.contains(&tag));
            prop_assert!(text.chars().count() < text.len());
        }
    }
}

//! How a fake behaves: its script, its models, what things cost.

use std::{rc::Rc, time::Duration};

use super::{
    faults::{Faults, NoFaults},
    observation::Observation,
    script::{Script, by_directives},
};

/// The provider's key, which the real server shows in clear to whoever lists providers. It must never travel on.
pub const PROVIDER_KEY: &str = "sk-fake-never-to-be-published";

/// How one fake behaves.
#[derive(Clone)]
pub struct Options {
    /// Decides all identifiers.
    pub seed: u64,
    /// The machine's wall clock, Unix milliseconds.
    pub clock: Rc<dyn Fn() -> u64>,
    /// What prompts are answered with.
    pub script: Script,
    /// What things cost.
    pub latencies: Latencies,
    /// The directory that the server works in.
    pub directory: String,
    /// `provider/model`, at least one; the first is the default.
    pub models: Vec<String>,
    /// A bug: every session is shown as one of that directory, and every list shows all.
    pub blurs_directories: bool,
    /// Told of everything that happens.
    pub observer: Rc<dyn Fn(&Observation<'_>)>,
    /// Asked what goes wrong.
    pub faults: Rc<dyn Faults>,
}

/// What things cost, in the time of the runtime. Zero costs nothing, not even a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    /// From start to ready (measured 1.3 to 2.1 s).
    pub startup: Duration,
    /// Every request but prompts (measured 1 to 40 ms).
    pub request: Duration,
    /// One creation; concurrent ones queue (measured 3.6 ms alone, 100 at once took 270 ms).
    pub create: Duration,
    /// Until `prompt_async` answers (measured 17 to 26 ms). The message is stored before.
    pub prompt_accept: Duration,
    /// The first prompt of a process (measured 1 s more than later ones).
    pub warm_up: Duration,
    /// From the first `session.idle` to the last part, after an abort or a model error (measured 30 to 55 ms).
    pub settle: Duration,
    /// From the end of a turn to the last `message.updated` of its user message (measured 33 to 58 ms).
    pub summary: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            startup: Duration::from_millis(1500),
            request: Duration::from_millis(3),
            create: Duration::from_millis(4),
            prompt_accept: Duration::from_millis(20),
            warm_up: Duration::from_secs(1),
            settle: Duration::from_millis(40),
            summary: Duration::from_millis(35),
        }
    }
}

impl Latencies {
    /// Everything at once.
    pub const NONE: Self = Self {
        startup: Duration::ZERO,
        request: Duration::ZERO,
        create: Duration::ZERO,
        prompt_accept: Duration::ZERO,
        warm_up: Duration::ZERO,
        settle: Duration::ZERO,
        summary: Duration::ZERO,
    };
}

impl Options {
    /// The measured latencies, two models, replies by directives in the prompt, and nobody who watches.
    pub fn new(seed: u64, clock: Rc<dyn Fn() -> u64>) -> Self {
        Self {
            seed,
            clock,
            script: Rc::new(by_directives),
            latencies: Latencies::default(),
            directory: "/project".into(),
            blurs_directories: false,
            models: vec!["fake/m1".into(), "fake/m2".into()],
            observer: Rc::new(|_| ()),
            faults: Rc::new(NoFaults),
        }
    }
}

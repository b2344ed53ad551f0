//! Everything that happened in a run, in order: one [`Fact`] after the other.
//!
//! Facts are written as JSON, one line each. The SHA-256 of these lines is the trace hash: two runs are the same run
//! exactly if their hashes are equal. Measurements of the heap are left out of it: they repeat to the last byte in one
//! binary (`--check-determinism` compares them too), but follow the compiler and the profile; the hash is the same on
//! every machine and in every profile. Inside one host, times never decrease; between hosts they may differ by up to one
//! tick, because hosts take turns.

mod digest;
mod event;
mod name;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use digest::{Digest, RunningDigest};
pub use event::{Caller, Event, Exit, Phase, ReplyOutcome, TurnState};
pub use name::{Name, Names};

/// Simulated time since the start of the run, in microseconds.
pub type Micros = u64;

/// The facts kept in memory for stories; older ones are dropped. The hash and the file have them all.
const KEPT_FACTS: usize = 200_000;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Fact {
    /// When (µs of simulated time).
    pub at: Micros,
    /// Where: `convex`, `worker-N`, `opencode-N`, or `world` for what the simulator itself did.
    pub host: Name,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(f, "{seconds:>5}.{micros:06} {:<10} {}", self.host, self.event)
    }
}

/// The facts of a run.
#[derive(Debug, Default)]
pub struct Trace {
    kept: VecDeque<Fact>,
    recorded: u64,
    hash: Sha256,
    line: Vec<u8>,
    file: Option<BufWriter<File>>,
    failed: Option<io::Error>,
}

impl Trace {
    /// A trace that is also written to `path`.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Some(BufWriter::new(File::create(path)?)), ..Self::default() })
    }

    /// Adds a fact.
    pub fn record(&mut self, fact: Fact) {
        self.line.clear();
        serde_json::to_writer(&mut self.line, &fact).expect("a fact is plain data");
        self.line.push(b'\n');
        if !matches!(fact.event, Event::Heap { .. }) {
            self.hash.update(&self.line);
        }
        self.write_line();
        if self.kept.len() == KEPT_FACTS {
            self.kept.pop_front();
        }
        self.kept.push_back(fact);
        self.recorded += 1;
    }

    fn write_line(&mut self) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(&self.line) {
            self.failed = Some(error);
            self.file = None;
        }
    }

    /// How many facts were recorded.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The facts still in memory, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Fact> {
        self.kept.iter()
    }

    /// The last `limit` facts that mention one of `names`, oldest first: the story of a violation. Of what is measured
    /// again and again there is only the last.
    #[must_use]
    pub fn story(&self, names: &[Name], limit: usize) -> Vec<Fact> {
        let related = |fact: &&Fact| names.iter().any(|name| fact.host == *name || fact.event.mentions(name));
        let mut measured = BTreeSet::new();
        let mut is_new = |fact: &&Fact| fact.event.measured().is_none_or(|what| measured.insert(what));
        let facts = self.kept().rev().filter(related).filter(|fact| is_new(fact));
        let mut facts: Vec<_> = facts.take(limit).cloned().collect();
        facts.reverse();
        facts
    }

    /// The hash over all lines so far but those of the heap, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// The first error that came while writing the file, if any.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.file.as_mut().map_or(Ok(()), BufWriter::flush),
        }
    }
}

/// The worker that owns an OpenCode host: `opencode-3` belongs to `worker-3`.
#[must_use]
pub fn worker_of(host: &str) -> Option<String> {
    host.strip_prefix("opencode-").map(|number| format!("worker-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(at: Micros, turn: &str) -> Fact {
        let event = Event::PersonEnded { session: Name::from(turn) };
        Fact { at, host: Name::from("convex"), event }
    }

    #[test]
    fn a_fact_is_one_flat_line() {
        let line = serde_json::to_string(&fact(1_500_000, "s1")).unwrap();
        insta::assert_snapshot!(line, @r#"{"at":1500000,"host":"convex","event":"person-ended","session":"s1"}"#);
        insta::assert_snapshot!(fact(1_500_000, "s1"), @"    1.500000 convex     person-ended session=s1");
    }

    #[test]
    fn the_hash_follows_content_and_order() {
        let hash = |facts: &[Fact]| {
            let mut trace = Trace::default();
            facts.iter().cloned().for_each(|fact| trace.record(fact));
            trace.hash()
        };
        assert_eq!(hash(&[fact(1, "a"), fact(2, "b")]), hash(&[fact(1, "a"), fact(2, "b")]));
        assert_ne!(hash(&[fact(1, "a"), fact(2, "b")]), hash(&[fact(2, "b"), fact(1, "a")]));
        assert_ne!(hash(&[fact(1, "a")]), hash(&[fact(2, "a")]));
    }

    #[test]
    fn the_hash_does_not_follow_the_heap() {
        let heap = |live| Event::Heap { worker: Name::from("worker-1"), live, peak: live };
        let hash = |live| {
            let mut trace = Trace::default();
            trace.record(Fact { event: heap(live), ..fact(1, "a") });
            trace.record(fact(2, "b"));
            (trace.hash(), trace.recorded())
        };
        assert_eq!(hash(1), hash(2));
    }

    #[test]
    fn a_story_has_the_last_related_facts_in_order() {
        let mut trace = Trace::default();
        (0..10).for_each(|n| trace.record(fact(n, if n % 2 == 0 { "even" } else { "odd" })));
        let story = trace.story(&[Name::from("odd")], 3);
        assert_eq!(story.iter().map(|fact| fact.at).collect::<Vec<_>>(), [5, 7, 9]);
    }

    #[test]
    fn a_digest_does_not_depend_on_where_a_text_was_cut() {
        let mut running = RunningDigest::default();
        ["he", "", "llo"].iter().for_each(|part| running.push(part));
        assert_eq!(running.digest(), Digest::of("hello"));
        assert_ne!(Digest::of("hello"), Digest::of("hallo"));
    }

    #[test]
    fn the_file_holds_what_was_hashed() {
        let path = tempfile::tempdir().unwrap().keep().join("trace.jsonl");
        let mut trace = Trace::to_file(&path).unwrap();
        trace.record(fact(1, "a"));
        trace.flush().unwrap();
        let written = std::fs::read(&path).unwrap();
        let hash = hex::encode(Sha256::digest(&written));
        assert_eq!(hash, trace.hash());
    }
}

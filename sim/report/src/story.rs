//! A violation told for people: who did what, when, on which host; with short names instead of identifiers.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::format::{seconds, size};
use sim_model::trace::{Caller, Event, Exit, Micros, Name, Phase, ReplyOutcome, TurnState};
use sim_oracles::Violation;

/// Characters of a text that are quoted.
const QUOTED: usize = 40;

/// A violation and what led to it.
pub(super) struct Story {
    /// What happened and what should have been.
    pub(super) message: String,
    /// What led to it, oldest first.
    pub(super) lines: Vec<Line>,
    /// Short names, and the identifiers that they stand for.
    pub(super) names: Vec<(String, Name)>,
}

/// A fact of a story.
pub(super) struct Line {
    /// How long before the violation.
    pub(super) when: String,
    /// On which host.
    pub(super) place: Name,
    /// What happened there.
    pub(super) what: String,
}

/// Tells the violation.
pub(super) fn tell(violation: &Violation) -> Story {
    let mut names = ShortNames::default();
    let lines = violation.story.iter().map(|fact| Line {
        when: before(violation.at, fact.at),
        place: Name::clone(&fact.host),
        what: names.sentence(&fact.event),
    });
    let lines = lines.collect();
    let message = names.shorten(&violation.message);
    Story { message, lines, names: names.known }
}

impl Story {
    /// The lines in aligned columns, and the legend.
    pub(super) fn columns(&self, indent: &str) -> String {
        let width = |of: fn(&Line) -> usize| self.lines.iter().map(of).max().unwrap_or(0);
        let (when, place) = (width(|line| line.when.len()), width(|line| line.place.len()));
        let mut text = String::new();
        for line in &self.lines {
            let _ = writeln!(text, "{indent}{:>when$}  {:<place$}  {}", line.when, line.place, line.what);
        }
        for (short, name) in &self.names {
            let _ = writeln!(text, "{indent}({short} is {name})");
        }
        text
    }
}

/// The time from a fact to the violation, as a negative number: `-1.204 s`.
fn before(violation: Micros, fact: Micros) -> String {
    let millis = violation.saturating_sub(fact) / 1000;
    let sign = if millis == 0 { "" } else { "-" };
    format!("{sign}{}.{:03} s", millis / 1000, millis % 1000)
}

/// Short names in the order in which they are first needed.
#[derive(Default)]
struct ShortNames {
    counts: BTreeMap<&'static str, usize>,
    known: Vec<(String, Name)>,
}

impl ShortNames {
    fn of(&mut self, kind: &'static str, name: &Name) -> String {
        if let Some((short, _)) = self.known.iter().find(|(_, known)| known == name) {
            return short.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let short = format!("{kind} {count}");
        self.known.push((short.clone(), Name::clone(name)));
        short
    }

    /// `text` with every identifier replaced that has a short name.
    fn shorten(&self, text: &str) -> String {
        let again = |text: String, (short, name): &(String, Name)| {
            // "turn ph93…" becomes "turn 1", not "turn turn 1".
            let kind = short.rsplit_once(' ').map_or("", |(kind, _)| kind);
            text.replace(&format!("{kind} {name}"), short).replace(&**name, short)
        };
        self.known.iter().fold(text.to_owned(), again)
    }

    /// What happened, as a sentence.
    fn sentence(&mut self, event: &Event) -> String {
        match event {
            Event::Sent { turn, session, text, .. } => {
                let (turn, session) = (self.of("turn", turn), self.of("session", session));
                format!("a person sends {} to {session}: {turn}", quoted(text))
            }
            Event::PersonEnded { session } => format!("a person ends {}", self.of("session", session)),
            Event::ConnectAsked { worker } => format!("its owner asks {worker} to connect"),
            Event::TurnChanged { .. } => self.turn_changed(event),
            Event::ChunkWritten { turn, sequence, bytes, .. } => {
                format!("{}: chunk {sequence} is stored, {}", self.of("turn", turn), size(*bytes))
            }
            Event::SessionLinked { session, opencode_session } => {
                let session = self.of("session", session);
                format!("{session} is linked with {}", self.of("OpenCode session", opencode_session))
            }
            Event::SessionIs { session, opencode_session, title, .. } => {
                let session = self.of("session", session);
                let link = opencode_session.as_ref().map_or_else(
                    || "no OpenCode session".to_owned(),
                    |link| self.of("OpenCode session", link),
                );
                format!("{session} is called {} and has {link}", quoted(title))
            }
            Event::OpencodeSessionIs { opencode_session, title } => {
                format!("{} is called {}", self.of("OpenCode session", opencode_session), quoted(title))
            }
            Event::OpencodeSessionDeleted { opencode_session } => {
                format!("{} is deleted", self.of("OpenCode session", opencode_session))
            }
            Event::CreateEnded { opencode_session: Some(opencode_session), in_flight } => {
                format!(
                    "{} is created, {in_flight} more under way",
                    self.of("OpenCode session", opencode_session)
                )
            }
            Event::Prompted { opencode_session, message, text } => {
                let session = self.of("OpenCode session", opencode_session);
                format!("{session} is prompted with {}: {}", quoted(text), self.of("prompt", message))
            }
            Event::ReplyEnded { opencode_session, message, outcome, .. } => {
                let outcome = match outcome {
                    ReplyOutcome::Finished => "answered in full",
                    ReplyOutcome::Failed => "ended by an error of the model",
                    ReplyOutcome::Aborted => "stopped as asked",
                    ReplyOutcome::Lost => "lost with the server",
                };
                let message = self.of("prompt", message);
                format!("{message} of {} is {outcome}", self.of("OpenCode session", opencode_session))
            }
            Event::Aborted { opencode_session } => {
                format!("{} is asked to stop", self.of("OpenCode session", opencode_session))
            }
            other => plain(other),
        }
    }

    fn turn_changed(&mut self, event: &Event) -> String {
        let Event::TurnChanged { turn, session, worker, from, to, epoch, chunks, error } = event else {
            return event.to_string();
        };
        let (turn, session) = (self.of("turn", turn), self.of("session", session));
        let mut text = format!("{turn} of {session}: {} → {}", state(*from), state(*to));
        if *to == TurnState::Claimed {
            let _ = write!(text, " by {worker}");
        }
        let details = [
            epoch.map(|epoch| format!("epoch {epoch}")),
            chunks.map(|chunks| format!("{chunks} chunks")),
            error.as_ref().map(|error| quoted(error)),
        ];
        details.into_iter().flatten().for_each(|detail| {
            let _ = write!(text, ", {detail}");
        });
        text
    }
}

/// What happened, where no identifier needs a name. Facts that are plain enough are told as they stand in the trace.
fn plain(event: &Event) -> String {
    match event {
        Event::EpochBegan { worker, epoch, .. } => format!("{worker} registers: epoch {epoch} begins"),
        Event::Ready { worker, epoch } => format!("{worker} is ready in epoch {epoch}"),
        Event::Offline { worker } => format!("{worker} is set offline"),
        Event::Executed { .. } => executed(event),
        Event::Connected { client } => format!("{client} connects"),
        Event::Disconnected { client } => format!("{client} is disconnected"),
        Event::ServerStarted => "the OpenCode server answers".into(),
        Event::ServerStopped => "the OpenCode server is gone".into(),
        Event::Request { method, path, status } => format!("{method} {path} is answered with {status}"),
        Event::CreateStarted { in_flight } => format!("a session is being created, {in_flight} at once"),
        Event::EventStreamOpened => "an event stream is opened".into(),
        Event::EventStreamClosed => "an event stream is closed".into(),
        Event::SessionsListed { count } => format!("{count} sessions are listed"),
        Event::ModelsListed => "the models are listed".into(),
        Event::WorkerStarted { worker, start } => {
            format!("{worker} starts, for the {} time", ordinal(*start))
        }
        Event::Lifecycle { worker, state } => format!("{worker} is {state}"),
        Event::Heap { worker, live, peak } => {
            let [live, peak] = [live, peak].map(|bytes| size(bytes.unsigned_abs()));
            format!("{worker} holds {live}, at most {peak} of late")
        }
        Event::Cache { worker, sessions } => format!("{worker} remembers {sessions} sessions"),
        Event::Transferred { worker, peer, sent, received } => {
            let [sent, received] = [sent, received].map(|bytes| size(*bytes));
            format!("{worker} has sent {sent} to {peer} and received {received}")
        }
        Event::Killed { worker } => format!("{worker} is killed"),
        Event::StopAsked { worker } => format!("{worker} is asked to stop"),
        Event::Exited { worker, exit: Exit::Stopped } => format!("{worker} has stopped"),
        Event::Exited { worker, exit: Exit::Failed(error) } => format!("{worker} fails: {error}"),
        Event::PhaseBegan { phase } => match phase {
            Phase::Safety => "the run begins".into(),
            Phase::Liveness => "everything is healed: from now on all must come to its end".into(),
            Phase::Closing => "the workers are asked to end".into(),
        },
        other => other.to_string(),
    }
}

fn executed(event: &Event) -> String {
    let Event::Executed {
        function, caller, documents_read, documents_written, attempts, rerun, error, ..
    } = event
    else {
        return event.to_string();
    };
    let who = match caller {
        Caller::Worker(worker) => worker.to_string(),
        Caller::Person => "a person".into(),
        Caller::Scheduler => "the scheduler".into(),
        Caller::Unknown => "someone unknown".into(),
    };
    let mut text = match rerun {
        true => format!("{function} runs again for {who}"),
        false => format!("{who} calls {function}"),
    };
    let _ = write!(text, " ({documents_read} documents read, {documents_written} written");
    if *attempts > 1 {
        let _ = write!(text, ", {attempts} attempts");
    }
    text.push(')');
    if let Some(error) = error {
        let _ = write!(text, ", refused: {}", quoted(error));
    }
    text
}

fn state(state: TurnState) -> &'static str {
    match state {
        TurnState::Pending => "pending",
        TurnState::Claimed => "claimed",
        TurnState::Completed => "completed",
        TurnState::Failed => "failed",
        TurnState::Expired => "expired",
    }
}

fn ordinal(number: u64) -> String {
    match number {
        1 => "first".into(),
        2 => "second".into(),
        3 => "third".into(),
        _ => format!("{number}th"),
    }
}

/// The beginning of a text.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED).collect();
    let rest = if short.len() < text.len() { "…" } else { "" };
    format!("“{short}{rest}”")
}

/// The violation's moment and how it is told in columns, for reports that are text.
pub(super) fn text(violation: &Violation, indent: &str) -> String {
    let story = tell(violation);
    let mut text = format!("{indent}{}\n", story.message);
    if !story.lines.is_empty() {
        let _ = write!(
            text,
            "\n{indent}what led to it, until {}:\n{}",
            seconds(violation.at),
            story.columns(indent)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_model::trace::Fact;
    use sim_oracles::Class;

    fn name(text: &str) -> Name {
        Name::from(text)
    }

    #[test]
    fn a_story_names_things_and_tells_how_long_before_they_happened() {
        let (turn, session, worker) = (name("ph9turn"), name("ph8session"), name("worker-1"));
        let sent = Event::Sent {
            turn: turn.clone(),
            session: session.clone(),
            worker: worker.clone(),
            created: 0.0,
            text: name("message 0.7: please read all of this, it goes on and on"),
        };
        let claimed = Event::TurnChanged {
            turn: turn.clone(),
            session,
            worker: worker.clone(),
            from: TurnState::Pending,
            to: TurnState::Claimed,
            epoch: Some(2),
            chunks: None,
            error: None,
        };
        let prompted =
            || Event::Prompted { opencode_session: name("ses_1"), message: name("msg_1"), text: name("hi") };
        let executed = Event::Executed {
            function: name("chat:claim"),
            caller: Caller::Worker(worker.clone()),
            documents_read: 5,
            bytes_read: 100,
            documents_written: 1,
            bytes_written: 7,
            attempts: 2,
            rerun: false,
            identity: None,
            epoch: None,
            error: None,
        };
        let facts = [
            (300_000, "convex", sent),
            (1_000_000, "convex", claimed),
            (1_000_000, "convex", executed),
            (1_400_000, "opencode-1", prompted()),
            (1_504_000, "worker-1", Event::Killed { worker }),
            (13_504_000, "opencode-1", prompted()),
        ];
        let fact = |(at, host, event)| Fact { at, host: name(host), event };
        let violation = Violation {
            oracle: "stale".into(),
            class: Class::Safety,
            at: 13_504_000,
            message: "turn ph9turn was prompted twice, in ses_1".into(),
            story: facts.map(fact).into(),
        };
        insta::assert_snapshot!(text(&violation, "  "));
    }

    #[test]
    fn a_story_without_facts_is_the_message() {
        let (class, message) = (Class::Safety, "a worker panicked".to_owned());
        let violation = Violation { oracle: "no-panic".into(), class, at: 7, message, story: Vec::new() };
        assert_eq!(text(&violation, "  "), "  a worker panicked\n");
    }
}

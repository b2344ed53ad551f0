//! Recognises marks in the stream of facts.

use crate::marks::known::Known;
use sim_model::trace::{Caller, Event, Fact, Micros, ReplyOutcome, TurnState, worker_of};

/// What counts as at the same time for a race.
const RACE: Micros = 1_000_000;
/// A creation that follows another one by so much may have waited for its second to pass.
const THROTTLED: Micros = 1_100_000;

type Reach<'a> = dyn FnMut(&'static str) + 'a;

/// Marks that are a matter of what was known before the fact.
pub(super) fn before(fact: &Fact, known: &Known, reach: &mut Reach<'_>) {
    match &fact.event {
        Event::Killed { worker } => {
            for turn in known.in_progress(worker) {
                reach(match (turn.prompted, turn.replied, turn.has_chunk) {
                    (false, ..) => "kill-before-prompt",
                    (_, true, _) => "kill-after-reply",
                    (_, _, true) => "kill-in-mid-reply",
                    _ => continue,
                });
            }
        }
        Event::StopAsked { worker } if known.in_progress(worker).next().is_some() => {
            reach("stop-in-mid-turn")
        }
        Event::PersonEnded { session } if known.is_in_progress(session) => reach("ended-in-mid-turn"),
        Event::TurnChanged { to: TurnState::Expired, from, .. } => reach(match from {
            TurnState::Claimed => "abandoned-turn-expired",
            _ => "stale-turn-expired",
        }),
        Event::Connected { client } => {
            let again = known.known_worker(client).is_some_and(|worker| worker.up && worker.connected_before);
            again.then(|| reach("reconnected"));
        }
        Event::Lifecycle { worker, state } if &**state == "Ready" => {
            known.known_worker(worker).is_some_and(|worker| worker.recovering).then(|| reach("recovered"));
        }
        _ => {}
    }
    at_backend(fact, reach);
    at_opencode(fact, known, reach);
}

fn at_backend(fact: &Fact, reach: &mut Reach<'_>) {
    match &fact.event {
        Event::Replayed { .. } => reach("mutation-replayed"),
        Event::TurnChanged { error: Some(error), .. } if &**error == "session_not_created" => {
            reach("create-failed");
        }
        Event::Executed { attempts: 2.., error: None, .. } => reach("conflict-retried"),
        Event::Executed { error: Some(error), .. } if &**error == "OptimisticConcurrencyControlFailure" => {
            reach("conflict-failed");
        }
        Event::Executed { function, caller: Caller::Worker(_), error: Some(error), .. } => {
            let is_write = &**function != "chat:subscribeToWorkerMessages";
            (is_write && &**error == "superseded").then(|| reach("zombie-write-refused"));
        }
        Event::Executed { function, documents_written: 0, error: None, .. }
            if &**function == "chat:claim" =>
        {
            reach("claim-in-vain");
        }
        _ => {}
    }
}

fn at_opencode(fact: &Fact, known: &Known, reach: &mut Reach<'_>) {
    let machine = worker_of(&fact.host).and_then(|worker| known.known_worker(&worker));
    match &fact.event {
        Event::Aborted { .. } => reach("abort"),
        Event::ReplyEnded { outcome: ReplyOutcome::Failed, .. } => reach("model-error"),
        Event::Request { status: 500.., .. } => reach("server-error"),
        Event::Request { status: 404, path, .. } if path.contains("prompt") => reach("session-vanished"),
        Event::ServerStopped => {
            let crashed = machine.is_some_and(|m| m.up && !m.stopping && !m.replies.is_empty());
            crashed.then(|| reach("server-crash-in-mid-reply"));
        }
        Event::EventStreamOpened => {
            let is_gap = machine.is_some_and(|m| m.replies.values().any(|is_watched| !is_watched));
            is_gap.then(|| reach("stream-gap-in-mid-reply"));
        }
        _ => {}
    }
}

/// Marks that are a matter of what is known after the fact.
pub(super) fn after(fact: &Fact, known: &mut Known, reach: &mut Reach<'_>) {
    match &fact.event {
        Event::TurnChanged { worker, to: TurnState::Claimed, .. } => {
            let is_full = known.in_progress(worker).count() == known.places;
            is_full.then(|| reach("places-full"));
            let stopped = known.worker(worker).idle_stop.take();
            let raced = stopped.is_some_and(|stopped| fact.at.saturating_sub(stopped) <= RACE);
            raced.then(|| reach("idle-stop-raced"));
        }
        Event::Sent { worker, .. } => {
            let window = known.window;
            (known.worker(worker).ready == window + 1).then(|| reach("window-full"));
        }
        Event::SessionLinked { opencode_session, .. } => {
            let recreated = known.link(opencode_session);
            recreated.then(|| reach("session-recreated"));
        }
        _ => {}
    }
    let (cached, per_second) = (known.cached, known.creates_per_second);
    let Some(name) = worker_of(&fact.host) else { return };
    let machine = known.worker(&name);
    match &fact.event {
        Event::Prompted { .. } => (machine.sessions_used.len() == cached + 1).then(|| reach("cache-evicted")),
        Event::ServerStopped => {
            let claimed = machine.last_claim.is_some_and(|claim| fact.at.saturating_sub(claim) <= RACE);
            (machine.idle_stop.is_some() && claimed).then(|| reach("idle-stop-raced"))
        }
        Event::Request { status: 404, path, .. } if path.contains("prompt") => {
            machine.vanished += 1;
            None
        }
        Event::CreateStarted { .. } if machine.creations.len() > per_second => {
            let first = machine.creations.pop_front().expect("more than none");
            (fact.at.saturating_sub(first) <= THROTTLED).then(|| reach("create-throttled"))
        }
        _ => None,
    };
}

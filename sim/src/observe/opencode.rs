//! Facts of an OpenCode machine.

use std::rc::Rc;

use crate::recorder::Recorder;
use fake_opencode::{Observation, ReplyOutcome as Fake};
use sim_model::trace::{Digest, Event, Name, ReplyOutcome};
use sim_oracles::Class;

/// An observer that records what happens at `host`.
pub fn observer(recorder: Recorder, host: Name) -> Rc<dyn Fn(&Observation<'_>)> {
    Rc::new(move |observation| {
        if let Observation::Refused { method, route, what } = observation {
            let message = format!("{host} does not model {what} ({method} {route}): this run proves nothing");
            recorder.raise("fidelity", Class::Safety, message);
            return;
        }
        if let Some(event) = event(&recorder, observation) {
            recorder.record(&host, event);
        }
    })
}

fn event(recorder: &Recorder, observation: &Observation<'_>) -> Option<Event> {
    let name = |text: &str| recorder.name(text);
    Some(match *observation {
        Observation::ServerStarted { .. } => Event::ServerStarted,
        Observation::ServerStopped { .. } => Event::ServerStopped,
        Observation::Request { method, route, status } => {
            Event::Request { method: name(method), path: name(route), status }
        }
        Observation::CreateStarted { in_flight } => Event::CreateStarted { in_flight: in_flight as u64 },
        Observation::CreateEnded { session, in_flight } => {
            Event::CreateEnded { opencode_session: session.map(name), in_flight: in_flight as u64 }
        }
        Observation::Prompted { session, message, text } => {
            Event::Prompted { opencode_session: name(session), message: name(message), text: name(text) }
        }
        Observation::ReplyEnded { session, message, text, outcome } => Event::ReplyEnded {
            opencode_session: name(session),
            message: name(message),
            reply: Digest::of(text),
            outcome: translate(outcome),
        },
        Observation::Aborted { session } => Event::Aborted { opencode_session: name(session) },
        Observation::EventStreamOpened { .. } => Event::EventStreamOpened,
        Observation::EventStreamClosed { .. } => Event::EventStreamClosed,
        Observation::SessionStands { session, title } => {
            Event::OpencodeSessionIs { opencode_session: name(session), title: name(title) }
        }
        Observation::SessionDeleted { session } => {
            Event::OpencodeSessionDeleted { opencode_session: name(session) }
        }
        Observation::SessionsListed { count } => Event::SessionsListed { count: count as u64 },
        Observation::ModelsListed => Event::ModelsListed,
        Observation::Said { .. } | Observation::Refused { .. } => return None,
    })
}

fn translate(outcome: Fake) -> ReplyOutcome {
    match outcome {
        Fake::Completed => ReplyOutcome::Finished,
        Fake::Aborted => ReplyOutcome::Aborted,
        Fake::ModelError(_) | Fake::UnknownModel | Fake::PermissionRefused => ReplyOutcome::Failed,
        Fake::SessionDeleted => ReplyOutcome::Lost,
    }
}

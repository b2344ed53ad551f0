//! What a run is made of, in words: the options that are printed before it and stand in its report.

use crate::format::percent;
use sim_model::{
    Label,
    fault_plan::FaultPlan,
    scenario::{Replies, Scenario},
    seed::Seed,
    units::Time,
};

/// What makes replies unusual, as far as the scenario has it.
fn unusual(replies: &Replies) -> String {
    let shares = [
        (replies.asks, "ask for permission"),
        (replies.asks_in_child, "ask in a child"),
        (replies.tools, "use tools"),
        (replies.reasoning, "think"),
        (replies.empty, "are empty"),
        (replies.put_off, "are put off"),
        (replies.full, "fill the context"),
        (replies.too_long, "are too long at first"),
    ];
    let present = shares.into_iter().filter(|(share, _)| share.0 > 0.0);
    present.map(|(share, what)| format!(", {} {what}", percent(share.0))).collect()
}

/// What a scenario runs with, for people: drawn and fixed options alike.
#[must_use]
pub fn options(scenario: &Scenario, seed: Seed) -> Vec<(Label, String)> {
    let (population, workload, replies) = (&scenario.population, &scenario.workload, &scenario.replies);
    let plan = FaultPlan::draw(scenario, seed);
    let network =
        format!("tick {}, latency {} to {}", Time(scenario.tick), scenario.latency.min, scenario.latency.max);
    let sessions = format!(
        "{}, {} missing in OpenCode, {} only there, {} old messages each",
        population.sessions,
        population.missing_in_opencode.get_ref(),
        population.only_in_opencode,
        population.old_messages_per_session,
    );
    let stale = format!(
        "{} pending, {} claimed",
        population.stale_pending.get_ref(),
        population.stale_claimed.get_ref()
    );
    let written = match workload.messages.get_ref().len() {
        0 => String::new(),
        count => format!("{count} written in full, "),
    };
    let unknown = match workload.unknown_models.0 {
        0.0 => String::new(),
        share => format!(", {} choose a model that is not there", percent(share)),
    };
    let turns = format!(
        "{written}{} from {} to {}, {:?} over time, {:?} over sessions{unknown}",
        workload.turns,
        workload.from.get_ref(),
        Time(scenario.workload_until),
        workload.arrival,
        workload.spread,
    );
    let said = format!(
        "{} to {} deltas, {} to {}, first after {} to {}, then every {} to {}, {} fail{}",
        replies.deltas.min,
        replies.deltas.max,
        replies.bytes.min,
        replies.bytes.max,
        replies.first_token.min,
        replies.first_token.max,
        replies.pace.min,
        replies.pace.max,
        percent(replies.model_errors.0),
        unusual(replies),
    );
    let mut options = vec![
        ("duration".into(), Time(scenario.duration).to_string()),
        ("network".into(), network),
        ("workers".into(), format!("{} ({:?})", scenario.workers, scenario.kind)),
        ("sessions".into(), sessions),
        ("stale turns".into(), stale),
        ("turns".into(), turns),
        ("replies".into(), said),
        ("faults".into(), plan.describe()),
    ];
    if scenario.swarm.is_some() {
        options.push(("swarm".into(), plan.describe_swarm()));
    }
    options
}

//! From the scenario's times to real ones. Pure.

use std::time::Duration;

use sim_model::{
    fault::FaultKind,
    fault_plan::PlannedFault,
    scenario::{Replies, Scenario},
    units::{Between, Time},
    workload_plan::WorkloadPlan,
};

/// How long people and restarts are at work.
pub(super) fn duration(scenario: &Scenario, scale: f64, limit: Option<Duration>) -> Duration {
    let whole = scenario.duration.div_f64(scale);
    limit.map_or(whole, |limit| whole.min(limit))
}

/// What people do before `end`.
pub(super) fn plan(mut plan: WorkloadPlan, scale: f64, end: Duration) -> WorkloadPlan {
    plan.messages.iter_mut().for_each(|message| message.at = message.at.div_f64(scale));
    plan.ends.iter_mut().for_each(|ended| ended.at = ended.at.div_f64(scale));
    plan.connects.iter_mut().for_each(|request| request.at = request.at.div_f64(scale));
    plan.messages.retain(|message| message.at < end);
    plan.ends.retain(|ended| ended.at < end);
    plan.connects.retain(|request| request.at < end);
    plan
}

/// The ends of workers before `end`. No other fault can be brought about in real time.
pub(super) fn restarts(faults: Vec<PlannedFault>, scale: f64, end: Duration) -> Vec<PlannedFault> {
    let ends = |fault: &PlannedFault| {
        matches!(fault.kind, FaultKind::Kill | FaultKind::Stop | FaultKind::RollingRestart)
    };
    let scaled = faults.into_iter().filter(ends).map(|fault| PlannedFault {
        at: fault.at.div_f64(scale),
        lasts: fault.lasts.div_f64(scale),
        ..fault
    });
    scaled.filter(|fault| fault.at < end).collect()
}

/// How fast the models are.
pub(super) fn replies(replies: &Replies, scale: f64) -> Replies {
    let times = |between: Between<Time>| Between {
        min: Time(between.min.0.div_f64(scale)),
        max: Time(between.max.0.div_f64(scale)),
    };
    Replies { first_token: times(replies.first_token), pace: times(replies.pace), ..replies.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_model::{fault_plan::FaultPlan, seed::Seed};

    fn planned(scenario: &Scenario) -> Vec<PlannedFault> {
        FaultPlan::draw(scenario, Seed(1)).faults
    }

    fn scenario() -> Scenario {
        let source = "duration = '100s'\n[workload]\nturns = 50\nend_sessions = 3\n\
                      [[faults]]\nat = '20s'\nkind = 'kill'\n[[faults]]\nat = '80s'\nkind = 'stop'\nfor = '4s'";
        Scenario::parse("some.toml", "some", source).unwrap()
    }

    #[test]
    fn twice_as_fast_is_everything_in_half_the_time() {
        let (scenario, whole) = (scenario(), WorkloadPlan::draw(&scenario(), Seed(1), 0));
        let end = duration(&scenario, 2.0, None);
        assert_eq!(end, Duration::from_secs(50));
        let fast = plan(whole.clone(), 2.0, end);
        assert_eq!((fast.messages.len(), fast.ends.len()), (50, 3));
        assert!(
            whole.messages.iter().zip(&fast.messages).all(|(slow, fast)| slow.at.div_f64(2.0) == fast.at)
        );
        let restarts = restarts(planned(&scenario), 2.0, end);
        let times = restarts.iter().map(|restart| (restart.at.as_secs(), restart.lasts.as_secs()));
        assert_eq!(times.collect::<Vec<_>>(), [(10, 1), (40, 2)]);
        let models = replies(&scenario.replies, 2.0);
        assert_eq!(models.pace.max.0 * 2, scenario.replies.pace.max.0);
    }

    #[test]
    fn a_limit_cuts_what_comes_after_it() {
        let scenario = scenario();
        let end = duration(&scenario, 1.0, Some(Duration::from_secs(30)));
        assert_eq!(end, Duration::from_secs(30));
        let cut = plan(WorkloadPlan::draw(&scenario, Seed(1), 0), 1.0, end);
        assert!((1..50).contains(&cut.messages.len()));
        assert!(cut.messages.iter().all(|message| message.at < end));
        assert_eq!(restarts(planned(&scenario), 1.0, end).len(), 1);
        assert_eq!(duration(&scenario, 1.0, Some(Duration::from_secs(900))), Duration::from_secs(100));
    }
}

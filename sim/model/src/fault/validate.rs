//! Whether the faults of a scenario make sense.

use std::time::Duration;

use toml::Spanned;

use crate::{
    diagnostics::{Complaint, require},
    fault::{
        kind::FaultKind,
        schema::{Fault, Swarm},
    },
    units::Time,
};

/// Faults that one entry of a scenario may draw.
const MAX_DRAWN: u64 = 10_000;

/// What a scenario gives its faults to live in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) workers: u64,
    pub(crate) duration: Duration,
}

/// Checks one entry.
pub(crate) fn fault(fault: &Fault, frame: Frame) -> Result<(), Complaint> {
    let Frame { workers, duration } = frame;
    require(
        (1..=workers).contains(fault.worker.get_ref()),
        &fault.worker,
        "a fault of a worker that does not exist",
        format!("there are {workers}"),
        "workers are counted from 1",
    )?;
    if let Some(at) = &fault.at {
        require(
            at.get_ref().0 < duration,
            at,
            "a fault after the end of the run",
            format!("the run ends at {}", Time(duration)),
            "`at` must be before `duration`",
        )?;
    }
    moments(fault)?;
    window(fault.from.as_ref(), fault.until.as_ref(), duration)?;
    drawn(fault)?;
    particulars(fault)
}

fn moments(fault: &Fault) -> Result<(), Complaint> {
    let (kind, drawn) = (&fault.kind, fault.every.is_some() || fault.count.is_some());
    let scripted = fault.at.is_some() && fault.from.is_none() && fault.until.is_none() && !drawn;
    let windowed = fault.at.is_none() && fault.from.is_some() && fault.until.is_some();
    let label = format!("`{}`", kind.get_ref());
    require(
        scripted || windowed,
        kind,
        "a fault needs a moment or a window",
        label.clone(),
        "give it `at`, or `from` and `until`; with `every` or `count` moments of the window are drawn",
    )?;
    require(
        !(fault.every.is_some() && fault.count.is_some()),
        kind,
        "both `every` and `count` say how often",
        label.clone(),
        "give one of them",
    )?;
    let lasting = !kind.get_ref().is_momentary() && !kind.get_ref().is_of_process();
    require(
        scripted || drawn || lasting,
        kind,
        "a fault of a moment cannot fill a window",
        label.clone(),
        "add `every` or `count`",
    )?;
    match &fault.lasts {
        Some(lasts) => require(
            scripted || drawn,
            lasts,
            "two ways to say how long the fault lasts",
            "the window says it",
            "leave `for` away, or add `every` or `count`",
        ),
        None => Ok(()),
    }
}

fn window(
    from: Option<&Spanned<Time>>,
    until: Option<&Spanned<Time>>,
    duration: Duration,
) -> Result<(), Complaint> {
    let (Some(from), Some(until)) = (from, until) else { return Ok(()) };
    require(
        from.get_ref() < until.get_ref(),
        from,
        "a window that ends before it begins",
        format!("it ends at {}", until.get_ref()),
        "`from` must be before `until`",
    )?;
    require(
        until.get_ref().0 <= duration,
        until,
        "faults after the end of the run",
        format!("the run ends at {}", Time(duration)),
        "`until` must be within `duration`",
    )
}

fn drawn(fault: &Fault) -> Result<(), Complaint> {
    let help = "a run is for minutes or hours of faults, not for all of them at once";
    if let Some(count) = &fault.count {
        let bound = format!("one entry draws 1 to {MAX_DRAWN} faults");
        require((1..=MAX_DRAWN).contains(count.get_ref()), count, bound, "not so many", help)?;
    }
    if let (Some(every), Some(from), Some(until)) = (&fault.every, &fault.from, &fault.until) {
        let (span, length) = (every.get_ref().0, until.get_ref().0.saturating_sub(from.get_ref().0));
        let sound = !span.is_zero() && length.as_nanos() / span.as_nanos() <= u128::from(MAX_DRAWN);
        let bound = format!("one entry draws 1 to {MAX_DRAWN} faults");
        require(sound, every, bound, "not so often", help)?;
    }
    Ok(())
}

/// What only some kinds understand.
fn particulars(fault: &Fault) -> Result<(), Complaint> {
    let kind = *fault.kind.get_ref();
    let strikes = "it is for kinds that strike requests, mutations, events or sessions one by one";
    let has_probability = kind.strikes() || kind == FaultKind::NetworkLoss;
    refuse(has_probability, kind, "probability", fault.probability.as_ref(), strikes)?;
    refuse(kind.strikes(), kind, "times", fault.times.as_ref(), strikes)?;
    refuse(kind.is_of_network(), kind, "link", fault.link.as_ref(), "it is for faults of the network")?;
    refuse(
        kind == FaultKind::Partition,
        kind,
        "direction",
        fault.direction.as_ref(),
        "it is for partitions",
    )?;
    let delays = "it is for `opencode-slow-start`, `opencode-slow-create` and `network-latency`";
    refuse(kind.delays(), kind, "delay", fault.delay.as_ref(), delays)?;
    let large = "it is for `convex-large-transition`";
    refuse(kind == FaultKind::ConvexLargeTransition, kind, "bytes", fault.bytes.as_ref(), large)?;
    refuse(kind == FaultKind::NetworkSlow, kind, "rate", fault.rate.as_ref(), "it is for `network-slow`")?;
    if let Some(rate) = &fault.rate {
        let least = "a line that carries nothing is a `partition` or a `network-hold`";
        require(rate.get_ref().0 > 0, rate, "a rate of nothing", "must be at least 1", least)?;
    }
    refuse(kind == FaultKind::ClockJump, kind, "by", fault.by.as_ref(), "it is for `clock-jump`")?;
    refuse(!kind.is_momentary(), kind, "for", fault.lasts.as_ref(), "the fault is over at once")
}

fn refuse<T>(
    fits: bool,
    kind: FaultKind,
    key: &str,
    value: Option<&Spanned<T>>,
    help: &'static str,
) -> Result<(), Complaint> {
    match value {
        Some(value) => require(fits, value, format!("`{kind}` has no `{key}`"), "not for this kind", help),
        None => Ok(()),
    }
}

/// Checks the swarm.
pub(crate) fn swarm(swarm: &Swarm, frame: Frame) -> Result<(), Complaint> {
    let (faults, kinds) = (&swarm.faults, &swarm.kinds);
    require(
        (1..=MAX_DRAWN).contains(faults.get_ref()),
        faults,
        format!("a swarm draws 1 to {MAX_DRAWN} faults"),
        "not so many",
        "a run is for minutes or hours of faults, not for all of them at once",
    )?;
    window(Some(&swarm.from), Some(&swarm.until), frame.duration)?;
    let weights = kinds.get_ref().values();
    require(
        !kinds.get_ref().is_empty() && weights.clone().all(|weight| weight.is_finite() && *weight > 0.0),
        kinds,
        "a swarm needs kinds with weights above 0",
        "here",
        "leave a kind out to switch it off for every seed",
    )
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    fn complaint(fault: &str) -> String {
        let source = format!("duration = '1min'\n[[faults]]\n{fault}");
        Scenario::parse("some.toml", "some", &source).unwrap_err().render(false)
    }

    #[test]
    fn an_unknown_kind_is_shown_with_what_was_meant() {
        insta::assert_snapshot!(complaint("kind = 'opencode-chrash'\nat = '1s'"), @r"
        error: unknown variant `opencode-chrash`, expected one of `kill`, `stop`, `leave`, `rolling-restart`, `zombie`, `suspend`, `clock-jump`, `opencode-crash`, `opencode-slow-start`, `opencode-errors`, `opencode-rate-limit`, `opencode-hang`, `opencode-slow-create`, `opencode-lost-events`, `opencode-lost-idle`, `opencode-stream-cut`, `opencode-sessions-vanish`, `opencode-permission`, `opencode-model-errors`, `opencode-model-hangs`, `opencode-abort-ignored`, `opencode-prompt-lost`, `mutation-lost`, `mutation-unanswered`, `mutation-unseen`, `convex-conflicts`, `convex-function-errors`, `convex-close`, `convex-overload`, `convex-auth-error`, `convex-restart`, `convex-large-transition`, `partition`, `network-hold`, `network-latency`, `network-reset`, `network-syn-loss`, `network-dead-address`, `network-slow`, `network-loss`
         --> some.toml:3:8
          |
        3 | kind = 'opencode-chrash'
          |        ^^^^^^^^^^^^^^^^^ no such name
          |
          = help: did you mean `opencode-crash`?
        ");
    }

    #[test]
    fn a_fault_without_a_moment_is_shown() {
        insta::assert_snapshot!(complaint("kind = 'kill'"), @r"
        error: a fault needs a moment or a window
         --> some.toml:3:8
          |
        3 | kind = 'kill'
          |        ^^^^^^ `kill`
          |
          = help: give it `at`, or `from` and `until`; with `every` or `count` moments of the window are drawn
        ");
    }

    #[test]
    fn a_fault_after_the_end_or_of_nobody_is_shown() {
        insta::assert_snapshot!(complaint("kind = 'kill'\nat = '2min'"), @r"
        error: a fault after the end of the run
         --> some.toml:4:6
          |
        4 | at = '2min'
          |      ^^^^^^ the run ends at 1m
          |
          = help: `at` must be before `duration`
        ");
        insta::assert_snapshot!(complaint("kind = 'kill'\nworker = 2\nat = '2s'"), @r"
        error: a fault of a worker that does not exist
         --> some.toml:4:10
          |
        4 | worker = 2
          |          ^ there are 1
          |
          = help: workers are counted from 1
        ");
    }

    #[test]
    fn what_a_kind_does_not_understand_is_shown() {
        insta::assert_snapshot!(complaint("kind = 'kill'\nat = '2s'\nprobability = 0.5"), @r"
        error: `kill` has no `probability`
         --> some.toml:5:15
          |
        5 | probability = 0.5
          |               ^^^ not for this kind
          |
          = help: it is for kinds that strike requests, mutations, events or sessions one by one
        ");
        for wrong in [
            "kind = 'kill'\nat = '2s'\nlink = 'opencode'",
            "kind = 'network-hold'\nat = '2s'\ndirection = 'both'",
            "kind = 'opencode-crash'\nat = '2s'\nfor = '2s'",
            "kind = 'opencode-crash'\nfrom = '2s'\nuntil = '4s'",
            "kind = 'kill'\nfrom = '4s'\nuntil = '2s'\ncount = 2",
            "kind = 'kill'\nfrom = '2s'\nuntil = '4s'\ncount = 2\nevery = '1s'",
            "kind = 'kill'\nfrom = '2s'\nuntil = '4s'\nevery = '1us'",
            "kind = 'clock-jump'\nat = '2s'\nby = 'soon'",
            "kind = 'network-slow'\nat = '2s'\nrate = 0",
            "kind = 'network-loss'\nat = '2s'\nrate = 1",
        ] {
            complaint(wrong);
        }
    }

    #[test]
    fn a_swarm_without_kinds_or_with_a_weight_of_nothing_is_refused() {
        for kinds in ["", "kill = 0", "kill = -1", "kil = 1"] {
            let source = format!(
                "duration = '1min'\n[swarm]\nfaults = 3\nfrom = '1s'\nuntil = '9s'\n[swarm.kinds]\n{kinds}"
            );
            assert!(Scenario::parse("some.toml", "some", &source).is_err(), "{kinds}");
        }
    }
}

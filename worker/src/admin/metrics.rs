//! A worker's numbers as OpenMetrics text, which Prometheus reads. No clock, no I/O.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, gauge::ConstGauge, info::Info},
    registry::Registry,
};

use crate::{
    env::UnixMillis,
    lifecycle::state::Phase,
    telemetry::{Status, phase_name},
};

/// The media type of [`render`]'s text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which program runs.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The commit that it was built from; empty if that is not known.
    pub commit: &'static str,
}

/// One worker's numbers, under the name that it has if there are many.
pub type NamedStatus = (Option<String>, Arc<Status>);

/// All metrics at this moment. `started` is when the process began.
pub fn render(workers: &[NamedStatus], build: Build, started: UnixMillis) -> String {
    let mut registry = Registry::default();
    registry.register(
        "process_start_time_seconds",
        "When the process began, in seconds since the Unix epoch",
        ConstGauge::new(started as f64 / 1000.0),
    );
    let ours = registry.sub_registry_with_prefix("worker");
    let labels = vec![("version", build.version), ("commit", build.commit)];
    ours.register("build", "Which program runs", Info::new(labels));
    let phases = workers.iter().map(|(name, status)| (name.clone(), status.phase())).collect();
    ours.register("phase", "Where the worker is in its life", Phases(phases));
    let mut family = Families { registry: ours, workers };
    let alive = "Whether the main loop comes round: 1, or 0 if it has not for 15 s";
    family.gauge("alive", alive, |status| u64::from(status.is_alive()));
    turns(&mut family);
    sessions(&mut family);
    if workers.iter().any(|(name, _)| name.is_some()) {
        let restarts = |status: &Status| status.restarts.load(Relaxed);
        family.counter("restarts", "Starts of the worker after a crash", restarts);
    }
    let mut family = Families { registry: ours.sub_registry_with_prefix("sync"), workers };
    sync(&mut family);
    let mut family = Families { registry: ours.sub_registry_with_prefix("opencode"), workers };
    server(&mut family);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string can be written to");
    text
}

fn turns(family: &mut Families<'_>) {
    family.counter("turns_claimed", "Turns that were claimed", |s| s.turns_claimed.load(Relaxed));
    family.counter("turns_completed", "Turns that ended with a whole reply", |s| {
        s.turns_completed.load(Relaxed)
    });
    family
        .counter("turns_failed", "Turns that ended without a whole reply", |s| s.turns_failed.load(Relaxed));
    family.counter("turns_expired", "Stale turns that were expired", |s| s.turns_expired.load(Relaxed));
    family.counter("permissions_allowed", "Permission questions answered with yes", |s| {
        s.permissions_allowed.load(Relaxed)
    });
    family.counter("permissions_refused", "Permission questions answered with no", |s| {
        s.permissions_refused.load(Relaxed)
    });
    family.gauge("turns_running", "Turns being run", |s| s.turns_running.load(Relaxed) as u64);
}

fn sessions(family: &mut Families<'_>) {
    family.counter("sessions_created", "OpenCode sessions that were created", |s| {
        s.sessions_created.load(Relaxed)
    });
    family.gauge("sessions_cached", "OpenCode sessions that are remembered", |s| {
        s.sessions_cached.load(Relaxed) as u64
    });
}

fn sync(family: &mut Families<'_>) {
    let help = "Chats that were made for sessions found in OpenCode";
    family.counter("created", help, |s| s.sync.created.load(Relaxed));
    family.counter("renamed", "Titles that OpenCode changed", |s| s.sync.renamed.load(Relaxed));
    family
        .counter("deleted", "Chats whose session was deleted in OpenCode", |s| s.sync.deleted.load(Relaxed));
    family.counter("errors", "Steps of the synchronisation that failed", |s| s.sync.errors.load(Relaxed));
}

fn server(family: &mut Families<'_>) {
    family.counter("starts", "Starts of the OpenCode server that were tried", |s| s.server.starts());
    family
        .counter("failed_starts", "Starts of the OpenCode server that failed", |s| s.server.failed_starts());
    family.counter("losses", "Running OpenCode servers that were lost", |s| s.server.losses());
    family.counter("skipped_events", "Events that could not be read", |s| s.server.skipped_events());
    let alive = "Whether an OpenCode server's process runs";
    family.gauge("alive", alive, |s| u64::from(s.server.is_alive()));
    let ready = "Whether the OpenCode server says what happens: its event stream is open";
    family.gauge("ready", ready, |s| u64::from(s.server.is_ready()));
    let healthy =
        "Whether the OpenCode server did what it was asked last, in time; 0 is no reason to restart it";
    family.gauge("healthy", healthy, |s| u64::from(s.server.is_healthy()));
    family.gauge("generation", "Which start of the OpenCode server runs, or 0", |s| s.server.generation());
    family.gauge("open_streams", "Event streams that are open", |s| s.server.open_streams());
}

/// Registers a number of every worker at once: a metric has one description, however many workers there are.
struct Families<'a> {
    registry: &'a mut Registry,
    workers: &'a [NamedStatus],
}

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&Status) -> u64) {
        self.register(name, help, MetricType::Counter, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&Status) -> u64) {
        self.register(name, help, MetricType::Gauge, value);
    }

    fn register(&mut self, name: &str, help: &str, kind: MetricType, value: impl Fn(&Status) -> u64) {
        let values = self.workers.iter().map(|(worker, status)| (worker.clone(), value(status))).collect();
        self.registry.register(name, help, PerWorker { kind, values });
    }
}

/// One number of each worker.
#[derive(Debug)]
struct PerWorker {
    kind: MetricType,
    values: Vec<(Option<String>, u64)>,
}

impl EncodeMetric for PerWorker {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (worker, value) in &self.values {
            match worker {
                Some(name) => one(encoder.encode_family(&[("worker", name.as_str())])?, self.kind, *value)?,
                None => return one(encoder, self.kind, *value),
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

fn one(mut encoder: MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

/// For each worker one gauge for each phase: 1 for the current one, 0 for all others.
#[derive(Debug)]
struct Phases(Vec<(Option<String>, Phase)>);

impl EncodeMetric for Phases {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (worker, current) in &self.0 {
            for phase in Phase::ALL {
                let mut labels = vec![("phase", phase_name(phase))];
                labels.extend(worker.as_deref().map(|name| ("worker", name)));
                encoder.encode_family(&labels)?.encode_gauge(&i64::from(phase == *current))?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "all of the text, as it is served")]
    fn a_workers_numbers_become_metrics() {
        let status = Status::default();
        status.set_phase(Phase::Ready);
        status.turns_claimed.store(7, Relaxed);
        status.turns_completed.store(5, Relaxed);
        status.set_turns_running(2);
        status.set_sessions_cached(3);
        status.sync.created.store(4, Relaxed);
        status.server.start_tried();
        status.server.runs(1);
        status.server.answered(true);
        let build = Build { version: "1.2.3", commit: "0123abc" };
        insta::assert_snapshot!(render(&[(None, Arc::new(status))], build, 1_700_000_000_500), @r#"
        # HELP process_start_time_seconds When the process began, in seconds since the Unix epoch.
        # TYPE process_start_time_seconds gauge
        process_start_time_seconds 1700000000.5
        # HELP worker_build Which program runs.
        # TYPE worker_build info
        worker_build_info{version="1.2.3",commit="0123abc"} 1
        # HELP worker_phase Where the worker is in its life.
        # TYPE worker_phase gauge
        worker_phase{phase="uninitialized"} 0
        worker_phase{phase="registering"} 0
        worker_phase{phase="waiting_approval"} 0
        worker_phase{phase="connecting"} 0
        worker_phase{phase="ready"} 1
        worker_phase{phase="recovering"} 0
        worker_phase{phase="stopping"} 0
        worker_phase{phase="stopped"} 0
        # HELP worker_alive Whether the main loop comes round: 1, or 0 if it has not for 15 s.
        # TYPE worker_alive gauge
        worker_alive 0
        # HELP worker_turns_claimed Turns that were claimed.
        # TYPE worker_turns_claimed counter
        worker_turns_claimed_total 7
        # HELP worker_turns_completed Turns that ended with a whole reply.
        # TYPE worker_turns_completed counter
        worker_turns_completed_total 5
        # HELP worker_turns_failed Turns that ended without a whole reply.
        # TYPE worker_turns_failed counter
        worker_turns_failed_total 0
        # HELP worker_turns_expired Stale turns that were expired.
        # TYPE worker_turns_expired counter
        worker_turns_expired_total 0
        # HELP worker_permissions_allowed Permission questions answered with yes.
        # TYPE worker_permissions_allowed counter
        worker_permissions_allowed_total 0
        # HELP worker_permissions_refused Permission questions answered with no.
        # TYPE worker_permissions_refused counter
        worker_permissions_refused_total 0
        # HELP worker_turns_running Turns being run.
        # TYPE worker_turns_running gauge
        worker_turns_running 2
        # HELP worker_sessions_created OpenCode sessions that were created.
        # TYPE worker_sessions_created counter
        worker_sessions_created_total 0
        # HELP worker_sessions_cached OpenCode sessions that are remembered.
        # TYPE worker_sessions_cached gauge
        worker_sessions_cached 3
        # HELP worker_sync_created Chats that were made for sessions found in OpenCode.
        # TYPE worker_sync_created counter
        worker_sync_created_total 4
        # HELP worker_sync_renamed Titles that OpenCode changed.
        # TYPE worker_sync_renamed counter
        worker_sync_renamed_total 0
        # HELP worker_sync_deleted Chats whose session was deleted in OpenCode.
        # TYPE worker_sync_deleted counter
        worker_sync_deleted_total 0
        # HELP worker_sync_errors Steps of the synchronisation that failed.
        # TYPE worker_sync_errors counter
        worker_sync_errors_total 0
        # HELP worker_opencode_starts Starts of the OpenCode server that were tried.
        # TYPE worker_opencode_starts counter
        worker_opencode_starts_total 1
        # HELP worker_opencode_failed_starts Starts of the OpenCode server that failed.
        # TYPE worker_opencode_failed_starts counter
        worker_opencode_failed_starts_total 0
        # HELP worker_opencode_losses Running OpenCode servers that were lost.
        # TYPE worker_opencode_losses counter
        worker_opencode_losses_total 0
        # HELP worker_opencode_skipped_events Events that could not be read.
        # TYPE worker_opencode_skipped_events counter
        worker_opencode_skipped_events_total 0
        # HELP worker_opencode_alive Whether an OpenCode server's process runs.
        # TYPE worker_opencode_alive gauge
        worker_opencode_alive 1
        # HELP worker_opencode_ready Whether the OpenCode server says what happens: its event stream is open.
        # TYPE worker_opencode_ready gauge
        worker_opencode_ready 0
        # HELP worker_opencode_healthy Whether the OpenCode server did what it was asked last, in time; 0 is no reason to restart it.
        # TYPE worker_opencode_healthy gauge
        worker_opencode_healthy 1
        # HELP worker_opencode_generation Which start of the OpenCode server runs, or 0.
        # TYPE worker_opencode_generation gauge
        worker_opencode_generation 1
        # HELP worker_opencode_open_streams Event streams that are open.
        # TYPE worker_opencode_open_streams gauge
        worker_opencode_open_streams 0
        # EOF
        "#);
    }

    #[test]
    fn many_workers_are_told_apart_by_a_label_and_each_metric_is_described_once() {
        let named = |name: &str, claimed| {
            let status = Status::default();
            status.turns_claimed.store(claimed, Relaxed);
            (Some(name.to_owned()), Arc::new(status))
        };
        let build = Build { version: "1.2.3", commit: "" };
        let text = render(&[named("a", 7), named("b", 9)], build, 0);
        assert!(text.contains("worker_turns_claimed_total{worker=\"a\"} 7\n"), "{text}");
        assert!(text.contains("worker_turns_claimed_total{worker=\"b\"} 9\n"), "{text}");
        assert!(text.contains("worker_phase{phase=\"uninitialized\",worker=\"b\"} 1\n"), "{text}");
        assert!(text.contains("worker_restarts_total{worker=\"a\"} 0\n"), "{text}");
        assert_eq!(text.matches("# TYPE worker_turns_claimed counter").count(), 1, "{text}");
    }
}

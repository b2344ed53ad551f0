//! A worker's numbers as OpenMetrics text, which Prometheus reads. No clock, no I/O.

use std::{fmt, sync::atomic::Ordering::Relaxed};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
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

/// All metrics at this moment. `started` is when the process began.
pub fn render(status: &Status, build: Build, started: UnixMillis) -> String {
    let mut registry = Registry::default();
    registry.register(
        "process_start_time_seconds",
        "When the process began, in seconds since the Unix epoch",
        ConstGauge::new(started as f64 / 1000.0),
    );
    let ours = registry.sub_registry_with_prefix("worker");
    let labels = vec![("version", build.version), ("commit", build.commit)];
    ours.register("build", "Which program runs", Info::new(labels));
    ours.register("phase", "Where the worker is in its life", Phases(status.phase()));
    turns(ours, status);
    sessions(ours, status);
    sync(ours.sub_registry_with_prefix("sync"), status);
    server(ours.sub_registry_with_prefix("opencode"), status);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string can be written to");
    text
}

fn turns(registry: &mut Registry, status: &Status) {
    let mut counter = |name, help, value| registry.register(name, help, ConstCounter::<u64>::new(value));
    counter("turns_claimed", "Turns that were claimed", status.turns_claimed.load(Relaxed));
    counter("turns_completed", "Turns that ended with a whole reply", status.turns_completed.load(Relaxed));
    counter("turns_failed", "Turns that ended without a whole reply", status.turns_failed.load(Relaxed));
    counter("turns_expired", "Stale turns that were expired", status.turns_expired.load(Relaxed));
    counter(
        "permissions_allowed",
        "Permission questions answered with yes",
        status.permissions_allowed.load(Relaxed),
    );
    counter(
        "permissions_refused",
        "Permission questions answered with no",
        status.permissions_refused.load(Relaxed),
    );
    gauge(registry, "turns_running", "Turns being run", status.turns_running.load(Relaxed) as u64);
}

fn sessions(registry: &mut Registry, status: &Status) {
    let created = ConstCounter::<u64>::new(status.sessions_created.load(Relaxed));
    registry.register("sessions_created", "OpenCode sessions that were created", created);
    let cached = status.sessions_cached.load(Relaxed) as u64;
    gauge(registry, "sessions_cached", "OpenCode sessions that are remembered", cached);
}

fn sync(registry: &mut Registry, status: &Status) {
    let counts = &status.sync;
    let mut counter = |name, help, value| registry.register(name, help, ConstCounter::<u64>::new(value));
    let help = "Chats that were made for sessions found in OpenCode";
    counter("created", help, counts.created.load(Relaxed));
    counter("renamed", "Titles that OpenCode changed", counts.renamed.load(Relaxed));
    counter("deleted", "Chats whose session was deleted in OpenCode", counts.deleted.load(Relaxed));
    counter("errors", "Steps of the synchronisation that failed", counts.errors.load(Relaxed));
}

fn server(registry: &mut Registry, status: &Status) {
    let stats = &status.server;
    let mut counter = |name, help, value| registry.register(name, help, ConstCounter::<u64>::new(value));
    counter("starts", "Starts of the OpenCode server that were tried", stats.starts());
    counter("failed_starts", "Starts of the OpenCode server that failed", stats.failed_starts());
    counter("losses", "Running OpenCode servers that were lost", stats.losses());
    counter("skipped_events", "Events that could not be read", stats.skipped_events());
    gauge(registry, "generation", "Which start of the OpenCode server runs, or 0", stats.generation());
    gauge(registry, "open_streams", "Event streams that are open", stats.open_streams());
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
}

/// One gauge for each phase: 1 for the current one, 0 for all others.
#[derive(Debug)]
struct Phases(Phase);

impl EncodeMetric for Phases {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for phase in Phase::ALL {
            let labels = [("phase", phase_name(phase))];
            encoder.encode_family(&labels)?.encode_gauge(&i64::from(phase == self.0))?;
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
    fn a_workers_numbers_become_metrics() {
        let status = Status::default();
        status.set_phase(Phase::Ready);
        status.turns_claimed.store(7, Relaxed);
        status.turns_completed.store(5, Relaxed);
        status.set_turns_running(2);
        status.set_sessions_cached(3);
        status.server.start_tried();
        status.server.runs(1);
        let build = Build { version: "1.2.3", commit: "0123abc" };
        insta::assert_snapshot!(render(&status, build, 1_700_000_000_500), @r#"
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
        # HELP worker_opencode_generation Which start of the OpenCode server runs, or 0.
        # TYPE worker_opencode_generation gauge
        worker_opencode_generation 1
        # HELP worker_opencode_open_streams Event streams that are open.
        # TYPE worker_opencode_open_streams gauge
        worker_opencode_open_streams 0
        # EOF
        "#);
    }
}

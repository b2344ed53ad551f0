//! One run in a process of its own.

use std::{env, io, path::PathBuf, process::ExitStatus, process::Stdio, time::Duration};

use clap::ValueEnum as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use sim_model::{plant::Plant, seed::Seed};
use sim_report::{ReadError, Report};

/// A run that takes longer is ended: it hangs.
pub const RUN_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The most that is read of what a run writes.
const OUTPUT: u64 = 16 * 1024 * 1024;
/// The most that is read of what a run complains about, and of that the end is told.
const COMPLAINTS: u64 = 64 * 1024;
const TOLD: usize = 600;

/// What to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The scenario's file.
    pub path: PathBuf,
    /// The seed.
    pub seed: Seed,
    /// Bugs to plant.
    pub plants: Vec<Plant>,
    /// Where it leaves its report if it fails; without it nowhere.
    pub reports: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// Its report.
    Report(Box<Report>),
    /// It gave none; why.
    Crashed(String),
    /// It was ended on request.
    Stopped,
}

impl Job {
    /// Runs it in a fresh process, until it ends or `stop` is cancelled. The process is gone when this returns.
    pub async fn run(self, stop: CancellationToken) -> Outcome {
        let mut child = match self.start() {
            Ok(child) => child,
            Err(error) => return Outcome::Crashed(format!("cannot start this program again: {error}")),
        };
        let ended = tokio::select! {
            ended = timeout(RUN_LIMIT, finish(&mut child)) => Some(ended),
            () = stop.cancelled() => None,
        };
        // No more than a wait if it has ended.
        let _ = child.kill().await;
        match ended {
            None => Outcome::Stopped,
            Some(Err(_)) => Outcome::Crashed(format!("it hung: ended after {RUN_LIMIT:?} of real time")),
            Some(Ok(Err(error))) => Outcome::Crashed(format!("cannot read what it says: {error}")),
            Some(Ok(Ok((status, out, complaints)))) => read(status, &out, &complaints),
        }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(&self.path).args(["--seed", &self.seed.to_string()]);
        for plant in self.plants.iter().filter_map(|plant| plant.to_possible_value()) {
            command.args(["--plant", plant.get_name()]);
        }
        match &self.reports {
            Some(reports) => command.args(["--part", "keep", "--report"]).arg(reports),
            None => command.args(["--part", "drop"]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C is for the sweep, which ends its runs itself.
        command.process_group(0).kill_on_drop(true).spawn()
    }
}

async fn finish(child: &mut Child) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (out, complaints) = (child.stdout.take(), child.stderr.take());
    tokio::try_join!(child.wait(), drain(out, OUTPUT), drain(complaints, COMPLAINTS))
}

async fn drain(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn read(status: ExitStatus, out: &[u8], complaints: &[u8]) -> Outcome {
    match Report::parse("what it wrote", out) {
        Ok(report) => Outcome::Report(Box::new(report)),
        Err(ReadError::Json { .. }) => Outcome::Crashed(format!("{status}: {}", end_of(complaints))),
        Err(error) => Outcome::Crashed(error.to_string()),
    }
}

/// The end of what a process complained about, in one line.
fn end_of(complaints: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaints);
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    let start = line.len().saturating_sub(TOLD);
    let start = (start..line.len()).find(|index| line.is_char_boundary(*index)).unwrap_or(line.len());
    if line.is_empty() { "it said nothing".into() } else { line[start..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_complaint_is_one_line() {
        assert_eq!(end_of(b"thread panicked\n  at run.rs\n"), "thread panicked at run.rs");
        assert_eq!(end_of(b""), "it said nothing");
        let long = format!("{}the end", "überall ".repeat(500));
        assert!(end_of(long.as_bytes()).ends_with("the end") && end_of(long.as_bytes()).len() <= TOLD);
    }
}

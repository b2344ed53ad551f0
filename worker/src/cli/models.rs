//! `worker models`: what the local OpenCode can run.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use worker::{
    config::{ConfigError, file::Merged},
    env::system::SystemEnv,
    opencode::{Server, ServerStats},
};

use super::{Options, code};
use crate::{complain, fail, finish, invalid};

/// How long OpenCode may take to end by itself.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);

/// An OpenCode server of our own in the config's directory; it starts when it is first needed.
pub(crate) fn server(merged: &Merged) -> anyhow::Result<Server> {
    // Somebody waits before a terminal: no second try.
    let settings = worker::config::OpencodeSettings { start_attempts: 1, ..merged.settings.opencode.clone() };
    Ok(Server::new(SystemEnv, merged.directory()?, settings, Arc::new(ServerStats::default()), None))
}

/// Prints the models: of many workers each one's below its name, because their directories may offer others.
pub(crate) async fn show(options: Options) -> ExitCode {
    if let Some(file) = options.workers.clone() {
        return show_each(&options, &file).await;
    }
    let merged = match options.merge() {
        Ok(merged) => merged,
        Err(error) => return invalid(error),
    };
    match list(&merged).await {
        Ok(models) => finish(&models.join("\n")),
        Err(error) => fail(code_of(&error), &told(&error)),
    }
}

/// One whose models cannot be had does not keep those of the others back.
async fn show_each(options: &Options, file: &Path) -> ExitCode {
    let fleet = match options.fleet(file) {
        Ok(fleet) => fleet,
        Err(error) => return invalid(error),
    };
    let (mut worst, mut shown) = (0, Vec::new());
    for member in &fleet.members {
        match list(&member.merged).await {
            Ok(models) => shown.push(format!("# worker {}\n{}", member.name, models.join("\n"))),
            Err(error) => {
                complain(&format!("error: worker `{}`: {}", member.name, told(&error)));
                worst = code_of(&error).max(worst);
            }
        }
    }
    let printed = finish(&shown.join("\n"));
    if worst == 0 { printed } else { ExitCode::from(worst) }
}

fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() { code::CONFIG } else { code::UNAVAILABLE }
}

fn told(error: &anyhow::Error) -> String {
    let advice = if error.is::<ConfigError>() { "" } else { "; `worker doctor` says more" };
    format!("{error:#}{advice}")
}

/// The models, as `provider/model`, sorted.
async fn list(merged: &Merged) -> anyhow::Result<Vec<String>> {
    let server = server(merged)?;
    let models = async {
        let lease = server.acquire().await?;
        let mut models: Vec<String> =
            lease.client().models().await?.iter().map(ToString::to_string).collect();
        models.sort();
        anyhow::Ok(models)
    };
    let models = models.await;
    server.shutdown(STOP_GRACE).await;
    models
}

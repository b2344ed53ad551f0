//! `worker doctor`: looks at everything that a worker needs, one line for each.

use std::fmt;

use tokio::time::Instant;
use worker::{
    config::{ConfigError, file::Merged},
    convex,
    env::system::SystemEnv,
};

use super::{Options, code, models};

/// What was looked at, and what was found.
pub(crate) struct Finding {
    what: &'static str,
    /// What is well, or what is not and what to do.
    result: Result<String, String>,
    /// The exit code if it is not well.
    code: u8,
}

impl Finding {
    fn config(what: &'static str, result: Result<String, ConfigError>) -> Self {
        Self { what, result: result.map_err(|error| error.to_string()), code: code::CONFIG }
    }

    fn service(what: &'static str, result: anyhow::Result<String>) -> Self {
        Self { what, result: result.map_err(|error| format!("{error:#}")), code: code::UNAVAILABLE }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.result {
            Ok(text) => ("ok", text),
            Err(text) => ("FAIL", text),
        };
        write!(f, "{mark:<5} {:<10} {text}", self.what)
    }
}

/// Looks at everything; shows each finding as soon as it is there. What needs something that is not well is left out.
/// Returns the exit code: a mistake in the config first, because it may be the reason for the others.
pub(crate) async fn examine(options: Options, mut show: impl FnMut(&Finding)) -> u8 {
    let mut worst = 0;
    let mut note = |finding: Finding| {
        show(&finding);
        let is_well = finding.result.is_ok();
        worst = if is_well { worst } else { finding.code.max(worst) };
        is_well
    };
    if let Some(file) = options.workers.clone() {
        let fleet = match options.fleet(&file) {
            Ok(fleet) => fleet,
            Err(error) => {
                note(Finding::config("config", Err(error)));
                return worst;
            }
        };
        note(Finding::config("config", Ok(file.display().to_string())));
        for member in &fleet.members {
            note(Finding::config("worker", Ok(member.name.clone())));
            examine_one(&member.merged, &mut note).await;
        }
        return worst;
    }
    let file = options.config.clone();
    let merged = match options.merge() {
        Ok(merged) => merged,
        Err(error) => {
            note(Finding::config("config", Err(error)));
            return worst;
        }
    };
    let source =
        file.map_or("no file; flags, environment and defaults".to_owned(), |f| f.display().to_string());
    note(Finding::config("config", Ok(source)));
    examine_one(&merged, &mut note).await;
    worst
}

/// Examines what one worker needs, its config file excepted. `note` says whether what was found is well.
async fn examine_one(merged: &Merged, note: &mut impl FnMut(Finding) -> bool) {
    let identity = merged.token().map(|token| format!("{token:?}"));
    note(Finding::config("token", identity));
    let directory = merged.directory().map(|path| path.display().to_string());
    if note(Finding::config("directory", directory)) {
        examine_opencode(merged, note).await;
    }
    match merged.convex_url() {
        Ok(url) => {
            let since = Instant::now();
            let reached = convex::reach(&SystemEnv, &url).await.map_err(|reason| {
                anyhow::anyhow!("{reason}; look at the URL, the network and, for TLS, this machine's clock")
            });
            let took = since.elapsed().as_millis();
            note(Finding::service(
                "convex",
                reached.map(|()| format!("{} answers in {took} ms", url.address)),
            ));
        }
        Err(error) => {
            note(Finding::config("convex", Err(error)));
        }
    }
}

/// Starts OpenCode, asks for its version and who is logged in, stops it.
async fn examine_opencode(merged: &Merged, note: &mut impl FnMut(Finding) -> bool) {
    let since = Instant::now();
    let server = match models::server(merged) {
        Ok(server) => server,
        Err(error) => {
            note(Finding::service("opencode", Err(error)));
            return;
        }
    };
    let asked = async {
        let lease = server.acquire().await?;
        anyhow::Ok((lease.client().health().await?.version, lease.client().has_login().await?))
    };
    let asked = asked.await;
    let took = since.elapsed().as_millis();
    server.shutdown(models::STOP_GRACE).await;
    let (version, has_login) = match asked {
        Ok((version, has_login)) => {
            (Ok(format!("version {version}, started in {took} ms and stopped")), has_login)
        }
        Err(error) => (Err(error), false),
    };
    if note(Finding::service("opencode", version)) {
        note(Finding::service("login", login(merged, has_login)));
    }
}

fn login(merged: &Merged, has_login: bool) -> anyhow::Result<String> {
    let place = match &merged.settings.opencode.data_directory {
        Some(path) => format!("in `{}`", path.display()),
        None => "in the user's own data directory".to_owned(),
    };
    anyhow::ensure!(
        has_login,
        "no provider of models is logged in {place}; run `worker opencode -- auth login`, with the same flags as this"
    );
    Ok(format!("a provider of models is logged in {place}, or configured"))
}

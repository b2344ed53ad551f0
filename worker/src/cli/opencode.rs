//! `worker opencode`: OpenCode's own commands, where and with the data directory with which a worker runs it.

use std::{ffi::OsString, os::unix::process::CommandExt, process::ExitCode};

use worker::{
    config::{ConfigError, file::Merged, fleet::Fleet},
    env::system,
};

use super::{Opencode, code};
use crate::{fail, invalid};

/// Becomes OpenCode. Returns only if that is impossible.
pub(crate) fn run(asked: Opencode) -> ExitCode {
    let Opencode { options, worker, arguments } = asked;
    let merged = match options.workers.clone() {
        None => options.merge(),
        Some(file) => match options.fleet(&file) {
            Ok(fleet) => match choose(&fleet, worker.as_deref()) {
                Ok(merged) => Ok(merged),
                Err(message) => return fail(code::USAGE, &message),
            },
            Err(error) => Err(error),
        },
    };
    match merged.and_then(|merged| command(&merged, arguments)) {
        Ok(Ok(mut command)) => {
            let error = command.exec();
            let binary = command.get_program().display();
            fail(code::UNAVAILABLE, &format!("cannot run `{binary}`: {error}; set `opencode.binary`"))
        }
        Ok(Err(error)) => fail(code::CANNOT_CREATE, &error.to_string()),
        Err(error) => invalid(error),
    }
}

/// The worker called `name`; without a name any, if OpenCode keeps the same data for all.
fn choose(fleet: &Fleet, name: Option<&str>) -> Result<Merged, String> {
    let members = &fleet.members;
    let names = || members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join("`, `");
    if let Some(name) = name {
        let found = members.iter().find(|member| member.name == name);
        let unknown = || format!("no worker is called `{name}`; there are `{}`", names());
        return found.map(|member| member.merged.clone()).ok_or_else(unknown);
    }
    let data = |merged: &Merged| merged.settings.opencode.data_directory.clone();
    let first = members[0].merged.clone();
    if members.iter().all(|member| data(&member.merged) == data(&first)) {
        return Ok(first);
    }
    Err(format!("these workers keep their logins apart; say which with `--worker`: `{}`", names()))
}

fn command(
    merged: &Merged,
    arguments: Vec<OsString>,
) -> Result<std::io::Result<std::process::Command>, ConfigError> {
    let (directory, settings) = (merged.directory()?, &merged.settings.opencode);
    Ok(system::opencode(&settings.binary, &directory, settings.data_directory.as_deref()).map(
        |mut command| {
            command.args(arguments);
            command
        },
    ))
}

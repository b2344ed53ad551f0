//! `sim internal`: parts that this program plays for itself, as a process of their own.

mod opencode;

use std::path::PathBuf;

use clap::Subcommand;

use super::{exit::Exit, load};

/// Which part.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Stands in for the `opencode` executable of `sim load`, whose socket is named first.
    OpencodeUnderLoad {
        /// Where the load test listens.
        socket: PathBuf,
        /// What `opencode` is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stands in for the `opencode` executable (`sim serve` makes one that calls this).
    #[command(subcommand)]
    Opencode(opencode::OpenCodeCommand),
}

/// Plays it.
pub(super) fn play(part: Internal) -> anyhow::Result<Exit> {
    match part {
        Internal::OpencodeUnderLoad { socket, arguments } => load::stand_in(&socket, &arguments),
        Internal::Opencode(command) => opencode::opencode(&command),
    }
}

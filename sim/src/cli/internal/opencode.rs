//! `sim opencode`: what the worker starts instead of OpenCode. The same command line, the same words.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Subcommand;

use crate::cli::{exit::Exit, terminal};
use sim_serve::opencode;

/// As the real one.
#[derive(Debug, Subcommand)]
pub(crate) enum OpenCodeCommand {
    /// Serves its HTTP API and events; OPENCODE_SERVER_PASSWORD is what clients must present.
    Serve {
        /// Where to listen; loopback only.
        #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
        hostname: IpAddr,
        /// The port; 0 takes any.
        #[arg(long, default_value_t = 4096)]
        port: u16,
    },
    /// Lists the models.
    Models,
}

/// Does as `opencode` would. No signal is handled, so that SIGTERM ends it as it ends the real one.
pub(super) fn opencode(command: &OpenCodeCommand) -> anyhow::Result<Exit> {
    let machine = opencode::machine(&std::env::current_dir()?);
    match command {
        OpenCodeCommand::Models => machine.models().iter().for_each(|model| terminal::say(model)),
        OpenCodeCommand::Serve { hostname, port } => {
            let password = std::env::var("OPENCODE_SERVER_PASSWORD").ok();
            if password.is_none() {
                terminal::complain("Warning: OPENCODE_SERVER_PASSWORD is not set; server is unsecured.");
            }
            let ready = |address| terminal::say(&format!("opencode server listening on http://{address}"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let address = SocketAddr::new(*hostname, *port);
            let serving = opencode::serve(&machine, password, address, ready);
            tokio::task::LocalSet::new().block_on(&runtime, serving)?;
        }
    }
    Ok(Exit::Passed)
}

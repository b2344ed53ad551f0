//! Says how to start the worker, to be copied and pasted.

use std::{net::SocketAddr, path::Path};

/// The worker's name on its machine.
const WORKER: &str = "worker_demo";
/// How a worker is run from the repository: built as it is deployed, and never an old build.
pub const RUN_WORKER: &str = "cargo run -q --release -p worker --";

/// What a worker has to be told.
#[derive(Debug, Clone)]
pub struct Guide<'a> {
    /// Where the backend listens.
    pub convex: SocketAddr,
    /// The machine's id.
    pub machine: &'a str,
    /// The worker's secret.
    pub secret: &'a str,
    /// The executable to start as OpenCode.
    pub opencode: &'a Path,
    /// The directory for OpenCode to work in.
    pub directory: &'a Path,
}

impl Guide<'_> {
    /// The worker's command line, for a POSIX shell.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { convex, machine, secret, opencode, directory } = self;
        let [opencode, directory] = [opencode, directory].map(|path| quote(path));
        format!(
            "WORKER_TOKEN={machine}:{WORKER}:{secret} {RUN_WORKER} run --convex-url http://{convex} \
             --opencode {opencode} --directory {directory}"
        )
    }

    /// What is where, and how to begin.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { convex, opencode, .. } = self;
        format!(
            "Convex    http://{convex}\nOpenCode  {} (the worker starts it)\n\n\
             Start the worker in another terminal:\n\n  {}\n",
            opencode.display(),
            self.command(),
        )
    }
}

/// How to chat by hand.
pub const CHAT: &str = "\
Type a message and press Enter. Directives in it choose the reply: hello [[deltas=40 pace=100]]
(deltas=N bytes=N pace=MS first=MS reasoning=N tool=N ask=1 error=CODE empty=1 hang=1)
/end ends the session and opens another, /quit or Ctrl-C ends everything.
";

fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    // Only a NUL cannot be quoted, and no path holds one.
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let guide = Guide {
            convex: SocketAddr::from(([127, 0, 0, 1], 3210)),
            machine: "machine_1",
            secret: "0123",
            opencode: Path::new("/tmp/a b/opencode"),
            directory: Path::new("/tmp/it's"),
        };
        insta::assert_snapshot!(
            guide.command(),
            @r#"WORKER_TOKEN=machine_1:worker_demo:0123 cargo run -q --release -p worker -- run --convex-url http://127.0.0.1:3210 --opencode '/tmp/a b/opencode' --directory "/tmp/it's""#
        );
    }
}

//! What goes wrong in the fake, at named points. Whoever runs it decides; the fake asks and obeys.

use std::time::Duration;

/// How often a server that hangs asks whether it still does.
const THAW: Duration = Duration::from_millis(50);

/// Consulted at each point. By default nothing goes wrong.
pub trait Faults {
    /// A server starts: how much longer does it take?
    fn startup_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// A session is being created: how much longer does it take?
    fn creation_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// A request has come: the status to refuse it with, before it does anything.
    fn refuses(&self, _method: &str, _route: &str) -> Option<u16> {
        None
    }

    /// A prompt has come that is not waited for: is it forgotten, although it is answered as if it were taken?
    fn loses_prompt(&self) -> bool {
        false
    }

    /// Somebody asks to abort a session that works: does it go on all the same?
    fn ignores_abort(&self) -> bool {
        false
    }

    /// Whether the process stands still: no answer, no event, no progress. Asked again until it is false.
    fn hangs(&self) -> bool {
        false
    }

    /// Whether this event is not sent. It has happened all the same.
    fn loses_event(&self, _kind: &str) -> bool {
        false
    }

    /// Whether both events that tell that a session has become idle are not sent.
    fn loses_idle(&self) -> bool {
        false
    }
}

/// Nothing goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}

/// The pause until the next question whether the process still stands still.
pub(super) fn thaw() -> tokio::time::Sleep {
    tokio::time::sleep(THAW)
}

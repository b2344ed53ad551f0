//! What goes wrong in the fake, at named points. Whoever runs it decides; the fake asks and obeys.

/// A point in the life of a mutation that came over a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// It has come and has not run.
    BeforeRun,
    /// It is committed and not answered.
    AfterCommit,
    /// It is answered, and no Transition has shown its effect.
    AfterAnswer,
}

/// How a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Close code 1013 with this reason.
    TryAgainLater(&'static str),
    /// `AuthError` with this text.
    Identity(&'static str),
}

/// Consulted at each point. By default nothing goes wrong. Callers go by their peer names.
pub trait Faults {
    /// Whether the connection breaks, without a close frame, when its mutation is at this point.
    fn breaks(&self, _caller: &str, _path: &str, _point: Point) -> bool {
        false
    }

    /// Whether a mutation meets a conflicting write, so that it has to run again.
    fn conflicts(&self, _caller: &str, _path: &str) -> bool {
        false
    }

    /// Whether a mutation throws, as one does that was deployed with a mistake.
    fn fails(&self, _caller: &str, _path: &str) -> bool {
        false
    }

    /// Whether there is no room for a mutation or for a new connection.
    fn is_overloaded(&self, _caller: &str) -> bool {
        false
    }

    /// A client's message has come: how the connection is refused, if it is.
    fn refuses(&self, _caller: &str) -> Option<Refusal> {
        None
    }

    /// By how many bytes a Transition is larger than what it says.
    fn padding(&self, _caller: &str) -> usize {
        0
    }
}

/// Nothing goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}

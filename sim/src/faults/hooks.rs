//! What the fakes ask at their named points, answered from the faults that are in effect.

use std::{rc::Rc, time::Duration};

use super::active::Active;
use fake_convex::{Point, Refusal};
use fake_opencode::{Outcome, Reply, Script, ToolCall};
use sim_model::fault::FaultKind;

/// The statuses of a burst of errors, in turn.
const ERRORS: [u16; 3] = [500, 503, 502];
/// The statuses of a model that fails, in turn.
const MODEL_ERRORS: [u16; 4] = [529, 500, 429, 401];
/// Why the server closes connections with 1013, in turn. The names are those of convex-backend's
/// `ErrorMetadata` (github.com/get-convex/convex-backend).
const TRY_AGAIN_LATER: [&str; 3] =
    ["SubscriptionsWorkerFullError", "ExpiredInQueue", "OptimisticConcurrencyControlFailure"];
/// How long a tool runs that was allowed to.
const TOOL_RUNS: Duration = Duration::from_millis(100);

/// Asked by the OpenCode of one worker's machine.
pub struct OnOpencode {
    active: Active,
    worker: usize,
}

impl OnOpencode {
    /// For the worker of this number, from 0.
    #[must_use]
    pub fn new(active: Active, worker: usize) -> Rc<Self> {
        Rc::new(Self { active, worker })
    }

    fn delay(&self, kind: FaultKind) -> Duration {
        self.active.strike(kind, self.worker).map_or(Duration::ZERO, |strike| strike.fault.delay)
    }

    fn one_of(&self, kind: FaultKind, statuses: &[u16]) -> Option<u16> {
        let strike = self.active.strike(kind, self.worker)?;
        Some(statuses[strike.number_of(statuses.len())])
    }
}

impl fake_opencode::Faults for OnOpencode {
    fn startup_delay(&self) -> Duration {
        self.delay(FaultKind::OpencodeSlowStart)
    }

    fn creation_delay(&self) -> Duration {
        self.delay(FaultKind::OpencodeSlowCreate)
    }

    fn refuses(&self, _method: &str, _route: &str) -> Option<u16> {
        let error = self.one_of(FaultKind::OpencodeErrors, &ERRORS);
        error.or_else(|| self.one_of(FaultKind::OpencodeRateLimit, &[429]))
    }

    fn loses_prompt(&self) -> bool {
        self.active.strike(FaultKind::OpencodePromptLost, self.worker).is_some()
    }

    fn ignores_abort(&self) -> bool {
        self.active.strike(FaultKind::OpencodeAbortIgnored, self.worker).is_some()
    }

    fn hangs(&self) -> bool {
        let hangs = [FaultKind::OpencodeHang, FaultKind::Suspend];
        hangs.into_iter().any(|kind| self.active.is_on(kind, self.worker))
    }

    fn loses_event(&self, _kind: &str) -> bool {
        self.active.strike(FaultKind::OpencodeLostEvents, self.worker).is_some()
    }

    fn loses_idle(&self) -> bool {
        self.active.strike(FaultKind::OpencodeLostIdle, self.worker).is_some()
    }
}

/// What the models of one worker's machine say while something is wrong with them; else what `script` says.
#[must_use]
pub fn disturbed(script: Script, active: Active, worker: usize) -> Script {
    let on = OnOpencode { active, worker };
    Rc::new(move |prompt| disturb(script(prompt), &on))
}

fn disturb(reply: Reply, on: &OnOpencode) -> Reply {
    let asks = on.active.strike(FaultKind::OpencodePermission, on.worker);
    let tools = asks.map(|_| ToolCall { runs_for: TOOL_RUNS, asks: true, child: false });
    let outcome = match on.one_of(FaultKind::OpencodeModelErrors, &MODEL_ERRORS) {
        Some(status) => Outcome::ModelError(status),
        None if on.active.strike(FaultKind::OpencodeModelHangs, on.worker).is_some() => Outcome::Hangs,
        None => reply.outcome,
    };
    Reply { tools: tools.into_iter().chain(reply.tools).collect(), outcome, ..reply }
}

/// Asked by the backend, about the connections of workers; people are never disturbed.
pub struct OnConvex {
    active: Active,
}

impl OnConvex {
    /// For all workers.
    #[must_use]
    pub fn new(active: Active) -> Rc<Self> {
        Rc::new(Self { active })
    }

    fn strikes(&self, kind: FaultKind, caller: &str) -> bool {
        worker_of(caller).is_some_and(|worker| self.active.strike(kind, worker).is_some())
    }
}

impl fake_convex::Faults for OnConvex {
    fn breaks(&self, caller: &str, _path: &str, point: Point) -> bool {
        let kind = match point {
            Point::BeforeRun => FaultKind::MutationLost,
            Point::AfterCommit => FaultKind::MutationUnanswered,
            Point::AfterAnswer => FaultKind::MutationUnseen,
        };
        self.strikes(kind, caller)
    }

    fn conflicts(&self, caller: &str, _path: &str) -> bool {
        self.strikes(FaultKind::ConvexConflicts, caller)
    }

    fn fails(&self, caller: &str, _path: &str) -> bool {
        self.strikes(FaultKind::ConvexFunctionErrors, caller)
    }

    fn is_overloaded(&self, caller: &str) -> bool {
        self.strikes(FaultKind::ConvexOverload, caller)
    }

    fn refuses(&self, caller: &str) -> Option<Refusal> {
        let worker = worker_of(caller)?;
        if let Some(strike) = self.active.strike(FaultKind::ConvexClose, worker) {
            return Some(Refusal::TryAgainLater(TRY_AGAIN_LATER[strike.number_of(TRY_AGAIN_LATER.len())]));
        }
        let refused = self.active.strike(FaultKind::ConvexAuthError, worker);
        refused.map(|_| Refusal::Identity("InvalidAuthHeader"))
    }

    fn padding(&self, caller: &str) -> usize {
        let strike =
            worker_of(caller).and_then(|worker| self.active.strike(FaultKind::ConvexLargeTransition, worker));
        strike.map_or(0, |strike| usize::try_from(strike.fault.bytes).unwrap_or(usize::MAX))
    }
}

/// `worker-3` is number 2.
fn worker_of(caller: &str) -> Option<usize> {
    caller.strip_prefix("worker-")?.parse::<usize>().ok()?.checked_sub(1)
}

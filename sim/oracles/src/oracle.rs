//! What an oracle is.

use sim_model::trace::{Fact, Name};

/// A property that a run must have.
pub trait Oracle: Send {
    /// Its name in reports: lower case, stable.
    fn id(&self) -> &'static str;

    /// Looks at the next fact.
    fn observe(&mut self, fact: &Fact, verdict: &mut Findings);

    /// What still has to happen, if anything: a run ends well only when every oracle waits for nothing.
    fn pending(&self) -> Option<Pending> {
        None
    }
}

/// Something that still has to happen.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What is waited for.
    pub reason: String,
    /// What the story is about.
    pub about: Vec<Name>,
}

/// Where an oracle reports.
#[derive(Debug, Default)]
pub struct Findings {
    pub(crate) raised: Vec<Raised>,
}

/// A violation before its story is known.
#[derive(Debug)]
pub struct Raised {
    /// What happened and what should have been.
    pub message: String,
    /// What the story is about.
    pub about: Vec<Name>,
}

impl Findings {
    /// Reports a violation. `about` names the turn, session, worker or host whose facts belong to the story.
    pub fn violation(&mut self, message: impl Into<String>, about: &[&Name]) {
        let about = about.iter().copied().cloned().collect();
        self.raised.push(Raised { message: message.into(), about });
    }

    /// What was reported since the last call.
    pub fn take(&mut self) -> Vec<Raised> {
        std::mem::take(&mut self.raised)
    }
}

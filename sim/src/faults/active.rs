//! The faults that take effect now. The hooks of the fakes consult it at named points.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::recorder::Recorder;
use sim_model::{fault::FaultKind, fault_plan::PlannedFault, seed::Seed, trace::Event};

/// A shared handle.
#[derive(Clone)]
pub struct Active(Rc<RefCell<Inner>>);

struct Inner {
    seed: Seed,
    recorder: Recorder,
    /// By number.
    on: BTreeMap<usize, On>,
}

struct On {
    fault: PlannedFault,
    random: ChaCha8Rng,
    strikes: u64,
}

impl Active {
    /// Nothing goes wrong yet.
    #[must_use]
    pub fn new(seed: Seed, recorder: Recorder) -> Self {
        Self(Rc::new(RefCell::new(Inner { seed, recorder, on: BTreeMap::new() })))
    }

    /// The fault of this number takes effect.
    pub fn begin(&self, number: usize, fault: PlannedFault) {
        let mut inner = self.0.borrow_mut();
        let random = inner.seed.stream(&format!("faults/{number}/strikes"));
        inner.on.insert(number, On { fault, random, strikes: 0 });
    }

    /// The fault of this number takes effect no more. What was in effect is returned.
    pub fn end(&self, number: usize) -> Option<PlannedFault> {
        self.0.borrow_mut().on.remove(&number).map(|on| on.fault)
    }

    /// What is in effect.
    #[must_use]
    pub fn all(&self) -> Vec<PlannedFault> {
        self.0.borrow().on.values().map(|on| on.fault.clone()).collect()
    }

    /// Whether a fault of this kind is in effect for the worker of this number, from 0.
    #[must_use]
    pub fn is_on(&self, kind: FaultKind, worker: usize) -> bool {
        self.0.borrow().on.values().any(|on| on.fault.kind == kind && on.fault.worker == worker)
    }

    /// An opportunity for a fault of this kind: the fault that takes it, if one does. It is recorded.
    #[must_use]
    pub fn strike(&self, kind: FaultKind, worker: usize) -> Option<Strike> {
        let (recorder, number, strike) = {
            let inner = &mut *self.0.borrow_mut();
            let mut on =
                inner.on.iter_mut().filter(|(_, on)| on.fault.kind == kind && on.fault.worker == worker);
            let (number, struck) = on.find_map(|(number, on)| on.strikes_now().then_some((*number, on)))?;
            (inner.recorder.clone(), number, Strike { fault: struck.fault.clone(), count: struck.strikes })
        };
        let worker = recorder.name(&format!("worker-{}", worker + 1));
        let host = recorder.name("world");
        recorder.record(&host, Event::FaultStruck { fault: number as u64, kind, worker });
        Some(strike)
    }
}

/// An opportunity that a fault took.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// The fault.
    pub fault: PlannedFault,
    /// Which of its strikes this is, from 1.
    pub count: u64,
}

impl Strike {
    /// This strike's place in turn among `many`, from 0.
    #[must_use]
    pub fn number_of(&self, many: usize) -> usize {
        usize::try_from((self.count - 1) % many.max(1) as u64).unwrap_or(0)
    }
}

impl On {
    fn strikes_now(&mut self) -> bool {
        let left = self.fault.times.is_none_or(|times| self.strikes < times);
        let struck = left && self.random.random_bool(self.fault.probability);
        self.strikes += u64::from(struck);
        struck
    }
}

//! Lets the tasks of one process stand still, as SIGSTOP does: their timers run on and go off all at once later.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::engine::memory::unattributed;

/// Stops and wakes all futures of one process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Freezer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    frozen: bool,
    /// Of the tasks that were woken meanwhile; bounded by the process's tasks.
    waiting: Vec<Waker>,
}

impl Freezer {
    /// From now on nothing of the process goes on.
    pub fn freeze(&self) {
        self.lock().frozen = true;
    }

    /// The process goes on.
    pub fn thaw(&self) {
        let waiting = {
            let mut state = self.lock();
            state.frozen = false;
            std::mem::take(&mut state.waiting)
        };
        unattributed(|| waiting.into_iter().for_each(Waker::wake));
    }

    fn holds(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.frozen && !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            unattributed(|| state.waiting.push(context.waker().clone()));
        }
        state.frozen
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that belongs to a process.
pub struct Freezable<F> {
    freezer: Freezer,
    future: F,
}

impl<F> Freezable<F> {
    /// `future`, which stands still while its process does.
    pub fn new(freezer: Freezer, future: F) -> Self {
        Self { freezer, future }
    }
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.freezer.holds(context) {
            return Poll::Pending;
        }
        project(self).poll(context)
    }
}

#[expect(unsafe_code, reason = "pin projection to the only field that needs it")]
fn project<F>(future: Pin<&mut Freezable<F>>) -> Pin<&mut F> {
    // SAFETY: `future` is never moved out of its place, and `Freezable` has neither Drop nor an Unpin of its own.
    unsafe { future.map_unchecked_mut(|freezable| &mut freezable.future) }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_frozen_task_does_not_go_on_until_it_is_thawed() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let freezer = Freezer::default();
        freezer.freeze();
        let mut task = pin!(Freezable::new(freezer.clone(), async { 7 }));
        assert_eq!(task.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(task.as_mut().poll(&mut context), Poll::Pending);
        freezer.thaw();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(task.poll(&mut context), Poll::Ready(7));
    }
}

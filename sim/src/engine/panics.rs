//! Tells a panic of the worker, which is a finding, from one of the simulator, which is a bug of ours.

use std::{cell::RefCell, panic, sync::Once};

use crate::engine::memory::Owner;

thread_local! {
    /// The first panic of this thread since the last [`take`]. Later ones are only its echo: tokio ends a runtime in
    /// which a task panicked by panicking itself.
    static FIRST: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// A panic, and on whose account.
#[derive(Debug, Clone)]
pub struct Panicked {
    /// Who was being polled.
    pub owner: Owner,
    /// Its message and place.
    pub message: String,
}

/// Notes panics from now on, in the whole process, and passes them on to the hook that was there.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            FIRST.with_borrow_mut(|first| {
                first.get_or_insert_with(|| Panicked { owner: Owner::active(), message: info.to_string() });
            });
            before(info);
        }));
    });
}

/// The first panic of this thread since the last call.
#[must_use]
pub fn take() -> Option<Panicked> {
    FIRST.take()
}

//! Who listens to the events of a server: they all share the bytes of each.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use tokio::sync::mpsc;

/// A reader that is so many events behind is cut off. The real bound is not known; 20,000 were measured to be kept.
const QUEUE: usize = 65_536;

/// Who listens to one server.
#[derive(Default)]
pub(super) struct Bus {
    subscribers: RefCell<Vec<(u64, mpsc::Sender<Bytes>)>>,
    next: Cell<u64>,
}

impl Bus {
    /// Adds a listener. The key takes it away again.
    pub(super) fn subscribe(&self) -> (u64, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let key = self.next.replace(self.next.get() + 1);
        self.subscribers.borrow_mut().push((key, sender));
        (key, receiver)
    }

    /// How many listen.
    pub(super) fn len(&self) -> usize {
        self.subscribers.borrow().len()
    }

    /// Sends to all; forgets those that are gone or too far behind. Returns whether one was too far behind.
    pub(super) fn send(&self, bytes: &Bytes) -> bool {
        let mut cut_off = false;
        self.subscribers.borrow_mut().retain(|(_, sender)| {
            let sent = sender.try_send(bytes.clone());
            cut_off |= matches!(sent, Err(mpsc::error::TrySendError::Full(_)));
            sent.is_ok()
        });
        cut_off
    }

    /// Ends all streams.
    pub(super) fn cut(&self) {
        self.subscribers.borrow_mut().clear();
    }

    pub(super) fn unsubscribe(&self, key: u64) {
        self.subscribers.borrow_mut().retain(|(known, _)| *known != key);
    }
}

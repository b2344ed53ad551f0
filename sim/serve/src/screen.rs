//! Where a person reads along: replies as they grow, notices in lines of their own.

use std::{cell::Cell, fmt, rc::Rc};

/// Takes text as it is.
pub type Writer = Rc<dyn Fn(&str)>;

/// What a person sees. Clones share it.
#[derive(Clone)]
pub struct Screen {
    replies: Writer,
    notices: Writer,
    /// Whether the last reply's line is still open.
    open: Rc<Cell<bool>>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Screen {
    /// A screen with replies and notices in two places, which may be the same.
    #[must_use]
    pub fn new(replies: Writer, notices: Writer) -> Self {
        Self { replies, notices, open: Rc::default() }
    }

    /// Adds to a reply.
    pub fn reply(&self, text: &str) {
        if !text.is_empty() {
            self.open.set(!text.ends_with('\n'));
            (self.replies)(text);
        }
    }

    /// Adds a line of the chat; ends an open one first.
    pub fn line(&self, text: &str) {
        self.close();
        (self.replies)(&format!("{text}\n"));
    }

    /// Shows a line that is not part of the chat.
    pub fn notice(&self, text: &str) {
        self.close();
        (self.notices)(&format!("{text}\n"));
    }

    fn close(&self) {
        if self.open.replace(false) {
            (self.replies)("\n");
        }
    }
}

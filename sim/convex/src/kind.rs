//! The three kinds of functions.

/// What a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Reads.
    Query,
    /// Reads and writes, in one transaction.
    Mutation,
    /// Calls queries and mutations, each in a transaction of its own.
    Action,
}

impl Kind {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Action => "action",
        }
    }
}

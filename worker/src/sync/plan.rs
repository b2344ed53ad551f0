//! What has to change in Convex so that it has the sessions that OpenCode has. Pure.
//!
//! Rules, also for conflicts:
//! - A session goes by its OpenCode id. One that Convex lacks is linked to a new chat, never made anew in OpenCode.
//! - OpenCode's title wins, whatever Convex has: OpenCode is the one place where a title can be changed after the chat
//!   was started.
//! - A deletion in OpenCode does not delete the chat: it is marked and loses its link, and its next message makes a new
//!   OpenCode session. A turn that was running there fails with `session_deleted`.
//! - A child session (of a tool that starts agents) is no chat; it never comes here.

use crate::{
    convex::api::{SyncPlan, TitledSession},
    opencode::OpencodeSessionId,
};

/// The longest title that is kept (characters).
pub(crate) const MAX_TITLE: usize = 300;

/// What OpenCode says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InOpencode {
    /// It exists, with this title (at most [`MAX_TITLE`] characters).
    Titled(String),
    /// It was deleted.
    Gone,
}

impl InOpencode {
    /// It exists, with this title, which is cut if it is too long.
    pub(crate) fn titled(title: &str) -> Self {
        Self::Titled(title.chars().take(MAX_TITLE).collect())
    }

    /// Returns what Convex has once it agrees.
    pub(crate) fn agreed(&self) -> InConvex {
        match self {
            Self::Titled(title) => InConvex::Titled(fingerprint(title)),
            Self::Gone => InConvex::Absent,
        }
    }
}

/// What is known of a session in Convex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InConvex {
    /// Nothing.
    Unknown,
    /// No chat is linked with it.
    Absent,
    /// One is, and its title has this [`fingerprint`].
    Titled(u64),
}

/// A page with fewer sessions says little.
const FEW: usize = 5;

/// Returns true if at least nine in ten of a page's sessions are missing in OpenCode, which suggests that it runs with
/// another data directory. Nobody would want all chats to lose their sessions because a worker was started once with
/// another `HOME`.
///
/// What is deleted while the server runs is told by events, which are believed, however many they are; a chat whose
/// session is gone gets a new one with its next message in any case. So nothing depends on what is left alone here but
/// the mark at the chat; `sync.accept_mass_deletions` carries the deletions through.
pub(crate) fn is_mass_deletion(gone: usize, there: usize) -> bool {
    let all = gone + there;
    all >= FEW && gone * 10 >= all * 9
}

/// Compares what both sides have, session by session. A session may come once.
pub(crate) fn plan<'a>(
    sessions: impl IntoIterator<Item = (&'a OpencodeSessionId, &'a InOpencode, InConvex)>,
) -> SyncPlan {
    let mut plan = SyncPlan::default();
    for (id, opencode, convex) in sessions {
        if opencode.agreed() == convex {
            continue;
        }
        let id = id.clone();
        match (opencode, convex) {
            (InOpencode::Gone, _) => plan.deletions.push(id),
            (InOpencode::Titled(title), InConvex::Titled(_)) => {
                plan.name_updates.push(TitledSession { id, title: title.clone() });
            }
            (InOpencode::Titled(title), InConvex::Absent | InConvex::Unknown) => {
                plan.new_sessions.push(TitledSession { id, title: title.clone() });
            }
        }
    }
    plan
}

/// 64 bits of a text (FNV-1a), the same in every process.
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;

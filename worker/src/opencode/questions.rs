//! Which of all the permission questions of a server concern one session.

use super::{
    error::ApiError, http::Client, id::OpencodeSessionId, registry::Registry, types::PermissionAsked,
};

/// Questions of one list that are looked at.
const MAX_QUESTIONS: usize = 64;
/// Generations of children that are looked through.
const MAX_DEPTH: usize = 8;

/// The open questions of the session and of its children, also of those that were made while no event came through.
pub(crate) async fn of_session(
    client: &Client,
    registry: &Registry,
    session: &OpencodeSessionId,
) -> Result<Vec<PermissionAsked>, ApiError> {
    let mut ours = Vec::new();
    for pending in client.permissions().await?.into_iter().take(MAX_QUESTIONS) {
        if works_for(client, registry, &pending.session, session).await? {
            registry.adopt(&pending.session, session);
            ours.push(PermissionAsked { session: Some(pending.session), ..pending.asked });
        }
    }
    Ok(ours)
}

/// Returns true if `asker` is `session` or descends from it.
async fn works_for(
    client: &Client,
    registry: &Registry,
    asker: &OpencodeSessionId,
    session: &OpencodeSessionId,
) -> Result<bool, ApiError> {
    let mut id = asker.clone();
    for _ in 0..MAX_DEPTH {
        if let Some(root) = registry.root_of(&id) {
            return Ok(root == *session);
        }
        match client.session(&id).await {
            Ok(found) => match found.parent {
                Some(parent) => id = parent,
                None => return Ok(false),
            },
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

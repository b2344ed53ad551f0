//! Carries out one [`Step`](super::state::Step): reads both sides, writes to Convex.

use super::{
    plan::{InConvex, InOpencode, fingerprint, is_mass_deletion},
    shared::Shared,
    state::{Batch, Page, Stamp, State},
};
use crate::{
    convex::{Backend, api::Linked},
    error::CallError,
    opencode::{ApiError, Client, OpencodeSessionId},
    telemetry::SyncResult,
};

/// Why a step was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Convex(#[from] CallError),
    #[error(transparent)]
    Opencode(#[from] ApiError),
}

/// Makes a batch of changes in Convex: one call.
pub(super) async fn apply(shared: &Shared, backend: &Backend, batch: &Batch) -> Result<(), StepError> {
    let done = backend.apply_plan(&batch.plan, batch.synced_until).await?;
    let result = SyncResult {
        created: done.created as u64,
        renamed: done.renamed as u64,
        deleted: done.deleted as u64,
        errors: 0,
    };
    tracing::debug!(?result, "synced");
    shared.status.sync.add(result);
    let now = shared.now();
    shared.change(|state| state.applied(batch, now));
    Ok(())
}

/// Compares a page of OpenCode's sessions with Convex. Asks Convex only for those of which nothing is known.
pub(super) async fn list(
    shared: &Shared,
    backend: &Backend,
    client: &Client,
    page: Page,
) -> Result<(), StepError> {
    let stamp = shared.look(|state| state.stamp());
    let sessions = client.changed_sessions(page.since, page.cursor, page.limit).await?;
    let times = sessions.iter().map(|session| session.time.updated);
    let (length, newest, oldest) = (sessions.len(), times.clone().max(), times.min());
    let roots = sessions.into_iter().filter(|session| session.parent.is_none());
    let changed = shared.look(|state| {
        let differs =
            |id: &OpencodeSessionId, opencode: &InOpencode| state.in_convex(id) != opencode.agreed();
        let seen = roots.map(|session| (session.id, InOpencode::titled(&session.title)));
        seen.filter(|(id, opencode)| differs(id, opencode)).collect::<Vec<_>>()
    });
    let linked = linked_among(shared, backend, &changed).await?;
    let now = shared.now();
    shared.change(|state| {
        for (id, opencode) in changed {
            let convex = match state.in_convex(&id) {
                InConvex::Unknown => in_convex(&linked, &id),
                known => known,
            };
            state.remember(&id, convex, stamp);
            state.compare(&id, opencode, convex, stamp, now);
        }
        state.listed(page, length, newest, oldest, now);
    });
    Ok(())
}

/// Asks what Convex has of those of which nothing is known; it is not called if there are none.
async fn linked_among(
    shared: &Shared,
    backend: &Backend,
    sessions: &[(OpencodeSessionId, InOpencode)],
) -> Result<Linked, CallError> {
    let unknown: Vec<_> = shared.look(|state| {
        let ids = sessions.iter().map(|(id, _)| id);
        ids.filter(|id| state.in_convex(id) == InConvex::Unknown).map(ToString::to_string).collect()
    });
    let mut linked = Linked::default();
    for some in unknown.chunks(MAX_ASKED) {
        let more = backend.linked_sessions(some.to_vec()).await?;
        linked.ids.extend(more.ids);
        linked.titles.extend(more.titles);
    }
    Ok(linked)
}

/// So many sessions the backend tells of in one call.
const MAX_ASKED: usize = 100;

fn in_convex(linked: &Linked, id: &OpencodeSessionId) -> InConvex {
    let found = linked.iter().find(|(linked, _)| *linked == id.as_str());
    found.map_or(InConvex::Absent, |(_, title)| InConvex::Titled(fingerprint(title)))
}

/// Compares a page of Convex's sessions with OpenCode, one by one: by their ids alone they cannot be listed there.
pub(super) async fn scrub(
    shared: &Shared,
    backend: &Backend,
    client: &Client,
    after: String,
) -> Result<(), StepError> {
    let stamp = shared.look(|state| state.stamp());
    let page = backend.page_of_linked_sessions(&after, shared.settings.page).await?;
    compare_page(shared, client, &page, stamp).await?;
    let last = page.ids.into_iter().last().filter(|_| !page.is_done);
    let now = shared.now();
    shared.change(|state| state.scrubbed(last, now));
    Ok(())
}

/// Sessions of a page that are passed over because OpenCode cannot show them, once tries in a row were in vain; after
/// these the rest of the page is passed over too, because each may take as long as a request may.
const MAX_UNREADABLE: usize = 3;

/// Compares a page. What is not there is believed to be deleted only when the page was seen, and not all at once.
async fn compare_page(shared: &Shared, client: &Client, page: &Linked, stamp: Stamp) -> Result<(), ApiError> {
    let passes_over = shared.look(|state| state.is_stuck());
    let (mut gone, mut there, mut unreadable) = (Vec::new(), 0, 0);
    for (id, title) in page.iter() {
        // Nothing that OpenCode would not know, and nothing that could change a path.
        let Ok(id) = OpencodeSessionId::new(id) else { continue };
        let convex = InConvex::Titled(fingerprint(title));
        match read(client, &id).await {
            Ok(InOpencode::Gone) => gone.push((id, convex)),
            Ok(opencode) => {
                there += 1;
                compare(shared, &id, opencode, convex, stamp);
            }
            Err(error) if passes_over => {
                tracing::warn!(%error, session = id.as_str(), "sync: a session cannot be compared; it is passed over");
                shared.look(State::left_out);
                unreadable += 1;
                if unreadable == MAX_UNREADABLE {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    if is_mass_deletion(gone.len(), there) && !shared.settings.accept_mass_deletions {
        tracing::error!(
            gone = gone.len(),
            there,
            "sync: OpenCode does not know nearly all sessions of a page, as if it used another data directory; their \
             chats stay as they are. If they were deleted, set `sync.accept_mass_deletions`"
        );
        shared.status.sync.add(SyncResult { errors: 1, ..SyncResult::default() });
        return Ok(());
    }
    for (id, convex) in gone {
        compare(shared, &id, InOpencode::Gone, convex, stamp);
    }
    Ok(())
}

async fn read(client: &Client, id: &OpencodeSessionId) -> Result<InOpencode, ApiError> {
    match client.session(id).await {
        Ok(session) => Ok(InOpencode::titled(&session.title)),
        Err(error) if error.is_not_found() => Ok(InOpencode::Gone),
        Err(error) => Err(error),
    }
}

fn compare(shared: &Shared, id: &OpencodeSessionId, opencode: InOpencode, convex: InConvex, stamp: Stamp) {
    let now = shared.now();
    shared.change(|state| state.compare(id, opencode, convex, stamp, now));
}

#[cfg(test)]
mod tests;

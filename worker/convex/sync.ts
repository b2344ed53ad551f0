/**
 * What a worker tells of the sessions that OpenCode has: made there, renamed there, deleted there.
 *
 * A session goes by its OpenCode id, and there is at most one for each: all of this may be said twice. OpenCode's
 * title wins, because OpenCode is where it can be changed. A deletion in OpenCode keeps the chat and its history: the
 * session loses its link, is marked, and gets a new OpenCode session with its next message.
 */
import { v } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel.js";
import { mutation, query, type MutationCtx, type QueryCtx } from "./_generated/server.js";
import { credentials, refuse, requireWorker } from "./lib/auth.js";
import { checkText, cut as cutText, LONGEST, MAX_SHOWN_CHARACTERS } from "./lib/limits.js";
import { charge, tryCharge } from "./lib/usage.js";

/** Changes that one call makes, and sessions that one call shows: each reads one document or two. */
const MAX_CHANGES = 100;

const titled = v.object({ opencodeSessionId: v.string(), title: v.string() });

// ── Writing ──────────────────────────────────────────────────────────────────

/**
 * Makes a batch of changes: `SyncPlan` as the worker computed it. Returns how many of each changed something, and how
 * many sessions were `skipped` because their owner has as many as are allowed.
 * `syncedUntil` (OpenCode's clock, ms) is stored with them if it is given.
 */
export const applyPlan = mutation({
  args: {
    who: credentials,
    newSessions: v.array(titled),
    nameUpdates: v.array(titled),
    deletions: v.array(v.string()),
    syncedUntil: v.optional(v.number()),
  },
  handler: async (ctx, { who, newSessions, nameUpdates, deletions, syncedUntil }) => {
    const worker = await requireWorker(ctx, who);
    const changes = newSessions.length + nameUpdates.length + deletions.length;
    if (changes > MAX_CHANGES) throw refuse("too_many", `A batch has at most ${MAX_CHANGES} changes, not ${changes}.`);
    checkIds([...newSessions, ...nameUpdates].map(({ opencodeSessionId }) => opencodeSessionId));
    checkIds(deletions);
    const result = { created: 0, renamed: 0, deleted: 0, skipped: 0 };
    for (const { opencodeSessionId, title } of newSessions) {
      const outcome = await adopt(ctx, worker, opencodeSessionId, title);
      if (outcome !== "same") result[outcome] += 1;
    }
    for (const { opencodeSessionId, title } of nameUpdates) {
      if (await rename(ctx, worker, opencodeSessionId, title)) result.renamed += 1;
    }
    for (const opencodeSessionId of deletions) {
      if (await unlink(ctx, worker, opencodeSessionId)) result.deleted += 1;
    }
    if (syncedUntil !== undefined) await setLastSync(ctx, worker._id, syncedUntil);
    return result;
  },
});

/** A session that was made in OpenCode. Returns the session that is linked with it, which may have been there. */
export const createSyncedSession = mutation({
  args: { who: credentials, opencodeSessionId: v.string(), title: v.string() },
  handler: async (ctx, { who, opencodeSessionId, title }) => {
    checkIds([opencodeSessionId]);
    const worker = await requireWorker(ctx, who);
    const known = await linked(ctx, worker._id, opencodeSessionId);
    // A single one that may not be is refused and not skipped.
    if (known !== null) await retitle(ctx, known, title);
    else if ((await forgotten(ctx, worker._id, opencodeSessionId)) !== null) {
      throw refuse("deleted", "The chat of this session was deleted; it gets no other one.");
    } else await charge(ctx, worker.ownerId, "sessions");
    return known?._id ?? (await insertSession(ctx, worker, opencodeSessionId, title));
  },
});

/** A session was renamed in OpenCode. Returns whether that changed anything. */
export const updateSessionName = mutation({
  args: { who: credentials, opencodeSessionId: v.string(), title: v.string() },
  handler: async (ctx, { who, opencodeSessionId, title }) =>
    await rename(ctx, await requireWorker(ctx, who), opencodeSessionId, title),
});

/** A session was deleted in OpenCode. Returns whether that changed anything. */
export const markSessionDeletedInOpencode = mutation({
  args: { who: credentials, opencodeSessionId: v.string() },
  handler: async (ctx, { who, opencodeSessionId }) =>
    await unlink(ctx, await requireWorker(ctx, who), opencodeSessionId),
});

/** Everything that OpenCode changed up to this moment (its clock, ms) is here. Never goes back. */
export const updateLastSyncTimestamp = mutation({
  args: { who: credentials, timestamp: v.number() },
  handler: async (ctx, { who, timestamp }) => {
    const worker = await requireWorker(ctx, who);
    await setLastSync(ctx, worker._id, timestamp);
  },
});

// ── Reading ──────────────────────────────────────────────────────────────────

/** See `updateLastSyncTimestamp`; null if nothing was ever synced. */
export const getLastSyncTimestamp = query({
  args: { who: credentials },
  handler: async (ctx, { who }) => {
    const worker = await requireWorker(ctx, who);
    return (await syncState(ctx, worker._id))?.syncedUntil ?? null;
  },
});

/**
 * Those of the given sessions that are linked: their ids, and their titles in the same order. (Two lists of texts take
 * a client a tenth of the memory that a list of objects does.)
 */
export const linkedSessions = query({
  args: { who: credentials, opencodeSessionIds: v.array(v.string()) },
  handler: async (ctx, { who, opencodeSessionIds }) => {
    const worker = await requireWorker(ctx, who);
    const sessions = [];
    for (const id of opencodeSessionIds.slice(0, MAX_CHANGES)) {
      const session = await linked(ctx, worker._id, id);
      if (session !== null) sessions.push(session);
    }
    return columns(sessions);
  },
});

/** A page of all linked sessions, in the order of their OpenCode ids: those after `after`. As `linkedSessions`. */
export const pageOfLinkedSessions = query({
  args: { who: credentials, after: v.string(), limit: v.number() },
  handler: async (ctx, { who, after, limit }) => {
    const worker = await requireWorker(ctx, who);
    const count = Math.min(Math.max(1, limit), MAX_CHANGES);
    const sessions = ctx.db
      .query("sessions")
      .withIndex("by_worker_and_opencode_id", (q) => q.eq("worker", worker._id).gt("opencodeSessionId", after));
    const page = [];
    // Titles from before there were bounds may be long.
    let room = MAX_SHOWN_CHARACTERS;
    for await (const session of sessions) {
      page.push(session);
      room -= session.title?.length ?? 0;
      if (page.length === count || room <= 0) return { ...columns(page), isDone: false };
    }
    return { ...columns(page), isDone: true };
  },
});

// ── Shared ───────────────────────────────────────────────────────────────────

async function adopt(
  ctx: MutationCtx,
  worker: Doc<"workers">,
  opencodeSessionId: string,
  title: string,
): Promise<"created" | "renamed" | "same" | "skipped"> {
  const known = await linked(ctx, worker._id, opencodeSessionId);
  if (known !== null) return (await retitle(ctx, known, title)) ? "renamed" : "same";
  if ((await forgotten(ctx, worker._id, opencodeSessionId)) !== null) return "same";
  if (!(await tryCharge(ctx, worker.ownerId, "sessions"))) return "skipped";
  await insertSession(ctx, worker, opencodeSessionId, title);
  return "created";
}

/** A session that was counted already. */
function insertSession(
  ctx: MutationCtx,
  worker: Doc<"workers">,
  opencodeSessionId: string,
  title: string,
): Promise<Id<"sessions">> {
  return ctx.db.insert("sessions", {
    worker: worker._id,
    ownerId: worker.ownerId,
    title: cut(title),
    state: "active",
    opencodeSessionId,
  });
}

async function rename(
  ctx: MutationCtx,
  worker: Doc<"workers">,
  opencodeSessionId: string,
  title: string,
): Promise<boolean> {
  const session = await linked(ctx, worker._id, opencodeSessionId);
  return session !== null && (await retitle(ctx, session, title));
}

async function retitle(ctx: MutationCtx, session: Doc<"sessions">, title: string): Promise<boolean> {
  if ((session.title ?? "") === cut(title)) return false;
  await ctx.db.patch(session._id, { title: cut(title) });
  return true;
}

async function unlink(ctx: MutationCtx, worker: Doc<"workers">, opencodeSessionId: string): Promise<boolean> {
  const session = await linked(ctx, worker._id, opencodeSessionId);
  if (session === null) {
    const row = await forgotten(ctx, worker._id, opencodeSessionId);
    if (row !== null) await ctx.db.delete(row._id);
    return false;
  }
  await ctx.db.patch(session._id, { opencodeSessionId: undefined, deletedInOpencode: true });
  return true;
}

function columns(sessions: Doc<"sessions">[]): { ids: string[]; titles: string[] } {
  return {
    ids: sessions.map(({ opencodeSessionId }) => opencodeSessionId ?? ""),
    titles: sessions.map(({ title }) => title ?? ""),
  };
}

function linked(ctx: QueryCtx, worker: Id<"workers">, opencodeSessionId: string): Promise<Doc<"sessions"> | null> {
  return ctx.db
    .query("sessions")
    .withIndex("by_worker_and_opencode_id", (q) =>
      q.eq("worker", worker).eq("opencodeSessionId", opencodeSessionId),
    )
    .first();
}

/** That a person has deleted the chat of this session. */
function forgotten(
  ctx: QueryCtx,
  worker: Id<"workers">,
  opencodeSessionId: string,
): Promise<Doc<"forgottenSessions"> | null> {
  return ctx.db
    .query("forgottenSessions")
    .withIndex("by_worker_and_opencode_id", (q) =>
      q.eq("worker", worker).eq("opencodeSessionId", opencodeSessionId),
    )
    .first();
}

function syncState(ctx: QueryCtx, worker: Id<"workers">): Promise<Doc<"syncStates"> | null> {
  return ctx.db
    .query("syncStates")
    .withIndex("by_worker", (q) => q.eq("worker", worker))
    .unique();
}

async function setLastSync(ctx: MutationCtx, worker: Id<"workers">, syncedUntil: number): Promise<void> {
  const row = await syncState(ctx, worker);
  if (row === null) await ctx.db.insert("syncStates", { worker, syncedUntil });
  else if (row.syncedUntil < syncedUntil) await ctx.db.patch(row._id, { syncedUntil });
}

/** A title of OpenCode's, as it is kept. */
function cut(title: string): string {
  return cutText(title, LONGEST.title);
}

function checkIds(opencodeSessionIds: string[]): void {
  for (const id of opencodeSessionIds) checkText("opencodeSessionId", id);
}

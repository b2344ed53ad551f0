/**
 * Deletes sessions that have ended and were left alone for as long as their worker was told. Once a day, for each
 * worker of which that is wanted; for others nothing happens.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import type { Doc, Id } from "./_generated/dataModel.js";
import { internalMutation, type MutationCtx } from "./_generated/server.js";
import { hideSession } from "./lib/deletion.js";
import { NOBODY } from "./lib/hidden.js";

const DAY = 24 * 60 * 60_000;
/** Sessions that one transaction looks at. */
const PAGE = 50;

/**
 * For how long a worker that starts wants its sessions kept, as fields of its document. The first look comes at once.
 * One that is to come stays; should it have failed, the next start makes another one.
 */
export async function retain(
  ctx: MutationCtx,
  worker: Id<"workers">,
  nextAt: number | undefined,
  retentionDays: number | undefined,
): Promise<Partial<Doc<"workers">>> {
  const now = Date.now();
  if (retentionDays === undefined || (nextAt !== undefined && nextAt > now - DAY)) return { retentionDays };
  await ctx.scheduler.runAt(now, internal.retention.look, { worker, at: now });
  return { retentionDays, retentionAt: now };
}

/** The daily look: begins the pages, and comes again tomorrow if it is still wanted. */
export const look = internalMutation({
  args: { worker: v.id("workers"), at: v.number() },
  handler: async (ctx, { worker: id, at }) => {
    const worker = await ctx.db.get(id);
    if (worker === null || worker.retentionAt !== at) return;
    if (worker.retentionDays === undefined) {
      await ctx.db.patch(id, { retentionAt: undefined });
      return;
    }
    const now = Date.now();
    const next = now + DAY;
    await ctx.db.patch(id, { retentionAt: next });
    await ctx.scheduler.runAt(next, internal.retention.look, { worker: id, at: next });
    const before = now - worker.retentionDays * DAY;
    await ctx.scheduler.runAfter(0, internal.retention.page, { worker: id, before, after: 0 });
  },
});

/** Deletes what was left alone since `before`, among the sessions that were made later than `after`: page by page. */
export const page = internalMutation({
  args: { worker: v.id("workers"), before: v.number(), after: v.number() },
  handler: async (ctx, { worker, before, after }) => {
    const sessions = await ctx.db
      .query("sessions")
      .withIndex("by_worker_and_state", (q) =>
        q.eq("worker", worker).eq("state", "ended").gt("_creationTime", after).lt("_creationTime", before),
      )
      .take(PAGE);
    for (const session of sessions) {
      // One that is deleted already is being removed.
      if (session.ownerId === NOBODY) continue;
      if (await wasLeftAlone(ctx, session._id, before)) await hideSession(ctx, session, false);
    }
    const last = sessions.at(-1);
    if (sessions.length === PAGE && last !== undefined) {
      await ctx.scheduler.runAfter(0, internal.retention.page, { worker, before, after: last._creationTime });
    }
  },
});

/** Whether a session's last turn ended before that moment. */
async function wasLeftAlone(ctx: MutationCtx, session: Id<"sessions">, before: number): Promise<boolean> {
  const last = await ctx.db
    .query("turns")
    .withIndex("by_session", (q) => q.eq("session", session))
    .order("desc")
    .first();
  return last === null || (last.endedAt !== undefined && last.endedAt < before);
}

/**
 * What nobody else would clean up: the traces of workers that went away, with or without a word, and of sessions that
 * ended. Each job is of one worker or one session, so that none that fails is anybody else's.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import type { Doc, Id } from "./_generated/dataModel.js";
import { internalMutation, type MutationCtx } from "./_generated/server.js";
import { NOBODY } from "./lib/hidden.js";
import {
  forget,
  GONE_AFTER,
  heartbeatOf,
  LATE_AFTER,
  lookAt,
  lostAfter,
  putOff,
  TIME_TO_COME_BACK,
} from "./lib/liveness.js";
import {
  endOpenTurns,
  endTurns,
  expiry,
  MAX_QUESTIONS,
  oldestOpenTurn,
  REVOKED_ENDING,
  roomFor,
  SESSION_ENDED_ENDING,
  takeTurns,
} from "./lib/queue.js";

/** Turns ended in one transaction. */
const PAGE = 50;

/**
 * Looks whether a worker is there: marks it offline when it is lost, and begins to end what it left when it is gone for
 * long. Reads a few rows whatever the backlog; what could fail is a job of its own, which the next check begins anew.
 *
 * A check that comes late says that the deployment stood still. Workers could not beat then, so it gives this one the
 * time to come back before it believes anything.
 */
export const check = internalMutation({
  args: { worker: v.id("workers"), at: v.number() },
  handler: async (ctx, { worker: id, at }) => {
    const row = await heartbeatOf(ctx, id);
    // Another check has taken the place of this one.
    if (row === null || row.checkAt !== at) return;
    const worker = await ctx.db.get(id);
    if (worker === null) return await forget(ctx, row);
    const [now, silence] = [Date.now(), lostAfter(row.intervalMs)];
    if (now - at > LATE_AFTER) return await putOff(ctx, row, now + Math.max(silence, TIME_TO_COME_BACK));
    if (worker.status === "online") {
      if (row.at + silence > now) return await putOff(ctx, row, row.at + silence);
      await ctx.db.patch(worker._id, { status: "offline" });
    }
    const due = await dueOf(ctx, row);
    if (due === null) return await forget(ctx, row);
    if (due > now) return await putOff(ctx, row, due);
    await putOff(ctx, row, now + GONE_AFTER);
    await ctx.scheduler.runAfter(0, internal.cleanup.expireAbandoned, { worker: worker._id });
  },
});

/** Expires what a worker that is gone for long has left, page by page; until it is back. */
export const expireAbandoned = internalMutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker: id }) => {
    const [row, worker] = [await heartbeatOf(ctx, id), await ctx.db.get(id)];
    const before = Date.now() - GONE_AFTER;
    if (row === null || isGone(worker) || row.at > before) return;
    const expire = (turn: Doc<"turns">) => expiry(turn, "gone");
    const { isDone } = await endOpenTurns(ctx, worker, roomFor(PAGE), before, expire);
    if (!isDone) {
      await ctx.scheduler.runAfter(0, internal.cleanup.expireAbandoned, { worker: id });
      return;
    }
    const due = await dueOf(ctx, row);
    if (due === null) await forget(ctx, row);
    else await lookAt(ctx, row, due);
  },
});

/** Fails all that is open of a worker whose access was taken away, page by page. */
export const failRevoked = internalMutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker: id }) => {
    const worker = await ctx.db.get(id);
    if (isGone(worker)) return;
    const { isDone } = await endOpenTurns(ctx, worker, roomFor(PAGE), Infinity, () => REVOKED_ENDING);
    if (!isDone) await ctx.scheduler.runAfter(0, internal.cleanup.failRevoked, { worker: id });
  },
});

/** Fails all that waits in a session that has ended, page by page. */
export const failEnded = internalMutation({
  args: { session: v.id("sessions") },
  handler: async (ctx, { session: id }) => {
    const session = await ctx.db.get(id);
    if (isGone(session)) return;
    const { page, isDone } = await takeTurns(pendingOf(ctx, id), roomFor(PAGE));
    await endTurns(ctx, session.ownerId, page, () => SESSION_ENDED_ENDING);
    if (!isDone) await ctx.scheduler.runAfter(0, internal.cleanup.failEnded, { session: id });
  },
});

/** Deletes what the permission questions of a turn that has ended showed: at most 16 times 300 KB. */
export const dropTexts = internalMutation({
  args: { turn: v.id("turns") },
  handler: async (ctx, { turn }) => {
    const texts = await ctx.db
      .query("permissionTexts")
      .withIndex("by_turn", (q) => q.eq("turn", turn))
      .take(MAX_QUESTIONS);
    for (const text of texts) await ctx.db.delete(text._id);
  },
});

/** What is deleted is removed elsewhere, with all its turns. */
function isGone<Row extends { ownerId: string }>(row: Row | null): row is null {
  return row === null || row.ownerId === NOBODY;
}

/** When what a worker that is away left is to be ended next; null if it left nothing. */
async function dueOf(ctx: MutationCtx, row: Doc<"workerHeartbeats">): Promise<number | null> {
  const oldest = await oldestOpenTurn(ctx, row.worker);
  return oldest === null ? null : Math.max(row.at, oldest) + GONE_AFTER;
}

function pendingOf(ctx: MutationCtx, session: Id<"sessions">) {
  return ctx.db
    .query("turns")
    .withIndex("by_session_and_state", (q) => q.eq("session", session).eq("state", "pending"));
}

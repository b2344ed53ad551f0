/**
 * What nobody else would clean up: the traces of workers that went away, with or without a word.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import { internalMutation } from "./_generated/server.js";
import { endOpenTurns, expireTurn, failRevokedTurn, oldestOpenTurn, roomFor } from "./lib/queue.js";
import type { MutationCtx } from "./_generated/server.js";
import type { Doc } from "./_generated/dataModel.js";

/** A worker that did not beat for this long (ms) is offline: six beats. */
const LOST_AFTER = 30_000;
/** A turn of a worker that did not beat for this long (ms) is expired once it is as old. */
const GONE_AFTER = 10 * 60_000;
/** Workers looked at, and turns ended over all of them, in one transaction. */
const PAGE = 50;

/**
 * Marks workers offline whose heart stopped, page by page: the rows of those that are marked already stay until their
 * turns have ended.
 */
export const markLostOffline = internalMutation({
  args: { cursor: v.optional(v.string()), before: v.optional(v.number()) },
  handler: async (ctx, args) => {
    const before = args.before ?? Date.now() - LOST_AFTER;
    const beats = await ctx.db
      .query("workerHeartbeats")
      .withIndex("by_at", (q) => q.lt("at", before))
      .paginate({ numItems: PAGE, cursor: args.cursor ?? null });
    for (const beat of beats.page) {
      const worker = await ctx.db.get(beat.worker);
      if (worker?.status === "online") await ctx.db.patch(worker._id, { status: "offline" });
    }
    if (!beats.isDone) {
      const rest = { cursor: beats.continueCursor, before };
      await ctx.scheduler.runAfter(0, internal.cleanup.markLostOffline, rest);
    }
  },
});

/**
 * Expires what workers that are gone for long have left, page by page. Every worker with an open turn has a heartbeat's
 * row (see `schema.ts`); it goes with the last of them. What it reads belongs to workers that are gone, so no live one
 * ever conflicts with it.
 */
export const expireAbandoned = internalMutation({
  args: {},
  handler: async (ctx) => {
    const before = Date.now() - GONE_AFTER;
    const room = roomFor(PAGE);
    for (const beat of await beatsBefore(ctx, before)) {
      const expire = (turn: Doc<"turns">) => expireTurn(ctx, turn, "gone");
      const { isDone } = await endOpenTurns(ctx, beat.worker, room, before, expire);
      if (!isDone) {
        await ctx.scheduler.runAfter(0, internal.cleanup.expireAbandoned, {});
        return;
      }
      await lookAgain(ctx, beat);
    }
  },
});

/** Fails all that is open of a worker whose access was taken away, page by page. */
export const failRevoked = internalMutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker }) => {
    const fail = (turn: Doc<"turns">) => failRevokedTurn(ctx, turn);
    const { isDone } = await endOpenTurns(ctx, worker, roomFor(PAGE), Infinity, fail);
    if (!isDone) await ctx.scheduler.runAfter(0, internal.cleanup.failRevoked, { worker });
  },
});

/** The row of a worker that is gone shows when its oldest open turn was sent; without one, the row goes. */
async function lookAgain(ctx: MutationCtx, beat: Doc<"workerHeartbeats">): Promise<void> {
  const oldest = await oldestOpenTurn(ctx, beat.worker);
  if (oldest !== null) {
    await ctx.db.patch(beat._id, { at: oldest });
    return;
  }
  const worker = await ctx.db.get(beat.worker);
  if (worker?.status === "online") await ctx.db.patch(worker._id, { status: "offline" });
  await ctx.db.delete(beat._id);
}

function beatsBefore(ctx: MutationCtx, moment: number) {
  return ctx.db
    .query("workerHeartbeats")
    .withIndex("by_at", (q) => q.lt("at", moment))
    .take(PAGE);
}

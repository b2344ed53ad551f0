/**
 * What nobody else would clean up: the traces of workers that went away without a word.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import { internalMutation } from "./_generated/server.js";
import { expireTurn } from "./lib/queue.js";
import type { MutationCtx } from "./_generated/server.js";
import type { Doc } from "./_generated/dataModel.js";

/** A worker that did not beat for this long (ms) is offline: six beats. */
const LOST_AFTER = 30_000;
/** The turns of a worker that did not beat for this long (ms) are expired. */
const GONE_AFTER = 10 * 60_000;
/** Workers looked at, and turns expired over all of them, in one transaction. */
const PAGE = 50;

/**
 * Marks workers offline whose heart stopped, page by page: the rows of those that are marked already stay until their
 * turns are expired.
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

/** Expires what workers that are gone for long have left, page by page; the last page drops the heartbeat. */
export const expireAbandoned = internalMutation({
  args: {},
  handler: async (ctx) => {
    let room = PAGE;
    for (const beat of await beatsBefore(ctx, Date.now() - GONE_AFTER)) {
      const page = await openTurns(ctx, beat, room);
      for (const turn of page) await expireTurn(ctx, turn, "gone");
      room -= page.length;
      if (room === 0) {
        await ctx.scheduler.runAfter(0, internal.cleanup.expireAbandoned, {});
        return;
      }
      await ctx.db.delete(beat._id);
    }
  },
});

function beatsBefore(ctx: MutationCtx, moment: number) {
  return ctx.db
    .query("workerHeartbeats")
    .withIndex("by_at", (q) => q.lt("at", moment))
    .take(PAGE);
}

async function openTurns(
  ctx: MutationCtx,
  beat: Doc<"workerHeartbeats">,
  room: number,
): Promise<Doc<"turns">[]> {
  const inState = (state: "claimed" | "pending", count: number) =>
    ctx.db
      .query("turns")
      .withIndex("by_worker_and_state", (q) => q.eq("worker", beat.worker).eq("state", state))
      .take(count);
  const claimed = await inState("claimed", room);
  return [...claimed, ...(await inState("pending", room - claimed.length || 1))].slice(0, room);
}

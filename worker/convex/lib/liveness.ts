/**
 * Whether a worker is there: its beats, and the check that looks after it once they stop.
 *
 * Each worker has at most one check to come, and its heartbeat's row says which. A check is due when the worker would
 * be lost, or when what it left would be ended; one that finds it too early puts itself off. A worker that is offline
 * and has no open turn has neither a row nor a check.
 */
import { internal } from "../_generated/api.js";
import type { Doc, Id } from "../_generated/dataModel.js";
import type { MutationCtx } from "../_generated/server.js";

/** How often a worker beats that does not say so (ms), and what it may say. */
const DEFAULT_INTERVAL = 10_000;
const SHORTEST_INTERVAL = 1_000;
const LONGEST_INTERVAL = 60_000;
/** A worker that did not beat for so many of its intervals is offline. */
const LOST_AFTER_INTERVALS = 3;
/** A turn of a worker that did not beat for this long (ms) is expired once it is as old. */
export const GONE_AFTER = 10 * 60_000;
/**
 * A check that comes so much later (ms) than it was due says that the deployment stood still. A worker then has this
 * long (ms), or the time in which it is lost, if that is longer, to come back: it tries again after half a minute at
 * most.
 */
export const LATE_AFTER = 30_000;
export const TIME_TO_COME_BACK = 60_000;
/** What was ended is looked at again so much later (ms) at the least, so that no mistake makes a loop. */
const LEAST_PAUSE = 30_000;

/** The row that says when a worker was last heard of. */
export function heartbeatOf(ctx: MutationCtx, worker: Id<"workers">): Promise<Doc<"workerHeartbeats"> | null> {
  return ctx.db
    .query("workerHeartbeats")
    .withIndex("by_worker", (q) => q.eq("worker", worker))
    .unique();
}

/** For how long (ms) a worker with this interval may be silent. */
export function lostAfter(intervalMs: number | undefined): number {
  return LOST_AFTER_INTERVALS * (intervalMs ?? DEFAULT_INTERVAL);
}

/** The worker lives. Whoever beats faster than before is looked at sooner, at once. */
export async function beat(ctx: MutationCtx, worker: Doc<"workers">, interval: number | undefined): Promise<void> {
  const now = Date.now();
  const intervalMs = Math.min(Math.max(interval ?? DEFAULT_INTERVAL, SHORTEST_INTERVAL), LONGEST_INTERVAL);
  const row = await heartbeatOf(ctx, worker._id);
  const fields = { worker: worker._id, epoch: worker.epoch, at: now, intervalMs };
  const due = now + lostAfter(intervalMs);
  // A check that has long been due has failed, or the deployment was down.
  const isToCome = row?.checkAt !== undefined && row.checkAt <= due && row.checkAt > now - LATE_AFTER;
  const check = isToCome ? {} : await replaceCheck(ctx, worker._id, row, due);
  if (row === null) await ctx.db.insert("workerHeartbeats", { ...fields, ...check });
  else await ctx.db.patch(row._id, { ...fields, ...check });
  if (worker.status !== "online") await ctx.db.patch(worker._id, { status: "online" });
}

/**
 * Sees that a turn which waits for a worker that is not there ends all the same, some time. The row of one that is
 * there is not looked at: it changes all the time.
 */
export async function expectWorker(ctx: MutationCtx, worker: Doc<"workers">): Promise<void> {
  if (worker.status === "online") return;
  const [row, now] = [await heartbeatOf(ctx, worker._id), Date.now()];
  const due = now + GONE_AFTER;
  if (row?.checkAt !== undefined && row.checkAt <= due && row.checkAt > now - GONE_AFTER) return;
  const check = await replaceCheck(ctx, worker._id, row, due);
  if (row !== null) await ctx.db.patch(row._id, check);
  else await ctx.db.insert("workerHeartbeats", { worker: worker._id, epoch: worker.epoch, at: now, ...check });
}

/** The check that runs puts itself off. */
export async function putOff(ctx: MutationCtx, row: Doc<"workerHeartbeats">, at: number): Promise<void> {
  await ctx.db.patch(row._id, await schedule(ctx, row.worker, at));
}

/** Has the worker of this row looked at then, instead of when it was to be. */
export async function lookAt(ctx: MutationCtx, row: Doc<"workerHeartbeats">, at: number): Promise<void> {
  const when = Math.max(at, Date.now() + LEAST_PAUSE);
  await ctx.db.patch(row._id, await replaceCheck(ctx, row.worker, row, when));
}

/** Nobody waits for the worker of this row, and it is not there. */
export async function forget(ctx: MutationCtx, row: Doc<"workerHeartbeats">): Promise<void> {
  await cancelCheck(ctx, row);
  await ctx.db.delete(row._id);
}

async function replaceCheck(ctx: MutationCtx, worker: Id<"workers">, row: Doc<"workerHeartbeats"> | null, at: number) {
  if (row !== null) await cancelCheck(ctx, row);
  return await schedule(ctx, worker, at);
}

/** One that is due already is left alone, it may be the one that runs: it finds that it is not the check to come. */
async function cancelCheck(ctx: MutationCtx, { check, checkAt }: Doc<"workerHeartbeats">): Promise<void> {
  if (check !== undefined && checkAt !== undefined && checkAt > Date.now()) await ctx.scheduler.cancel(check);
}

async function schedule(ctx: MutationCtx, worker: Id<"workers">, at: number) {
  const check = await ctx.scheduler.runAt(at, internal.cleanup.check, { worker, at });
  return { check, checkAt: at };
}

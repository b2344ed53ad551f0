/**
 * Machines and workers: who they are, whether they may work, and whether they are there.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import { mutation, query } from "./_generated/server.js";
import {
  credentials,
  findWorker,
  hashSecret,
  identity,
  refuse,
  requireOwnWorker,
  requirePerson,
  requireWorker,
} from "./lib/auth.js";
import { checkText, MAX_SHOWN_CHARACTERS, MAX_WORKERS } from "./lib/limits.js";
import { beat } from "./lib/liveness.js";
import { charge } from "./lib/usage.js";

/** A person adds a machine; its id goes into the tokens of the workers there. */
export const createMachine = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const ownerId = await requirePerson(ctx);
    checkText("name", name);
    await charge(ctx, ownerId, "machines");
    const machineId = `machine_${crypto.randomUUID().replaceAll("-", "")}`;
    await ctx.db.insert("machines", { machineId, ownerId, name });
    return machineId;
  },
});

/** The caller's workers, with what a list of them shows: as many as one person can have. */
export const list = query({
  args: {},
  handler: async (ctx) => {
    const owner = await requirePerson(ctx);
    const workers = ctx.db.query("workers").withIndex("by_owner", (q) => q.eq("ownerId", owner));
    const listed = [];
    let room = MAX_SHOWN_CHARACTERS;
    for await (const { _id, machineId, workerId, approval, status } of workers) {
      listed.push({ _id, machineId, workerId, approval, status });
      // Names from before there were bounds may be long.
      room -= machineId.length + workerId.length;
      if (listed.length === MAX_WORKERS || room <= 0) break;
    }
    return listed;
  },
});

/**
 * A worker process starts: raises the epoch, so that nothing of an earlier process counts any more.
 * The first registration of a worker on a known machine stores its secret's hash and waits for approval.
 */
export const register = mutation({
  args: { who: identity, acceptUnclaimedWithinMs: v.number() },
  handler: async (ctx, { who, acceptUnclaimedWithinMs }) => {
    const known = await findWorker(ctx, who);
    if (known?.approval === "revoked") throw refuse("revoked", "This worker's access was revoked.");
    const staleBefore = Date.now() - Math.max(0, acceptUnclaimedWithinMs);
    if (known !== null) {
      const epoch = known.epoch + 1;
      await ctx.db.patch(known._id, { epoch, staleBefore });
      const modelsDigest = known.modelsDigest ?? null;
      return { worker: known._id, epoch, staleBefore, approval: known.approval, modelsDigest };
    }
    const machine = await ctx.db
      .query("machines")
      .withIndex("by_machine_id", (q) => q.eq("machineId", who.machineId))
      .unique();
    if (machine === null) throw refuse("unauthorized", "This machine is not known. Add it first.");
    await charge(ctx, machine.ownerId, "workers");
    const worker = await ctx.db.insert("workers", {
      machineId: who.machineId,
      workerId: who.workerId,
      ownerId: machine.ownerId,
      secretHash: await hashSecret(who.secret),
      approval: "pending",
      status: "offline",
      epoch: 1,
      staleBefore,
    });
    return { worker, epoch: 1, staleBefore, approval: "pending" as const, modelsDigest: null };
  },
});

/** The worker's own record; a worker that waits for approval subscribes to it. */
export const getByMachineAndWorker = query({
  args: { who: identity },
  handler: async (ctx, { who }) => {
    const worker = await findWorker(ctx, who);
    if (worker === null) return null;
    const { approval, status, epoch, connectRequestedAt } = worker;
    return { approval, status, epoch, connectRequestedAt: connectRequestedAt ?? null };
  },
});

/** The machine's owner lets a worker work. */
export const approve = mutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, args) => {
    const worker = await requireOwnWorker(ctx, args.worker);
    await ctx.db.patch(worker._id, { approval: "approved" });
  },
});

/** The machine's owner takes a worker's access away, at once and for good. Its turns fail, and it gets no more. */
export const revoke = mutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, args) => {
    const worker = await requireOwnWorker(ctx, args.worker);
    await ctx.db.patch(worker._id, { approval: "revoked", status: "offline" });
    await ctx.scheduler.runAfter(0, internal.cleanup.failRevoked, { worker: worker._id });
  },
});

/**
 * The machine's owner is about to work with a worker: it starts OpenCode and publishes the models without waiting for
 * a message. One that may not work, or is not there, is refused.
 */
export const requestConnect = mutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, args) => {
    const worker = await requireOwnWorker(ctx, args.worker);
    if (worker.approval !== "approved") throw refuse("not_approved", "This worker is not approved.");
    if (worker.status !== "online") throw refuse("offline", "This worker is not online.");
    await ctx.db.patch(worker._id, { connectRequestedAt: Date.now() });
  },
});

/**
 * The worker is ready: stale turns are expired, the subscription stands. `intervalMs` is how often it means to beat (1 s
 * to 60 s; 10 s if it does not say): it is lost after three of them.
 */
export const markConnected = mutation({
  args: { who: credentials, intervalMs: v.optional(v.number()) },
  handler: async (ctx, { who, intervalMs }) => {
    await beat(ctx, await requireWorker(ctx, who), intervalMs);
  },
});

/**
 * The worker lives. Touches the heartbeat's own row alone, so that no subscription runs again; unless the worker had
 * been silent for so long that it was taken for lost. `intervalMs` as in `markConnected`; it may change with each beat.
 */
export const heartbeat = mutation({
  args: { who: credentials, intervalMs: v.optional(v.number()) },
  handler: async (ctx, { who, intervalMs }) => {
    await beat(ctx, await requireWorker(ctx, who), intervalMs);
  },
});

/** The worker stops. Its row stays until what it may have left open has ended. */
export const setOffline = mutation({
  args: { who: credentials },
  handler: async (ctx, { who }) => {
    const worker = await requireWorker(ctx, who);
    if (worker.status !== "offline") await ctx.db.patch(worker._id, { status: "offline" });
  },
});

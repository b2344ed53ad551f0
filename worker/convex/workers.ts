/**
 * Machines and workers: who they are, whether they may work, and whether they are there.
 *
 * A worker comes to be in one of two ways: its owner invites it and gives it the token, or it registers while its
 * machine's enrolment is open and waits until its owner approves what the worker's log shows, too.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import type { Doc } from "./_generated/dataModel.js";
import { mutation, query } from "./_generated/server.js";
import {
  credentials,
  findWorker,
  identity,
  machineOf,
  refuse,
  requireOwnMachine,
  requireOwnWorker,
  requirePerson,
  requireWorker,
  workerOf,
} from "./lib/auth.js";
import { deleteOneWorker } from "./lib/deletion.js";
import { checkText, MAX_SHOWN_CHARACTERS, MAX_WORKERS } from "./lib/limits.js";
import { beat } from "./lib/liveness.js";
import { checkProtocol, PROTOCOL } from "./lib/protocol.js";
import { fingerprintOf, hashSecret, makeSecret } from "./lib/secrets.js";
import { charge, dropCounts } from "./lib/usage.js";
import { hideAccount, hideWholeMachine } from "./removal.js";
import { retain } from "./retention.js";

/** For how long (minutes) enrolment can be opened, and how many workers of one machine may wait for approval. */
const LONGEST_ENROLMENT = 15;
const MAX_PENDING = 20;
/** Takeovers that are remembered of each worker, and for how long (ms) one was "lately". */
const MAX_TAKEOVERS = 20;
const LATELY = 24 * 60 * 60_000;
/** Machines that a list shows. */
const MAX_MACHINES = 1_000;

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

/** The caller's machines, and until when (ms) their enrolment is open (null if it is not). */
export const listMachines = query({
  args: {},
  handler: async (ctx) => {
    const owner = await requirePerson(ctx);
    const machines = ctx.db.query("machines").withIndex("by_owner", (q) => q.eq("ownerId", owner));
    const listed = [];
    let room = MAX_SHOWN_CHARACTERS;
    for await (const { machineId, name, enrolmentUntil } of machines) {
      const isOpen = enrolmentUntil !== undefined && enrolmentUntil > Date.now();
      listed.push({ machineId, name, enrolmentUntil: isOpen ? enrolmentUntil : null });
      // Names from before there were bounds may be long.
      room -= name.length;
      if (listed.length === MAX_MACHINES || room <= 0) break;
    }
    return listed;
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
    for await (const worker of workers) {
      listed.push(shown(worker));
      // Names from before there were bounds may be long.
      room -= worker.workerId.length;
      if (listed.length === MAX_WORKERS || room <= 0) break;
    }
    return listed;
  },
});

/**
 * Makes a worker of this name (`worker_…`) that may work, and its token's parts. The secret is shown this once: the
 * token is `machineId:workerId:secret`.
 */
export const invite = mutation({
  args: { machine: v.string(), workerId: v.string() },
  handler: async (ctx, { machine, workerId }) => {
    const { machineId, ownerId } = await requireOwnMachine(ctx, machine);
    if (!/^worker_[A-Za-z0-9_-]{1,128}$/.test(workerId)) {
      throw refuse("not_a_name", "A worker's name is `worker_` and 1 to 128 letters, digits, `_` or `-`.");
    }
    if ((await workerOf(ctx, machineId, workerId)) !== null) {
      throw refuse("taken", `There is a worker \`${workerId}\` on this machine; \`rotate\` gives it a new secret.`);
    }
    await charge(ctx, ownerId, "workers");
    const [secret, now] = [makeSecret(), Date.now()];
    await ctx.db.insert("workers", {
      machineId,
      workerId,
      ownerId,
      secretHash: await hashSecret(secret),
      approval: "approved",
      status: "offline",
      epoch: 0,
      staleBefore: now,
      invitedAt: now,
    });
    return { machineId, workerId, secret };
  },
});

/**
 * Lets workers register on a machine that were not invited, for so many minutes (15 at most). They wait for approval.
 * Whoever knows the machine's id may try it so long: compare fingerprints before you approve.
 */
export const openEnrolment = mutation({
  args: { machine: v.string(), minutes: v.number() },
  handler: async (ctx, { machine: id, minutes }) => {
    const machine = await requireOwnMachine(ctx, id);
    if (!(minutes > 0 && minutes <= LONGEST_ENROLMENT)) {
      throw refuse("not_minutes", `Enrolment is open for at most ${LONGEST_ENROLMENT} minutes, not ${minutes}.`);
    }
    const enrolmentUntil = Date.now() + minutes * 60_000;
    await ctx.db.patch(machine._id, { enrolmentUntil });
    return { enrolmentUntil };
  },
});

/** Lets no more workers register that were not invited. Those that wait for approval wait on. */
export const closeEnrolment = mutation({
  args: { machine: v.string() },
  handler: async (ctx, { machine }) => {
    await ctx.db.patch((await requireOwnMachine(ctx, machine))._id, { enrolmentUntil: undefined });
  },
});

/**
 * A worker process starts: raises the epoch, so that nothing of an earlier process counts any more. A worker that was
 * not invited can register while its machine's enrolment is open; it waits for approval.
 */
export const register = mutation({
  args: {
    who: identity,
    acceptUnclaimedWithinMs: v.number(),
    /** For how many days sessions that have ended are kept; for ever, if it is not said. */
    retentionDays: v.optional(v.number()),
    /** Which protocol the worker speaks; 1, if it does not say. */
    protocol: v.optional(v.number()),
  },
  handler: async (ctx, { who, acceptUnclaimedWithinMs, retentionDays, protocol }) => {
    checkProtocol(protocol);
    if (retentionDays !== undefined && !(retentionDays >= 1)) {
      const message = `Sessions are kept for a day at least, not for ${retentionDays}; say nothing to keep them.`;
      throw refuse("not_days", message);
    }
    const known = await findWorker(ctx, who);
    if (known?.approval === "revoked") throw refuse("revoked", "This worker's access was revoked.");
    const now = Date.now();
    const staleBefore = now - Math.max(0, acceptUnclaimedWithinMs);
    if (known !== null) {
      const epoch = known.epoch + 1;
      const retention = await retain(ctx, known._id, known.retentionAt, retentionDays);
      await ctx.db.patch(known._id, { epoch, staleBefore, ...startOf(known, now), ...retention });
      const modelsDigest = known.modelsDigest ?? null;
      return { worker: known._id, epoch, staleBefore, approval: known.approval, modelsDigest, protocol: PROTOCOL };
    }
    const machine = await machineOf(ctx, who.machineId);
    if (machine === null) throw refuse("unauthorized", "This machine is not known. Add it first.");
    if (machine.enrolmentUntil === undefined || machine.enrolmentUntil <= now) {
      throw refuse(
        "not_invited",
        "This worker was not invited. The machine's owner makes its token with `workers:invite`, or opens enrolment " +
          "for some minutes with `workers:openEnrolment`.",
      );
    }
    const waiting = await ctx.db
      .query("workers")
      .withIndex("by_machine_and_approval", (q) => q.eq("machineId", who.machineId).eq("approval", "pending"))
      .take(MAX_PENDING);
    if (waiting.length === MAX_PENDING) {
      const message = `${MAX_PENDING} workers of this machine wait for approval. Approve, revoke or delete some first.`;
      throw refuse("too_many_pending", message);
    }
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
      registeredAt: now,
    });
    const retention = await retain(ctx, worker, undefined, retentionDays);
    if (retentionDays !== undefined) await ctx.db.patch(worker, retention);
    return { worker, epoch: 1, staleBefore, approval: "pending" as const, modelsDigest: null, protocol: PROTOCOL };
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

/**
 * The machine's owner lets a worker work that waits for it. With the `fingerprint` that its log shows, only the one
 * that has that secret.
 */
export const approve = mutation({
  args: { worker: v.id("workers"), fingerprint: v.optional(v.string()) },
  handler: async (ctx, { worker: id, fingerprint }) => {
    const worker = await requireOwnWorker(ctx, id);
    if (worker.approval !== "pending") {
      throw refuse("not_pending", `This worker does not wait for approval: it is ${worker.approval}.`);
    }
    if (fingerprint !== undefined && fingerprint.trim().toLowerCase() !== fingerprintOf(worker.secretHash)) {
      const message = "This worker's secret has another fingerprint: it is not the one that you mean.";
      throw refuse("other_fingerprint", message);
    }
    await ctx.db.patch(worker._id, { approval: "approved" });
  },
});

/**
 * Gives a worker a new secret, shown this once: whoever has the old one is out at once, and its chats stay. A worker
 * whose access was taken away gets none.
 */
export const rotate = mutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker: id }) => {
    const worker = await requireOwnWorker(ctx, id);
    if (worker.approval === "revoked") {
      throw refuse("revoked", "This worker's access was taken away, for good. Invite another one.");
    }
    const secret = makeSecret();
    const secretHash = await hashSecret(secret);
    await ctx.db.patch(worker._id, { secretHash, epoch: worker.epoch + 1, status: "offline" });
    return { machineId: worker.machineId, workerId: worker.workerId, secret };
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

/** Deletes a worker that is offline or revoked, with its sessions: gone at once, removed soon. */
export const deleteWorker = mutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker: id }) => {
    const worker = await requireOwnWorker(ctx, id);
    if (worker.status === "online") {
      throw refuse("online", "This worker is online. Stop it or revoke its access first.");
    }
    await deleteOneWorker(ctx, worker);
  },
});

/** Deletes a machine with its workers, online or not, and their sessions: gone at once, removed soon. */
export const deleteMachine = mutation({
  args: { machine: v.string() },
  handler: async (ctx, { machine: id }) => {
    const machine = await requireOwnMachine(ctx, id);
    await hideWholeMachine(ctx, machine, machine.ownerId);
  },
});

/** Deletes all that the caller has: gone at once, removed soon. What an operator set for them stays. */
export const deleteAccount = mutation({
  args: {},
  handler: async (ctx) => {
    const ownerId = await requirePerson(ctx);
    await hideAccount(ctx, ownerId);
    await dropCounts(ctx, ownerId);
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
 * The worker is ready: stale turns are expired, the subscription stands. `intervalMs` is how often it means to beat
 * (1 s to 60 s; 10 s if it does not say): it is lost after three of them.
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

/** What a list shows of a worker. */
function shown(worker: Doc<"workers">) {
  const { _id, machineId, workerId, approval, status, epoch, invitedAt, takeovers = [] } = worker;
  const registeredAt = worker.registeredAt ?? (invitedAt === undefined ? worker._creationTime : null);
  return {
    _id,
    machineId,
    workerId,
    approval,
    status,
    epoch,
    registeredAt,
    fingerprint: fingerprintOf(worker.secretHash),
    lastTakeoverAt: takeovers.at(-1) ?? null,
    takeoversLately: takeovers.filter((at) => at > Date.now() - LATELY).length,
  };
}

/** What a start tells of: the first one, and one that takes the place of a process that was online. */
function startOf(worker: Doc<"workers">, now: number): Partial<Doc<"workers">> {
  const start: Partial<Doc<"workers">> = {};
  if (worker.invitedAt !== undefined && worker.registeredAt === undefined) start.registeredAt = now;
  if (worker.status === "online") start.takeovers = [...(worker.takeovers ?? []), now].slice(-MAX_TAKEOVERS);
  return start;
}

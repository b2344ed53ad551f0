/**
 * What is deleted is gone at once for people and for workers, and removed page by page (`removal.ts`).
 *
 * It keeps no owner, and no name by which a worker could find it: so neither lists nor look-ups show it. The sessions of
 * a deleted worker, which may be many, keep theirs and are hidden by the worker (`isHidden`).
 */
import { internal } from "../_generated/api.js";
import type { Doc } from "../_generated/dataModel.js";
import type { MutationCtx } from "../_generated/server.js";
import { NOBODY } from "./hidden.js";
import { forget, heartbeatOf } from "./liveness.js";
import { cancelRunning, dropQuestions, readyRow } from "./queue.js";
import { release } from "./usage.js";

/** Workers that one transaction hides, each with up to six of 4,096 index ranges; by default nobody has as many. */
export const HIDDEN_AT_ONCE = 400;
/** A running turn has so long (ms) to be stopped before it goes. */
const STOPPING = 30_000;

/** Makes a session invisible and has it removed; `forever`, if its OpenCode session is to make no other one. */
export async function hideSession(ctx: MutationCtx, session: Doc<"sessions">, forever: boolean): Promise<void> {
  const { _id, ownerId, worker, opencodeSessionId } = session;
  const running = await cancelRunning(ctx, _id);
  if (running !== null) await dropQuestions(ctx, running._id);
  const row = await readyRow(ctx, _id);
  if (row !== null) await ctx.db.delete(row._id);
  if (forever && opencodeSessionId !== undefined) {
    await ctx.db.insert("forgottenSessions", { worker, opencodeSessionId });
  }
  const nothing = { title: undefined, model: undefined, opencodeSessionId: undefined };
  await ctx.db.patch(_id, { ownerId: NOBODY, state: "ended", ...nothing });
  await release(ctx, ownerId, "sessions", 1);
  const delay = running === null ? 0 : STOPPING;
  await ctx.scheduler.runAfter(delay, internal.removal.session, { session: _id, ownerId });
}

/** Makes a worker, and with it its sessions, invisible. `machineId` is what its machine is called from now on. */
async function hideWorker(ctx: MutationCtx, worker: Doc<"workers">, machineId: string): Promise<void> {
  const beat = await heartbeatOf(ctx, worker._id);
  if (beat !== null) await forget(ctx, beat);
  await ctx.db.patch(worker._id, {
    ownerId: NOBODY,
    machineId,
    secretHash: "",
    approval: "revoked",
    status: "offline",
    retentionDays: undefined,
  });
}

/** Makes one worker invisible and has it removed. */
export async function deleteOneWorker(ctx: MutationCtx, worker: Doc<"workers">): Promise<void> {
  const { _id, ownerId } = worker;
  await hideWorker(ctx, worker, hiddenName(_id));
  await release(ctx, ownerId, "workers", 1);
  await ctx.scheduler.runAfter(0, internal.removal.worker, { worker: _id, ownerId });
}

/**
 * Makes a machine and its workers invisible and has them removed; `giveBack` is whose counts that changes later. Returns
 * how many workers more there is `room` for in this transaction. If there is none, the machine is still to be hidden.
 */
export async function hideMachine(
  ctx: MutationCtx,
  machine: Doc<"machines">,
  giveBack: string,
  room: number,
): Promise<number> {
  const machineId = hiddenName(machine._id);
  const workers = await ctx.db
    .query("workers")
    .withIndex("by_machine_and_worker", (q) => q.eq("machineId", machine.machineId))
    .take(room);
  for (const worker of workers) await hideWorker(ctx, worker, machineId);
  await release(ctx, machine.ownerId, "workers", workers.length);
  if (workers.length === room) return 0;
  await ctx.db.patch(machine._id, { ownerId: NOBODY, machineId, name: "", enrolmentUntil: undefined });
  await release(ctx, machine.ownerId, "machines", 1);
  await ctx.scheduler.runAfter(0, internal.removal.machine, { machine: machine._id, ownerId: giveBack });
  return room - workers.length;
}

/** The name of a machine that is deleted, or of that of a worker which is: found by nobody who knew it. */
function hiddenName(id: string): string {
  return `deleted_${id}`;
}

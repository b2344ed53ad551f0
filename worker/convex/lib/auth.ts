/**
 * Who may do what. People prove themselves by `ctx.auth`; workers by their secret and their epoch.
 */
import { v, type Infer } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel.js";
import type { MutationCtx, QueryCtx } from "../_generated/server.js";
import { isHidden } from "./hidden.js";
import { checkText } from "./limits.js";
import { refuse } from "./refusal.js";
import { hashSecret } from "./secrets.js";

export { refuse };

/** Who a worker says that it is. */
export const identity = v.object({
  machineId: v.string(),
  workerId: v.string(),
  secret: v.string(),
});

/** The same, as one incarnation: what every worker function but registration asks for. */
export const credentials = v.object({
  machineId: v.string(),
  workerId: v.string(),
  secret: v.string(),
  epoch: v.number(),
});

/** The caller's stable identifier; refuses whoever is not signed in. */
export async function requirePerson(ctx: QueryCtx): Promise<string> {
  const person = await ctx.auth.getUserIdentity();
  if (person === null) throw refuse("unauthenticated", "Sign in first.");
  return person.tokenIdentifier;
}

/** The caller's own session. A stranger's looks the same as none at all. */
export async function requireSession(ctx: QueryCtx, id: Id<"sessions">): Promise<Doc<"sessions">> {
  const owner = await requirePerson(ctx);
  const session = await ctx.db.get(id);
  if (session === null || session.ownerId !== owner || (await isHidden(ctx, session))) {
    throw refuse("not_found", "This session does not exist.");
  }
  return session;
}

/** The caller's own worker. A stranger's looks the same as none at all. */
export async function requireOwnWorker(ctx: QueryCtx, id: Id<"workers">): Promise<Doc<"workers">> {
  const owner = await requirePerson(ctx);
  const worker = await ctx.db.get(id);
  if (worker === null || worker.ownerId !== owner) {
    throw refuse("not_found", "This worker does not exist.");
  }
  return worker;
}

/** The caller's own machine. A stranger's looks the same as none at all. */
export async function requireOwnMachine(ctx: QueryCtx, machineId: string): Promise<Doc<"machines">> {
  const owner = await requirePerson(ctx);
  checkText("machineId", machineId);
  const machine = await machineOf(ctx, machineId);
  if (machine === null || machine.ownerId !== owner) throw refuse("not_found", "This machine does not exist.");
  return machine;
}

/** The machine with this id, which stands in tokens. */
export function machineOf(ctx: QueryCtx, machineId: string): Promise<Doc<"machines"> | null> {
  return ctx.db
    .query("machines")
    .withIndex("by_machine_id", (q) => q.eq("machineId", machineId))
    .unique();
}

/** The worker of this name on this machine, or null. */
export function workerOf(ctx: QueryCtx, machineId: string, workerId: string): Promise<Doc<"workers"> | null> {
  return ctx.db
    .query("workers")
    .withIndex("by_machine_and_worker", (q) => q.eq("machineId", machineId).eq("workerId", workerId))
    .unique();
}

/** The worker with this identity, its secret checked, or null if it never registered. */
export async function findWorker(
  ctx: QueryCtx,
  who: Infer<typeof identity>,
): Promise<Doc<"workers"> | null> {
  checkText("machineId", who.machineId);
  checkText("workerId", who.workerId);
  checkText("secret", who.secret);
  const worker = await workerOf(ctx, who.machineId, who.workerId);
  if (worker !== null && worker.secretHash !== (await hashSecret(who.secret))) {
    throw refuse("unauthorized", "The secret does not belong to this worker.");
  }
  return worker;
}

/** The calling worker: known, approved and of the current epoch. */
export async function requireWorker(
  ctx: QueryCtx | MutationCtx,
  who: Infer<typeof credentials>,
): Promise<Doc<"workers">> {
  const worker = await findWorker(ctx, who);
  if (worker === null) throw refuse("unauthorized", "This worker is not registered.");
  if (worker.approval === "revoked") throw refuse("revoked", "This worker's access was revoked.");
  if (worker.approval === "pending") throw refuse("not_approved", "This worker waits for approval.");
  if (worker.epoch !== who.epoch) {
    throw refuse("superseded", `Epoch ${who.epoch} was superseded by epoch ${worker.epoch}.`);
  }
  return worker;
}

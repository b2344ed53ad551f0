/**
 * Who may do what. People prove themselves by `ctx.auth`; workers by their secret and their epoch.
 */
import { v, type Infer } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel.js";
import type { MutationCtx, QueryCtx } from "../_generated/server.js";
import { checkText } from "./limits.js";
import { refuse } from "./refusal.js";

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
  if (session === null || session.ownerId !== owner) {
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

/** The worker with this identity, its secret checked, or null if it never registered. */
export async function findWorker(
  ctx: QueryCtx,
  who: Infer<typeof identity>,
): Promise<Doc<"workers"> | null> {
  checkText("machineId", who.machineId);
  checkText("workerId", who.workerId);
  checkText("secret", who.secret);
  const worker = await ctx.db
    .query("workers")
    .withIndex("by_machine_and_worker", (q) => q.eq("machineId", who.machineId).eq("workerId", who.workerId))
    .unique();
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

/** The two hexadecimal digits of each byte. Every call of a worker hashes its secret: looked up is faster than printed. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Secrets are random and long, so one round of SHA-256 is enough to keep them. */
export async function hashSecret(secret: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret));
  let hash = "";
  for (const byte of new Uint8Array(digest)) hash += HEX[byte];
  return hash;
}

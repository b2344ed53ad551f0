/**
 * What an operator may change: how much one person may have.
 */
import { v } from "convex/values";
import { internalMutation } from "./_generated/server.js";
import { MAX_WORKERS } from "./lib/limits.js";
import { refuse } from "./lib/refusal.js";
import { rowOf } from "./lib/usage.js";

/** A number; null for no limit. */
const limit = v.optional(v.union(v.number(), v.null()));

/**
 * Sets limits of one person, named as `machines.ownerId` names them; what is left out goes back to its default
 * (`lib/limits.ts`). What they have already stays.
 *
 * `npx convex run limits:set '{"ownerId": "https://issuer|user", "sessions": 50000, "messagesPerMinute": null}'`
 */
export const set = internalMutation({
  args: {
    ownerId: v.string(),
    machines: limit,
    workers: v.optional(v.number()),
    sessions: limit,
    pendingTurns: limit,
    messagesPerMinute: limit,
  },
  handler: async (ctx, { ownerId, ...limits }) => {
    for (const [what, count] of Object.entries(limits)) {
      if (count === null || count === undefined) continue;
      if (!Number.isSafeInteger(count) || count < 0) {
        throw refuse("not_a_limit", `\`${what}\` is a whole number that is not negative, not ${count}.`);
      }
    }
    if ((limits.workers ?? 0) > MAX_WORKERS) {
      throw refuse("not_a_limit", `\`workers\` is at most ${MAX_WORKERS}: as many as a list shows.`);
    }
    const row = await rowOf(ctx, ownerId, "known");
    const given = Object.fromEntries(Object.entries(limits).filter(([, count]) => count !== undefined));
    await ctx.db.patch(row._id, { limits: given });
  },
});

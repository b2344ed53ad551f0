/**
 * Which models a worker's OpenCode offers.
 */
import { v } from "convex/values";
import { mutation, query } from "./_generated/server.js";
import { credentials, requireOwnWorker, requireWorker } from "./lib/auth.js";
import { checkText, LONGEST } from "./lib/limits.js";

/** More models than this are not stored, nor more characters of all of them: they are one document. */
const MAX_MODELS = 2_000;
const MAX_CHARACTERS = 300_000;

/**
 * Replaces the list, without what is beyond the bounds and names that are too long to be chosen; writes nothing if it
 * is the same. `digest` is the worker's own: `workers.register` returns it, so that a worker whose models are the
 * same does not even call.
 */
export const updateModels = mutation({
  args: { who: credentials, models: v.array(v.string()), digest: v.string() },
  handler: async (ctx, { who, models, digest }) => {
    checkText("digest", digest);
    const worker = await requireWorker(ctx, who);
    const kept = bound(models);
    const row = await ctx.db
      .query("workerModels")
      .withIndex("by_worker", (q) => q.eq("worker", worker._id))
      .unique();
    if (row === null) await ctx.db.insert("workerModels", { worker: worker._id, models: kept });
    else if (JSON.stringify(row.models) !== JSON.stringify(kept)) await ctx.db.patch(row._id, { models: kept });
    if (worker.modelsDigest !== digest) await ctx.db.patch(worker._id, { modelsDigest: digest });
  },
});

/** The models that a person can choose from for this worker. */
export const list = query({
  args: { worker: v.id("workers") },
  handler: async (ctx, args) => {
    const worker = await requireOwnWorker(ctx, args.worker);
    const row = await ctx.db
      .query("workerModels")
      .withIndex("by_worker", (q) => q.eq("worker", worker._id))
      .unique();
    return row?.models ?? [];
  },
});

function bound(models: string[]): string[] {
  let room = MAX_CHARACTERS;
  const choosable = models.filter((model) => model.length <= LONGEST.model).slice(0, MAX_MODELS);
  return choosable.filter((model) => (room -= model.length) >= 0);
}

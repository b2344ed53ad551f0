/** What the limits of a transaction are tried with. */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import { internalMutation, mutation, query } from "./_generated/server.js";

export const insert = mutation({
  args: { count: v.number(), bytes: v.number() },
  handler: async (ctx, { count, bytes }) => {
    const name = "x".repeat(bytes);
    for (let n = 0; n < count; n += 1) await ctx.db.insert("items", { name, n });
  },
});

export const scan = query({ args: { count: v.number() }, handler: async (ctx, { count }) => (await ctx.db.query("items").take(count)).length });

export const ranges = query({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    for (let n = 0; n < count; n += 1) await ctx.db.query("items").withIndex("by_n", (q) => q.eq("n", n)).first();
  },
});

export const schedule = mutation({
  args: { count: v.number(), bytes: v.number() },
  handler: async (ctx, { count, bytes }) => {
    const text = "x".repeat(bytes);
    for (let n = 0; n < count; n += 1) await ctx.scheduler.runAfter(3_600_000, internal.limits.nothing, { text });
  },
});

export const nothing = internalMutation({ args: { text: v.string() }, handler: async () => {} });

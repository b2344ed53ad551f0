/** What the recorded clients called: the stub that they spoke with behaved like this. */
import { ConvexError, v } from "convex/values";
import { mutation, query, type QueryCtx } from "./_generated/server.js";

const state = async (ctx: QueryCtx) => ({ count: (await ctx.db.query("claims").collect()).length, big: 7n });

export const mine = query({ args: { worker: v.string(), n: v.number(), f: v.optional(v.number()), big: v.int64() }, handler: state });

export const failing = query({
  args: {},
  handler: async (ctx) => {
    const seen = await state(ctx);
    if (seen.count === 0) throw new ConvexError({ code: "E" });
    return seen;
  },
});

const write = mutation({
  args: { worker: v.optional(v.string()), k: v.optional(v.number()) },
  handler: async (ctx) => {
    await ctx.db.insert("claims", {});
    return null;
  },
});

export const claim = write;
export const dropA = write;
export const respdrop = write;

export const bad = mutation({
  args: {},
  handler: () => {
    throw new ConvexError({ code: "nope" });
  },
});

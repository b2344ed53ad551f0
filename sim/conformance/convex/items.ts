/** What the client suite calls. */
import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api.js";
import { action, mutation, query } from "./_generated/server.js";

export const add = mutation({
  args: { name: v.string(), n: v.number() },
  handler: async (ctx, item) => {
    await ctx.db.insert("items", item);
    return item.name;
  },
});

export const names = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("items").withIndex("by_n").collect()).map(({ name }) => name),
});

/** Fails as long as there is nothing. */
export const first = query({
  args: {},
  handler: async (ctx) => {
    const found = await ctx.db.query("items").first();
    if (found === null) throw new ConvexError({ code: "empty", message: "There is nothing." });
    return found.name;
  },
});

export const page = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const page = await ctx.db.query("items").withIndex("by_n").paginate(paginationOpts);
    return { ...page, page: page.page.map(({ name }) => name) };
  },
});

/** `bytes` letters and how many items there are. */
export const large = query({
  args: { bytes: v.number() },
  handler: async (ctx, { bytes }) => ({
    text: "é".repeat(bytes / 2),
    count: (await ctx.db.query("items").collect()).length,
  }),
});

export const refuse = mutation({
  args: {},
  handler: () => {
    throw new ConvexError({ code: "no", message: "No." });
  },
});

export const boom = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("items", { name: "lost", n: 0 });
    throw new Error("boom");
  },
});

export const who = query({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject ?? "nobody",
});

/** Adds by a mutation, and says by a query what there is then. */
export const addByAction = action({
  args: { name: v.string(), n: v.number() },
  handler: async (ctx, item): Promise<string[]> => {
    await ctx.runMutation(internal.items.add, item);
    return await ctx.runQuery(internal.items.names, {});
  },
});

export const refuseByAction = action({ args: {}, handler: (ctx) => ctx.runMutation(internal.items.refuse, {}) });

export const whoByAction = action({ args: {}, handler: (ctx) => ctx.runQuery(internal.items.who, {}) });

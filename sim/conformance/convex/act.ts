/** The actions that the recorded clients called. */
import { internal } from "./_generated/api.js";
import { action } from "./_generated/server.js";

export const run = action({ handler: async () => "acted" });

/** Takes longer than a mutation. */
export const slow = action({
  handler: async (ctx) => {
    for (let n = 0; n < 2; n += 1) await ctx.runQuery(internal.items.names, {});
    return "acted";
  },
});

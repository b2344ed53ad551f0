/**
 * The backend functions of the predecessor, as it behaved: whole tables are read, and whoever knows a worker's id
 * may read and write. They exist for the negative control alone and are never deployed.
 */
import { v } from "convex/values";
import { mutation, query } from "./_generated/server.js";

/** All active sessions, without a limit (P1). */
export const getActiveSessions = query({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker }) => {
    const sessions = await ctx.db
      .query("sessions")
      .withIndex("by_worker_and_state", (q) => q.eq("worker", worker).eq("state", "active"))
      .collect();
    return sessions.map(({ _id, opencodeSessionId }) => ({ session: _id, opencode: opencodeSessionId ?? null }));
  },
});

/** All messages of all time, sent again at every change (P7). */
export const subscribeToWorkerMessages = query({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker }) => {
    const turns = await ctx.db.query("turns").collect();
    const messages = new Map((await ctx.db.query("messages").collect()).map(({ turn, content }) => [turn, content]));
    return turns
      .filter((turn) => turn.worker === worker)
      .map(({ _id, session, content, state, _creationTime }) => ({
        turn: _id,
        session,
        content: content ?? messages.get(_id) ?? "",
        sent: _creationTime,
        completed: state === "completed",
      }));
  },
});

/** Stores a whole reply; nothing was claimed before. */
export const completeMessage = mutation({
  args: { turn: v.id("turns"), text: v.string() },
  handler: async (ctx, { turn, text }) => {
    await ctx.db.insert("chunks", { turn, sequence: 0, text });
    await ctx.db.patch(turn, { state: "completed", chunks: 1, endedAt: Date.now() });
  },
});

/** Links a session to its OpenCode session. */
export const sessionReady = mutation({
  args: { session: v.id("sessions"), opencodeSessionId: v.string() },
  handler: async (ctx, { session, opencodeSessionId }) => {
    await ctx.db.patch(session, { opencodeSessionId });
  },
});

/** Patches the document that every function reads (P9). */
export const heartbeat = mutation({
  args: { worker: v.id("workers") },
  handler: async (ctx, { worker }) => {
    await ctx.db.patch(worker, { connectRequestedAt: Date.now() });
  },
});

/**
 * Sessions and turns: what people do, and what a worker does for them.
 */
import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import type { Doc, Id } from "./_generated/dataModel.js";
import { mutation, query, type MutationCtx, type QueryCtx } from "./_generated/server.js";
import {
  credentials,
  refuse,
  requireOwnWorker,
  requirePerson,
  requireSession,
  requireWorker,
} from "./lib/auth.js";
import { hideSession } from "./lib/deletion.js";
import { NOBODY } from "./lib/hidden.js";
import { bounded, checkText, checkWellFormed } from "./lib/limits.js";
import { expectWorker } from "./lib/liveness.js";
import {
  cancelRunning,
  countChunks,
  endTurns,
  expiry,
  firstInState,
  readyRow,
  refreshReady,
  roomFor,
  runningTurn,
  SESSION_ENDED_ENDING,
  takeTurns,
} from "./lib/queue.js";
import { charge, chargeMessage, release } from "./lib/usage.js";
import { turnError } from "./schema.js";

/** The longest message (UTF-16 units): three bytes each still fit a document. */
const MAX_MESSAGE = 200_000;
/** The longest chunk (likewise). */
const MAX_CHUNK = 200_000;
/** The most that the window shows. */
const MAX_WINDOW = 100;
/** Each expired turn reads up to seven index ranges of the 4,096 that one transaction may read. */
const MAX_EXPIRE = 500;
/** Turns of one page: so many of the longest messages, 12 MB, fit a transaction and an answer of 16 MiB. */
const TURNS_PAGE = 20;
/** Rows of other pages, and the bytes after which a page ends. */
const ROWS_PAGE = 500;
const BYTES_PAGE = 3_000_000;

// ── People ───────────────────────────────────────────────────────────────────

/** Opens a session with a worker. */
export const startSession = mutation({
  args: { worker: v.id("workers"), title: v.optional(v.string()), model: v.optional(v.string()) },
  handler: async (ctx, { worker: id, title, model }) => {
    checkText("title", title);
    checkText("model", model);
    const worker = mayWork(await requireOwnWorker(ctx, id));
    await charge(ctx, worker.ownerId, "sessions");
    return await ctx.db.insert("sessions", {
      worker: worker._id,
      ownerId: worker.ownerId,
      title,
      model,
      state: "active",
    });
  },
});

/**
 * Sends a message: a new turn, pending until the worker claims it. One that does not come for ten minutes, or whose
 * access is taken away, does not keep it: the turn ends then.
 */
export const sendMessage = mutation({
  args: { session: v.id("sessions"), content: v.string(), model: v.optional(v.string()) },
  handler: async (ctx, { session: id, content, model }) => {
    const session = await requireSession(ctx, id);
    if (session.state === "ended") throw refuse("session_ended", "This session has ended.");
    if (content.length === 0) throw refuse("empty_message", "The message is empty.");
    if (content.length > MAX_MESSAGE) {
      throw refuse("message_too_long", `The message has ${content.length} characters; ${MAX_MESSAGE} are allowed.`);
    }
    checkWellFormed("content", content);
    checkText("model", model);
    const worker = mayWork(await ctx.db.get(session.worker));
    await chargeMessage(ctx, session.ownerId);
    const turn = await ctx.db.insert("turns", {
      session: session._id,
      worker: session.worker,
      model: model ?? session.model,
      state: "pending",
    });
    await ctx.db.insert("messages", { turn, content });
    await refreshReady(ctx, session._id, session.worker);
    await expectWorker(ctx, worker);
    return turn;
  },
});

/**
 * Ends a session: a running turn is stopped by the worker, waiting ones fail page by page, by themselves. Done if none
 * waits.
 */
export const endSession = mutation({
  args: { session: v.id("sessions") },
  handler: async (ctx, args) => {
    const session = await requireSession(ctx, args.session);
    await cancelRunning(ctx, session._id);
    const isDone = (await firstInState(ctx, session._id, "pending")) === null;
    if (session.state === "active") {
      await ctx.db.patch(session._id, { state: "ended" });
      if (!isDone) await ctx.scheduler.runAfter(0, internal.cleanup.failEnded, { session: session._id });
    }
    return { isDone };
  },
});

/**
 * Deletes a session with all that was said in it: gone at once, removed soon. What runs in it is stopped. Its OpenCode
 * session stays where it is, and makes no new chat.
 */
export const deleteSession = mutation({
  args: { session: v.id("sessions") },
  handler: async (ctx, { session }) => {
    await hideSession(ctx, await requireSession(ctx, session), true);
  },
});

/** The caller's sessions, newest first. */
export const listSessions = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const owner = await requirePerson(ctx);
    const sessions = await ctx.db
      .query("sessions")
      .withIndex("by_owner", (q) => q.eq("ownerId", owner))
      .order("desc")
      .paginate(bounded(paginationOpts, ROWS_PAGE, BYTES_PAGE));
    // Those of a deleted worker are hidden with it.
    const workers = new Map<Id<"workers">, boolean>();
    for (const { worker } of sessions.page) {
      if (!workers.has(worker)) workers.set(worker, ((await ctx.db.get(worker))?.ownerId ?? NOBODY) !== NOBODY);
    }
    return { ...sessions, page: sessions.page.filter(({ worker }) => workers.get(worker)) };
  },
});

/**
 * A session's turns, newest first, with what was said: 20 of them at most. A page that has grown while it was watched
 * may hold more than an answer has room for; the `content` of those is empty, `contentOmitted` says so, and
 * `readMessage` shows it.
 */
export const listTurns = query({
  args: { session: v.id("sessions"), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { session: id, paginationOpts }) => {
    const session = await requireSession(ctx, id);
    const turns = await ctx.db
      .query("turns")
      .withIndex("by_session", (q) => q.eq("session", session._id))
      .order("desc")
      .paginate(bounded(paginationOpts, TURNS_PAGE, BYTES_PAGE));
    let room = TURNS_PAGE * MAX_MESSAGE;
    const page = [];
    for (const turn of turns.page) {
      const fits = room >= MAX_MESSAGE;
      const content = fits ? await messageOf(ctx, turn) : "";
      room -= content.length;
      page.push({ ...turn, content, ...(fits ? {} : { contentOmitted: true }) });
    }
    return { ...turns, page };
  },
});

/** What was said in one turn. */
export const readMessage = query({
  args: { turn: v.id("turns") },
  handler: async (ctx, { turn: id }) => await messageOf(ctx, await requireTurn(ctx, id)),
});

/** A turn's reply, in order. */
export const listChunks = query({
  args: { turn: v.id("turns"), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { turn: id, paginationOpts }) => {
    const turn = await requireTurn(ctx, id);
    return await ctx.db
      .query("chunks")
      .withIndex("by_turn_and_sequence", (q) => q.eq("turn", turn._id))
      .paginate(bounded(paginationOpts, ROWS_PAGE, BYTES_PAGE));
  },
});

// ── The worker ───────────────────────────────────────────────────────────────

/**
 * The window: the sessions that are ready, oldest first, and the running turns that are to be stopped.
 * A session with a turn in progress is not in it, so two hundred messages in one session take one row.
 */
export const subscribeToWorkerMessages = query({
  args: { who: credentials, limit: v.number() },
  handler: async (ctx, { who, limit }) => {
    const worker = await requireWorker(ctx, who);
    const count = Math.min(Math.max(1, limit), MAX_WINDOW);
    const ready = await ctx.db
      .query("readySessions")
      .withIndex("by_worker_and_since", (q) => q.eq("worker", worker._id))
      .take(count);
    const cancelled = await ctx.db
      .query("cancellations")
      .withIndex("by_worker", (q) => q.eq("worker", worker._id))
      .take(count);
    return {
      ready: ready.map(({ session, turn, since }) => ({ session, turn, since })),
      cancelled: cancelled.map(({ turn }) => turn),
      connectRequestedAt: connectRequest(worker),
    };
  },
});

/** A page of the worker's active sessions, oldest first. */
export const getActiveSessions = query({
  args: { who: credentials, paginationOpts: paginationOptsValidator },
  handler: async (ctx, { who, paginationOpts }) => {
    const worker = await requireWorker(ctx, who);
    const page = await ctx.db
      .query("sessions")
      .withIndex("by_worker_and_state", (q) => q.eq("worker", worker._id).eq("state", "active"))
      .paginate(bounded(paginationOpts, ROWS_PAGE, BYTES_PAGE));
    return { ...page, page: page.page.map(({ _id, title, opencodeSessionId }) => ({ _id, title, opencodeSessionId })) };
  },
});

/**
 * Takes a turn, once. Only a claimed turn may be prompted. A stale one is expired instead, and one that waits in a
 * session that has ended (pages of `endSession` that are still to come) fails.
 */
export const claim = mutation({
  args: { who: credentials, turn: v.id("turns") },
  handler: async (ctx, { who, turn: id }) => {
    const worker = await requireWorker(ctx, who);
    const turn = await ctx.db.get(id);
    if (turn === null || turn.worker !== worker._id || turn.state !== "pending") {
      return { status: "gone" as const };
    }
    if (turn._creationTime < worker.staleBefore) {
      await endTurns(ctx, worker.ownerId, [turn], () => expiry(turn, worker));
      return { status: "expired" as const };
    }
    const session = await ctx.db.get(turn.session);
    if (session === null) return { status: "gone" as const };
    if (session.state === "ended") {
      await endTurns(ctx, worker.ownerId, [turn], () => SESSION_ENDED_ENDING);
      return { status: "gone" as const };
    }
    const row = await readyRow(ctx, turn.session);
    if (row === null || row.turn !== turn._id) return { status: "gone" as const };
    await ctx.db.delete(row._id);
    await ctx.db.patch(turn._id, { state: "claimed", epoch: worker.epoch });
    await release(ctx, worker.ownerId, "pendingTurns", 1);
    return {
      status: "claimed" as const,
      content: await messageOf(ctx, turn),
      model: turn.model ?? null,
      title: session.title ?? null,
      opencodeSessionId: session.opencodeSessionId ?? null,
    };
  },
});

/**
 * Whether a turn that was claimed is still in progress: asked before a prompt that comes late, by a worker that may
 * have stood still while a successor expired the turn.
 */
export const isInProgress = query({
  args: { who: credentials, turn: v.id("turns") },
  handler: async (ctx, { who, turn }) => (await runningTurn(ctx, await requireWorker(ctx, who), turn)) !== null,
});

/**
 * Links a session to the OpenCode session that was made for it. Should another session have been linked with it
 * meanwhile, that one loses the link: one OpenCode session never belongs to two.
 */
export const sessionReady = mutation({
  args: { who: credentials, session: v.id("sessions"), opencodeSessionId: v.string() },
  handler: async (ctx, { who, session: id, opencodeSessionId }) => {
    checkText("opencodeSessionId", opencodeSessionId);
    const worker = await requireWorker(ctx, who);
    const session = await ctx.db.get(id);
    if (session === null || session.worker !== worker._id) {
      throw refuse("not_found", "This session does not exist.");
    }
    if (session.opencodeSessionId === opencodeSessionId) return;
    // It was deleted while its first turn began: what OpenCode made for it is to make no other chat.
    if (session.ownerId === NOBODY) {
      await ctx.db.insert("forgottenSessions", { worker: worker._id, opencodeSessionId });
      return;
    }
    const other = await ctx.db
      .query("sessions")
      .withIndex("by_worker_and_opencode_id", (q) =>
        q.eq("worker", worker._id).eq("opencodeSessionId", opencodeSessionId),
      )
      .first();
    if (other !== null) await ctx.db.patch(other._id, { opencodeSessionId: undefined });
    await ctx.db.patch(session._id, { opencodeSessionId, deletedInOpencode: undefined });
  },
});

/** Appends to a reply. `sequence` counts from 0; a repeated one changes nothing, a gap is an error. */
export const writeChunk = mutation({
  args: { who: credentials, turn: v.id("turns"), sequence: v.number(), text: v.string() },
  handler: async (ctx, { who, turn: id, sequence, text }) => {
    const turn = await runningTurn(ctx, await requireWorker(ctx, who), id);
    if (turn === null) return { status: "ended" as const };
    await append(ctx, turn._id, sequence, text);
    return { status: "written" as const };
  },
});

/** Ends a turn well. `text` is what is left of the reply; it may be empty. */
export const completeMessage = mutation({
  args: { who: credentials, turn: v.id("turns"), sequence: v.number(), text: v.string() },
  handler: async (ctx, { who, turn: id, sequence, text }) => {
    const worker = await requireWorker(ctx, who);
    const turn = await runningTurn(ctx, worker, id);
    if (turn === null) return { status: "ended" as const };
    if (text !== "") await append(ctx, turn._id, sequence, text);
    await endTurns(ctx, worker.ownerId, [turn], () => ({ state: "completed" }));
    return { status: "completed" as const };
  },
});

/** Ends a turn badly, with a text that helps the person who reads it. What was written stays. */
export const failMessage = mutation({
  args: { who: credentials, turn: v.id("turns"), error: turnError },
  handler: async (ctx, { who, turn: id, error }) => {
    checkText("error.code", error.code);
    checkText("error.message", error.message);
    const worker = await requireWorker(ctx, who);
    const turn = await runningTurn(ctx, worker, id);
    if (turn === null) return { status: "ended" as const };
    await endTurns(ctx, worker.ownerId, [turn], () => ({ state: "failed", error }));
    return { status: "failed" as const };
  },
});

/**
 * Expires one page of what was left behind: turns that were claimed (by an earlier epoch, or by this one if it could
 * not end them) and are not among the `running`, and turns that are stale. A worker calls it until `isDone`, whenever
 * it connects.
 */
export const expireStale = mutation({
  args: { who: credentials, limit: v.number(), running: v.array(v.id("turns")) },
  handler: async (ctx, { who, limit, running }) => {
    const worker = await requireWorker(ctx, who);
    const room = roomFor(Math.min(Math.max(1, limit), MAX_EXPIRE));
    const inState = (state: "claimed" | "pending", before: number) =>
      ctx.db
        .query("turns")
        .withIndex("by_worker_and_state", (q) =>
          q.eq("worker", worker._id).eq("state", state).lt("_creationTime", before),
        );
    const abandoned = await takeTurns(inState("claimed", Infinity), room, (turn) => !running.includes(turn._id));
    const stale = await takeTurns(inState("pending", worker.staleBefore), room);
    const page = [...abandoned.page, ...stale.page];
    await endTurns(ctx, worker.ownerId, page, (turn) => expiry(turn, worker));
    return { expired: page.length, isDone: abandoned.isDone && stale.isDone };
  },
});

/** When somebody asked this start of the worker to connect: what was asked of an earlier one is over. */
function connectRequest(worker: Doc<"workers">): number | null {
  const at = worker.connectRequestedAt;
  return at !== undefined && at >= worker.staleBefore ? at : null;
}

// ── Shared ───────────────────────────────────────────────────────────────────

/** The worker, unless nobody may wait for it. */
function mayWork(worker: Doc<"workers"> | null): Doc<"workers"> {
  if (worker === null || worker.approval === "revoked") {
    throw refuse("revoked", "This worker's access was taken away. Start a session with another worker.");
  }
  return worker;
}

async function append(ctx: MutationCtx, turn: Id<"turns">, sequence: number, text: string): Promise<void> {
  if (text.length > MAX_CHUNK) {
    throw refuse("chunk_too_long", `The chunk has ${text.length} characters; ${MAX_CHUNK} are allowed.`);
  }
  const next = await countChunks(ctx, turn);
  if (sequence < next) return;
  if (sequence > next) throw refuse("chunk_gap", `Chunk ${sequence} came where chunk ${next} was due.`);
  await ctx.db.insert("chunks", { turn, sequence, text });
}

/** The caller's own turn. */
async function requireTurn(ctx: QueryCtx, id: Id<"turns">): Promise<Doc<"turns">> {
  const turn = await ctx.db.get(id);
  if (turn === null) throw refuse("not_found", "This turn does not exist.");
  await requireSession(ctx, turn.session);
  return turn;
}

/** What was said: in turns from before there were `messages`, it stands in the turn itself. */
async function messageOf(ctx: QueryCtx, turn: Doc<"turns">): Promise<string> {
  if (turn.content !== undefined) return turn.content;
  const message = await ctx.db
    .query("messages")
    .withIndex("by_turn", (q) => q.eq("turn", turn._id))
    .unique();
  return message?.content ?? "";
}

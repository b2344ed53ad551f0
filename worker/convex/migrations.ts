/**
 * Brings data of earlier functions to what these expect: `npx convex run migrations:run`, once after a deployment.
 *
 * The functions work before it, while it runs, and with what it has not reached. It goes on by itself, page by page,
 * and keeps where it is: should a page fail, the same command goes on there. Once it is through, it does nothing
 * more.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import type { Doc, Id } from "./_generated/dataModel.js";
import { internalMutation, type MutationCtx } from "./_generated/server.js";
import { cut, LONGEST } from "./lib/limits.js";
import { lookAt, lostAfter } from "./lib/liveness.js";
import { rowOf } from "./lib/usage.js";

/** The page after which one transaction ends: rows, and bytes of them; each may be read twice and written once. */
const ROWS = 100;
const BYTES = 2_000_000;
/** Rows of one person that one transaction counts at most, and characters in them, of the 16 MiB that it may read. */
const COUNTED_ROWS = 25_000;
const COUNTED_CHARACTERS = 2_000_000;

interface Result {
  isDone: boolean;
  continueCursor: string;
}
type Step = (ctx: MutationCtx, cursor: string | null) => Promise<Result>;

/** What is done, in order. A step is never taken out, and new ones come last: their names are stored. */
const STEPS: [name: string, step: Step][] = [
  ["move messages out of turns", moveMessages],
  ["cut titles and models of sessions", cutSessions],
  ["count what people have", countPeople],
  ["look after workers", lookAfterWorkers],
];

/** Begins, or goes on. Returns what is left to be done. */
export const run = internalMutation({
  args: {},
  handler: async (ctx) => {
    for (const [name, step] of STEPS) {
      const row = await progressOf(ctx, name);
      if (row?.isDone) continue;
      const id = row?._id ?? (await ctx.db.insert("migrations", { name, cursor: null, isDone: false }));
      const { isDone, continueCursor } = await step(ctx, row?.cursor ?? null);
      await ctx.db.patch(id, { isDone, cursor: continueCursor });
      await ctx.scheduler.runAfter(0, internal.migrations.run, {});
      return { next: name };
    }
    return { next: null };
  },
});

/**
 * Counts what one person has, in one transaction, so that the counts are exact whatever happens at the same time.
 * Whoever has more than that has room for is not counted, and not limited in what they have; the log says so.
 */
export const count = internalMutation({
  args: { ownerId: v.string() },
  handler: async (ctx, { ownerId }) => {
    const row = await rowOf(ctx, ownerId);
    if (row.counts !== undefined) return;
    const counts = await countOf(ctx, ownerId);
    if (counts === null) console.warn(`migrations: ${ownerId} has too much to be counted, and is not limited`);
    else await ctx.db.patch(row._id, { counts });
  },
});

function progressOf(ctx: MutationCtx, name: string): Promise<Doc<"migrations"> | null> {
  return ctx.db
    .query("migrations")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

function options(cursor: string | null) {
  return { numItems: ROWS, cursor, maximumBytesRead: BYTES };
}

/** Messages stand in a table of their own, and models are as long as they may be. */
async function moveMessages(ctx: MutationCtx, cursor: string | null): Promise<Result> {
  const turns = await ctx.db.query("turns").paginate(options(cursor));
  for (const { _id, content, model } of turns.page) {
    if (content !== undefined) {
      await ctx.db.insert("messages", { turn: _id, content });
      await ctx.db.patch(_id, { content: undefined });
    }
    if ((model?.length ?? 0) > LONGEST.model) await ctx.db.patch(_id, { model: undefined });
  }
  return turns;
}

async function cutSessions(ctx: MutationCtx, cursor: string | null): Promise<Result> {
  const sessions = await ctx.db.query("sessions").paginate(options(cursor));
  for (const { _id, title, model } of sessions.page) {
    if (title !== undefined && cut(title, LONGEST.title) !== title) {
      await ctx.db.patch(_id, { title: cut(title, LONGEST.title) });
    }
    if ((model?.length ?? 0) > LONGEST.model) await ctx.db.patch(_id, { model: undefined });
  }
  return sessions;
}

/** Each person by a transaction of their own, so that one who cannot be counted stops nobody. */
async function countPeople(ctx: MutationCtx, cursor: string | null): Promise<Result> {
  const machines = await ctx.db.query("machines").paginate(options(cursor));
  const owners = new Set(machines.page.map(({ ownerId }) => ownerId).filter((ownerId) => ownerId !== ""));
  for (const ownerId of owners) await ctx.scheduler.runAfter(0, internal.migrations.count, { ownerId });
  return machines;
}

/**
 * Workers that were online, or have turns that wait, are looked after; a dead one makes no beat that would begin it.
 */
async function lookAfterWorkers(ctx: MutationCtx, cursor: string | null): Promise<Result> {
  const beats = await ctx.db.query("workerHeartbeats").paginate(options(cursor));
  for (const beat of beats.page) {
    if (beat.checkAt === undefined) await lookAt(ctx, beat, Date.now() + lostAfter(beat.intervalMs));
  }
  return beats;
}

async function countOf(ctx: MutationCtx, ownerId: string): Promise<Doc<"owners">["counts"] | null> {
  const counts = { machines: 0, workers: 0, sessions: 0, pendingTurns: 0 };
  let [rows, characters] = [COUNTED_ROWS, COUNTED_CHARACTERS];
  const add = (what: keyof typeof counts, length: number) => {
    counts[what] += 1;
    rows -= 1;
    characters -= length;
    return rows > 0 && characters > 0;
  };
  const workers: Id<"workers">[] = [];
  for await (const machine of ctx.db.query("machines").withIndex("by_owner", (q) => q.eq("ownerId", ownerId))) {
    if (!add("machines", machine.name.length)) return null;
  }
  for await (const worker of ctx.db.query("workers").withIndex("by_owner", (q) => q.eq("ownerId", ownerId))) {
    if (!add("workers", worker.workerId.length)) return null;
    workers.push(worker._id);
  }
  for await (const session of ctx.db.query("sessions").withIndex("by_owner", (q) => q.eq("ownerId", ownerId))) {
    if (!add("sessions", session.title?.length ?? 0)) return null;
  }
  for (const id of workers) {
    const pending = ctx.db
      .query("turns")
      .withIndex("by_worker_and_state", (q) => q.eq("worker", id).eq("state", "pending"));
    for await (const turn of pending) if (!add("pendingTurns", turn.content?.length ?? 0)) return null;
  }
  return counts;
}

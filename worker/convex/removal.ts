/**
 * Removes what was deleted, page by page. Nobody sees any of it any more; what it counted for is given back as it goes.
 *
 * `ownerId` is whose counts that are: nobody's, if the whole account was deleted.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api.js";
import type { Doc, Id } from "./_generated/dataModel.js";
import { internalMutation, type MutationCtx } from "./_generated/server.js";
import { HIDDEN_AT_ONCE, hideMachine } from "./lib/deletion.js";
import { NOBODY } from "./lib/hidden.js";
import { forget, heartbeatOf } from "./lib/liveness.js";
import { readyRow } from "./lib/queue.js";
import { release } from "./lib/usage.js";

/** Documents that one transaction removes. */
const PAGE = 300;
/** Characters of them: each is read twice and written once, at up to three bytes, of 16 MiB for either. */
const CHARACTERS = 600_000;

/** Machines that one transaction hides, with all their workers. */
const MACHINES = 60;

/** What one transaction may still remove, and what it gives back. */
class Page {
  documents = PAGE;
  characters = CHARACTERS;
  sessions = 0;
  pendingTurns = 0;
  readonly ctx: MutationCtx;
  readonly ownerId: string;

  constructor(ctx: MutationCtx, ownerId: string) {
    this.ctx = ctx;
    this.ownerId = ownerId;
  }

  get isFull(): boolean {
    return this.documents <= 0 || this.characters <= 0;
  }

  async remove(id: Id<any>, characters = 0): Promise<void> {
    await this.ctx.db.delete(id);
    this.documents -= 1;
    this.characters -= characters;
  }

  /** Removes rows until there is no more room; done if none is left. */
  async drain<Row extends { _id: Id<any> }>(rows: AsyncIterable<Row>, characters: (row: Row) => number = () => 0) {
    if (this.isFull) return false;
    for await (const row of rows) {
      await this.remove(row._id, characters(row));
      if (this.isFull) return false;
    }
    return true;
  }

  async finish(): Promise<void> {
    if (this.ownerId === NOBODY) return;
    await release(this.ctx, this.ownerId, "sessions", this.sessions);
    await release(this.ctx, this.ownerId, "pendingTurns", this.pendingTurns);
  }
}

/** Removes a session that was deleted, with all that was said in it. */
export const session = internalMutation({
  args: { session: v.id("sessions"), ownerId: v.string() },
  handler: async (ctx, args) => {
    const [page, found] = [new Page(ctx, args.ownerId), await ctx.db.get(args.session)];
    const isDone = found === null || (await removeSession(page, found));
    await page.finish();
    if (!isDone) await ctx.scheduler.runAfter(0, internal.removal.session, args);
  },
});

/** Removes a worker that was deleted, with its sessions and all else that it has. */
export const worker = internalMutation({
  args: { worker: v.id("workers"), ownerId: v.string() },
  handler: async (ctx, args) => {
    const page = new Page(ctx, args.ownerId);
    const isDone = await removeWorker(page, args.worker);
    await page.finish();
    if (!isDone) await ctx.scheduler.runAfter(0, internal.removal.worker, args);
  },
});

/** Removes a machine that was deleted, one of its workers after the other. */
export const machine = internalMutation({
  args: { machine: v.id("machines"), ownerId: v.string() },
  handler: async (ctx, args) => {
    const found = await ctx.db.get(args.machine);
    if (found === null) return;
    const next = await ctx.db
      .query("workers")
      .withIndex("by_machine_and_worker", (q) => q.eq("machineId", found.machineId))
      .first();
    if (next === null) {
      await ctx.db.delete(found._id);
      return;
    }
    const page = new Page(ctx, args.ownerId);
    await removeWorker(page, next._id);
    await page.finish();
    await ctx.scheduler.runAfter(0, internal.removal.machine, args);
  },
});

/** Makes the rest of a machine invisible that has more workers than one transaction has room for. */
export const restOfMachine = internalMutation({
  args: { machine: v.id("machines"), ownerId: v.string() },
  handler: async (ctx, { machine: id, ownerId }) => {
    const found = await ctx.db.get(id);
    if (found !== null && found.ownerId !== NOBODY) await hideWholeMachine(ctx, found, ownerId);
  },
});

/** Makes a machine invisible: at once if it has as few workers as anybody may have by default. */
export async function hideWholeMachine(ctx: MutationCtx, found: Doc<"machines">, ownerId: string): Promise<void> {
  if ((await hideMachine(ctx, found, ownerId, HIDDEN_AT_ONCE)) > 0) return;
  await ctx.scheduler.runAfter(0, internal.removal.restOfMachine, { machine: found._id, ownerId });
}

/** Makes the rest of a deleted account invisible: of whoever had more than one transaction has room for. */
export const restOfAccount = internalMutation({
  args: { ownerId: v.string(), until: v.number() },
  handler: async (ctx, { ownerId, until }) => await hideMachines(ctx, ownerId, until),
});

/** Makes all that a person has invisible. What they add while more than one transaction is needed for that stays. */
export async function hideAccount(ctx: MutationCtx, ownerId: string): Promise<void> {
  const newest = await ctx.db
    .query("machines")
    .withIndex("by_owner", (q) => q.eq("ownerId", ownerId))
    .order("desc")
    .first();
  if (newest !== null) await hideMachines(ctx, ownerId, newest._creationTime);
}

/**
 * Makes the machines invisible that a person has added `until` then: at once if they are as few, and have as few
 * workers, as anybody may have by default.
 */
async function hideMachines(ctx: MutationCtx, ownerId: string, until: number): Promise<void> {
  const machines = await ctx.db
    .query("machines")
    .withIndex("by_owner", (q) => q.eq("ownerId", ownerId).lte("_creationTime", until))
    .take(MACHINES);
  let room = HIDDEN_AT_ONCE;
  for (const machine of machines) {
    room = await hideMachine(ctx, machine, NOBODY, room);
    if (room === 0) break;
  }
  if (room > 0 && machines.length < MACHINES) return;
  await ctx.scheduler.runAfter(0, internal.removal.restOfAccount, { ownerId, until });
}

/** Removes a worker's rows; done once the worker itself is gone. */
async function removeWorker(page: Page, id: Id<"workers">): Promise<boolean> {
  const { ctx } = page;
  const sessions = ctx.db.query("sessions").withIndex("by_worker_and_state", (q) => q.eq("worker", id));
  for await (const session of sessions) {
    if (page.isFull) return false;
    const isCounted = session.ownerId !== NOBODY;
    if (!(await removeSession(page, session))) return false;
    if (isCounted) page.sessions += 1;
  }
  const tables = ["workerModels", "syncStates"] as const;
  for (const table of tables) {
    const rows = ctx.db.query(table).withIndex("by_worker", (q) => q.eq("worker", id));
    if (!(await page.drain(rows))) return false;
  }
  const forgotten = ctx.db.query("forgottenSessions").withIndex("by_worker_and_opencode_id", (q) => q.eq("worker", id));
  if (!(await page.drain(forgotten))) return false;
  const beat = await heartbeatOf(ctx, id);
  if (beat !== null) await forget(ctx, beat);
  if ((await ctx.db.get(id)) !== null) await page.remove(id);
  return true;
}

/** Removes a session's turns and then the session. */
async function removeSession(page: Page, session: Doc<"sessions">): Promise<boolean> {
  const { ctx } = page;
  const turns = ctx.db.query("turns").withIndex("by_session", (q) => q.eq("session", session._id));
  for await (const turn of turns) {
    if (page.isFull || !(await removeTurn(page, turn))) return false;
  }
  const row = await readyRow(ctx, session._id);
  if (row !== null) await page.remove(row._id);
  await page.remove(session._id, (session.title?.length ?? 0) + (session.model?.length ?? 0));
  return true;
}

async function removeTurn(page: Page, turn: Doc<"turns">): Promise<boolean> {
  const { ctx } = page;
  const id = turn._id;
  const chunks = ctx.db.query("chunks").withIndex("by_turn_and_sequence", (q) => q.eq("turn", id));
  if (!(await page.drain(chunks, ({ text }) => text.length))) return false;
  const messages = ctx.db.query("messages").withIndex("by_turn", (q) => q.eq("turn", id));
  if (!(await page.drain(messages, ({ content }) => content.length))) return false;
  const texts = ctx.db.query("permissionTexts").withIndex("by_turn", (q) => q.eq("turn", id));
  if (!(await page.drain(texts, ({ shown }) => shown.reduce((sum, { text }) => sum + text.length, 0)))) return false;
  const questions = ctx.db.query("permissionQuestions").withIndex("by_turn", (q) => q.eq("turn", id));
  if (!(await page.drain(questions))) return false;
  const cancellations = ctx.db.query("cancellations").withIndex("by_turn", (q) => q.eq("turn", id));
  if (!(await page.drain(cancellations))) return false;
  if (turn.state === "pending") page.pendingTurns += 1;
  await page.remove(id, (turn.content?.length ?? 0) + (turn.model?.length ?? 0));
  return true;
}

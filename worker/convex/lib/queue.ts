/**
 * The only places where a turn ends, and with it the queue of ready sessions changes.
 *
 * Nothing here reads what was said: messages have a table of their own.
 */
import { internal } from "../_generated/api.js";
import type { Doc, Id } from "../_generated/dataModel.js";
import type { MutationCtx, QueryCtx } from "../_generated/server.js";
import { refuse } from "./refusal.js";
import { release } from "./usage.js";

/** The most permission questions of one turn that are open at once. */
export const MAX_QUESTIONS = 16;

const REVOKED = {
  code: "revoked",
  message: "The access of this session's worker was taken away. Start a session with another worker to ask again.",
};

const SESSION_ENDED = { code: "session_ended", message: "The session was ended before this message was answered." };

export type Ending =
  | { state: "completed" }
  | { state: "failed" | "expired"; error: { code: string; message: string } };

/** A turn of a worker that may not work any more. */
export const REVOKED_ENDING: Ending = { state: "failed", error: REVOKED };
/** A turn that waited in a session when that ended. */
export const SESSION_ENDED_ENDING: Ending = { state: "failed", error: SESSION_ENDED };

/**
 * Ends turns of one owner: for ever, once. Whatever was waiting behind them becomes ready; the queue's row of each of
 * their sessions is looked at once.
 */
export async function endTurns(
  ctx: MutationCtx,
  ownerId: string,
  turns: Doc<"turns">[],
  ending: (turn: Doc<"turns">) => Ending,
): Promise<void> {
  const sessions = new Map<Id<"sessions">, Id<"workers">>();
  for (const turn of turns) {
    const begun = turn.state === "claimed";
    const chunks = begun ? await countChunks(ctx, turn._id) : 0;
    await ctx.db.patch(turn._id, { ...ending(turn), chunks, endedAt: Date.now() });
    if (begun) await dropRequests(ctx, turn._id);
    sessions.set(turn.session, turn.worker);
  }
  await release(ctx, ownerId, "pendingTurns", turns.filter(({ state }) => state === "pending").length);
  for (const [session, worker] of sessions) await refreshReady(ctx, session, worker);
}

/** What people were asked, and asked for, while a turn ran. */
async function dropRequests(ctx: MutationCtx, turn: Id<"turns">): Promise<void> {
  const cancellation = await ctx.db
    .query("cancellations")
    .withIndex("by_turn", (q) => q.eq("turn", turn))
    .unique();
  if (cancellation !== null) await ctx.db.delete(cancellation._id);
  await dropQuestions(ctx, turn);
}

/** Questions of a turn that nobody waits for any more. */
export async function dropQuestions(ctx: MutationCtx, turn: Id<"turns">): Promise<void> {
  const questions = await ctx.db
    .query("permissionQuestions")
    .withIndex("by_turn", (q) => q.eq("turn", turn))
    .take(MAX_QUESTIONS);
  for (const question of questions) await ctx.db.delete(question._id);
  // What they show may be long: it goes by itself.
  if (questions.length > 0) await ctx.scheduler.runAfter(0, internal.cleanup.dropTexts, { turn });
}

/** The turn, if this epoch of the worker is running it. */
export async function runningTurn(
  ctx: QueryCtx,
  worker: Doc<"workers">,
  id: Id<"turns">,
): Promise<Doc<"turns"> | null> {
  const turn = await ctx.db.get(id);
  // It was deleted meanwhile.
  if (turn === null) return null;
  if (turn.worker !== worker._id) throw refuse("not_found", "This turn does not exist.");
  return turn.state === "claimed" && turn.epoch === worker.epoch ? turn : null;
}

/** How many turns one transaction may still end, and of how many characters together. */
export interface Room {
  turns: number;
  characters: number;
}

/**
 * Characters of the turns that one transaction ends: each is read, written, and read by its session's queue, at up to
 * three bytes a character, of the 16 MiB that a transaction may read. Only turns from before there were `messages`, not
 * yet moved by `migrations:run`, have more than a few.
 */
const MAX_CHARACTERS = 1_000_000;

/** Room for a page of turns. */
export function roomFor(turns: number): Room {
  return { turns, characters: MAX_CHARACTERS };
}

/** The first of `turns` that are wanted, for which there is `room`. Not done if there may be more. */
export async function takeTurns(
  turns: AsyncIterable<Doc<"turns">>,
  room: Room,
  isWanted: (turn: Doc<"turns">) => boolean = () => true,
): Promise<{ page: Doc<"turns">[]; isDone: boolean }> {
  const page: Doc<"turns">[] = [];
  const isFull = () => room.turns <= 0 || room.characters <= 0;
  if (isFull()) return { page, isDone: false };
  for await (const turn of turns) {
    if (!isWanted(turn)) continue;
    page.push(turn);
    room.turns -= 1;
    room.characters -= (turn.content?.length ?? 0) + (turn.model?.length ?? 0);
    if (isFull()) return { page, isDone: false };
  }
  return { page, isDone: true };
}

/**
 * Ends a worker's turns that were sent `before` that moment, as far as there is `room`: those in progress, then those
 * that wait.
 */
export async function endOpenTurns(
  ctx: MutationCtx,
  worker: Doc<"workers">,
  room: Room,
  before: number,
  ending: (turn: Doc<"turns">) => Ending,
): Promise<{ isDone: boolean }> {
  const ended = [];
  let isDone = true;
  for (const state of ["claimed", "pending"] as const) {
    const sent = ctx.db
      .query("turns")
      .withIndex("by_worker_and_state", (q) =>
        q.eq("worker", worker._id).eq("state", state).lt("_creationTime", before),
      );
    const taken = await takeTurns(sent, room);
    ended.push(...taken.page);
    isDone = taken.isDone;
    if (!isDone) break;
  }
  await endTurns(ctx, worker.ownerId, ended, ending);
  return { isDone };
}

/** When the oldest of a worker's turns that have not ended was sent; null if all have. */
export async function oldestOpenTurn(ctx: MutationCtx, worker: Id<"workers">): Promise<number | null> {
  const first = (state: "claimed" | "pending") =>
    ctx.db
      .query("turns")
      .withIndex("by_worker_and_state", (q) => q.eq("worker", worker).eq("state", state))
      .first();
  const [claimed, pending] = [await first("claimed"), await first("pending")];
  if (claimed === null || pending === null) return (claimed ?? pending)?._creationTime ?? null;
  return Math.min(claimed._creationTime, pending._creationTime);
}

/** A turn that a restart cut off or made stale, or whose worker has been `gone` for long. */
export function expiry(turn: Doc<"turns">, worker: Doc<"workers"> | "gone"): Ending {
  const message = `${whyExpired(turn, worker)} Send it again if you still need an answer.`;
  return { state: "expired", error: { code: "expired", message } };
}

function whyExpired(turn: Doc<"turns">, worker: Doc<"workers"> | "gone"): string {
  const begun = turn.state === "claimed";
  if (worker === "gone") {
    return begun
      ? "The worker went away while it was answering this message."
      : "No worker was there to answer this message.";
  }
  if (!begun) return "The worker was started anew while this message was waiting.";
  return turn.epoch === worker.epoch
    ? "The worker could not store its answer to this message."
    : "The worker was started anew while it was answering this message.";
}

/** Puts the session's row into the queue, moves it or takes it out, whichever its turns call for. */
export async function refreshReady(
  ctx: MutationCtx,
  session: Id<"sessions">,
  worker: Id<"workers">,
): Promise<void> {
  const row = await readyRow(ctx, session);
  const head = await headOf(ctx, session);
  if (row !== null && row.turn === head?._id) return;
  if (row !== null) await ctx.db.delete(row._id);
  if (head !== null) {
    await ctx.db.insert("readySessions", { worker, session, turn: head._id, since: head._creationTime });
  }
}

/** The session's row in the queue, if it is ready. */
export function readyRow(ctx: QueryCtx, session: Id<"sessions">): Promise<Doc<"readySessions"> | null> {
  return ctx.db
    .query("readySessions")
    .withIndex("by_session", (q) => q.eq("session", session))
    .unique();
}

/** The session's oldest pending turn, or null if there is none or one is running. */
async function headOf(ctx: MutationCtx, session: Id<"sessions">): Promise<Doc<"turns"> | null> {
  if ((await firstInState(ctx, session, "claimed")) !== null) return null;
  return await firstInState(ctx, session, "pending");
}

/** The session's oldest turn in this state. */
export function firstInState(
  ctx: QueryCtx,
  session: Id<"sessions">,
  state: "claimed" | "pending",
): Promise<Doc<"turns"> | null> {
  return ctx.db
    .query("turns")
    .withIndex("by_session_and_state", (q) => q.eq("session", session).eq("state", state))
    .first();
}

/** Has the worker stop what runs in a session. */
export async function cancelRunning(ctx: MutationCtx, session: Id<"sessions">): Promise<Doc<"turns"> | null> {
  const running = await firstInState(ctx, session, "claimed");
  if (running === null) return null;
  const asked = await ctx.db
    .query("cancellations")
    .withIndex("by_turn", (q) => q.eq("turn", running._id))
    .unique();
  if (asked === null) await ctx.db.insert("cancellations", { worker: running.worker, turn: running._id });
  return running;
}

/** The sequence number that the turn's next chunk must have. */
export async function countChunks(ctx: MutationCtx, turn: Id<"turns">): Promise<number> {
  const last = await ctx.db
    .query("chunks")
    .withIndex("by_turn_and_sequence", (q) => q.eq("turn", turn))
    .order("desc")
    .first();
  return last === null ? 0 : last.sequence + 1;
}

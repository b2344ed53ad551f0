/**
 * The only places where a turn changes its state, and with it the queue of ready sessions.
 */
import type { Doc, Id } from "../_generated/dataModel.js";
import type { MutationCtx, QueryCtx } from "../_generated/server.js";
import { refuse } from "./auth.js";

/** The most permission questions of one turn that are open at once. */
export const MAX_QUESTIONS = 16;

type Ending =
  | { state: "completed" }
  | { state: "failed" | "expired"; error: { code: string; message: string } };

/** Ends a turn: for ever, once. Whatever was waiting behind it becomes ready. */
export async function endTurn(ctx: MutationCtx, turn: Doc<"turns">, ending: Ending): Promise<void> {
  const chunks = turn.state === "claimed" ? await countChunks(ctx, turn._id) : 0;
  await ctx.db.patch(turn._id, { ...ending, chunks, endedAt: Date.now() });
  const cancellation = await ctx.db
    .query("cancellations")
    .withIndex("by_turn", (q) => q.eq("turn", turn._id))
    .unique();
  if (cancellation !== null) await ctx.db.delete(cancellation._id);
  if (turn.state === "claimed") await dropQuestions(ctx, turn._id);
  await refreshReady(ctx, turn.session, turn.worker);
}

/** Questions of a turn that nobody waits for any more. */
async function dropQuestions(ctx: MutationCtx, turn: Id<"turns">): Promise<void> {
  const questions = await ctx.db
    .query("permissionQuestions")
    .withIndex("by_turn", (q) => q.eq("turn", turn))
    .take(MAX_QUESTIONS);
  for (const question of questions) await ctx.db.delete(question._id);
}

/** The turn, if this epoch of the worker is running it. */
export async function runningTurn(
  ctx: QueryCtx,
  worker: Doc<"workers">,
  id: Id<"turns">,
): Promise<Doc<"turns"> | null> {
  const turn = await ctx.db.get(id);
  if (turn === null || turn.worker !== worker._id) throw refuse("not_found", "This turn does not exist.");
  return turn.state === "claimed" && turn.epoch === worker.epoch ? turn : null;
}

/** A turn that a restart cut off or made stale, or whose worker has been `gone` for long. */
export async function expireTurn(
  ctx: MutationCtx,
  turn: Doc<"turns">,
  worker: Doc<"workers"> | "gone",
): Promise<void> {
  const message = `${whyExpired(turn, worker)} Send it again if you still need an answer.`;
  await endTurn(ctx, turn, { state: "expired", error: { code: "expired", message } });
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
  const row = await ctx.db
    .query("readySessions")
    .withIndex("by_session", (q) => q.eq("session", session))
    .unique();
  const head = await headOf(ctx, session);
  if (row !== null && row.turn === head?._id) return;
  if (row !== null) await ctx.db.delete(row._id);
  if (head !== null) {
    await ctx.db.insert("readySessions", { worker, session, turn: head._id, since: head._creationTime });
  }
}

/** The session's oldest pending turn, or null if there is none or one is running. */
async function headOf(ctx: MutationCtx, session: Id<"sessions">): Promise<Doc<"turns"> | null> {
  const first = (state: "claimed" | "pending") =>
    ctx.db
      .query("turns")
      .withIndex("by_session_and_state", (q) => q.eq("session", session).eq("state", state))
      .first();
  return (await first("claimed")) === null ? await first("pending") : null;
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

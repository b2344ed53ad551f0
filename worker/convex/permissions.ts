/**
 * What OpenCode's tools want to be allowed, and what people say to it.
 *
 * Only a worker whose policy is `relay` asks. A question lives as long as its turn waits for the answer.
 */
import { v } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel.js";
import { mutation, query, type QueryCtx } from "./_generated/server.js";
import { credentials, refuse, requirePerson, requireWorker } from "./lib/auth.js";
import { checkText, cut } from "./lib/limits.js";
import { MAX_QUESTIONS, runningTurn } from "./lib/queue.js";

/** Patterns of one question, and characters of each text, that are stored. */
const MAX_PATTERNS = 8;
const MAX_TEXT = 500;
/** Questions that a person sees at once. */
const MAX_SHOWN = 100;

// ── People ───────────────────────────────────────────────────────────────────

/** The caller's open questions, oldest first (at most 100). */
export const list = query({
  args: {},
  handler: async (ctx) => {
    const owner = await requirePerson(ctx);
    const questions = await ctx.db
      .query("permissionQuestions")
      .withIndex("by_owner", (q) => q.eq("ownerId", owner))
      .take(MAX_SHOWN);
    return questions
      .filter((question) => question.allow === undefined)
      .map(({ _id, session, turn, permission, patterns, expiresAt }) => ({
        _id,
        session,
        turn,
        permission,
        patterns,
        expiresAt,
      }));
  },
});

/** Says whether it may be done. The first answer counts. */
export const answer = mutation({
  args: { question: v.id("permissionQuestions"), allow: v.boolean() },
  handler: async (ctx, { question: id, allow }) => {
    const owner = await requirePerson(ctx);
    const question = await ctx.db.get(id);
    if (question === null || question.ownerId !== owner) {
      throw refuse("not_found", "This question does not exist, or nobody waits for its answer any more.");
    }
    if (question.allow === undefined) await ctx.db.patch(question._id, { allow });
  },
});

// ── The worker ───────────────────────────────────────────────────────────────

/** Shows a question of a running turn to the session's owner. Asking twice changes nothing. */
export const ask = mutation({
  args: {
    who: credentials,
    turn: v.id("turns"),
    request: v.string(),
    permission: v.string(),
    patterns: v.array(v.string()),
    timeoutMs: v.number(),
  },
  handler: async (ctx, { who, turn: id, request, permission, patterns, timeoutMs }) => {
    checkText("request", request);
    checkText("permission", permission);
    const worker = await requireWorker(ctx, who);
    const turn = await runningTurn(ctx, worker, id);
    if (turn === null) return { status: "ended" as const };
    const open = await questionsOf(ctx, turn._id);
    if (open.some((question) => question.request === request)) return { status: "asked" as const };
    if (open.length >= MAX_QUESTIONS) throw refuse("too_many_questions", "Too many questions of this turn are open.");
    await ctx.db.insert("permissionQuestions", {
      ownerId: worker.ownerId,
      session: turn.session,
      turn: turn._id,
      request,
      permission,
      patterns: patterns.slice(0, MAX_PATTERNS).map((pattern) => cut(pattern, MAX_TEXT)),
      expiresAt: Date.now() + timeoutMs,
    });
    return { status: "asked" as const };
  },
});

/** The question has its answer: nobody is asked any more. */
export const withdraw = mutation({
  args: { who: credentials, turn: v.id("turns"), request: v.string() },
  handler: async (ctx, { who, turn: id, request }) => {
    const turn = await runningTurn(ctx, await requireWorker(ctx, who), id);
    if (turn === null) return;
    const question = (await questionsOf(ctx, turn._id)).find((open) => open.request === request);
    if (question !== undefined) await ctx.db.delete(question._id);
  },
});

/** What people have answered to the questions of one running turn. */
export const subscribeToAnswers = query({
  args: { who: credentials, turn: v.id("turns") },
  handler: async (ctx, { who, turn: id }) => {
    const turn = await runningTurn(ctx, await requireWorker(ctx, who), id);
    if (turn === null) return [];
    const answers = [];
    for (const { request, allow } of await questionsOf(ctx, turn._id)) {
      if (allow !== undefined) answers.push({ request, allow });
    }
    return answers;
  },
});

function questionsOf(ctx: QueryCtx, turn: Id<"turns">): Promise<Doc<"permissionQuestions">[]> {
  return ctx.db
    .query("permissionQuestions")
    .withIndex("by_turn", (q) => q.eq("turn", turn))
    .take(MAX_QUESTIONS);
}

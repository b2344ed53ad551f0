/**
 * What OpenCode's tools want to be allowed, and what people say to it.
 *
 * Only a worker whose policy is `relay` asks. A question lives as long as its turn waits for the answer.
 */
import { v, type Infer } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel.js";
import { mutation, query, type QueryCtx } from "./_generated/server.js";
import { credentials, refuse, requirePerson, requireWorker } from "./lib/auth.js";
import { isHidden } from "./lib/hidden.js";
import { checkText, MAX_SHOWN_CHARACTERS } from "./lib/limits.js";
import { MAX_QUESTIONS, runningTurn } from "./lib/queue.js";
import { shownText } from "./schema.js";

type Shown = Infer<typeof shownText>[];

/**
 * What one question shows at most: patterns and entries together, and characters (UTF-16 units) of all of them. Up to
 * three bytes each still fit a document.
 */
const MAX_ENTRIES = 64;
const MAX_CHARACTERS = 100_000;
/** As many patterns, or characters of one, are what workers that do not say what is `shown` may have cut down to. */
const CUT_PATTERNS = 8;
const CUT_CHARACTERS = 500;
/** Questions that a person sees at once. */
const MAX_QUESTIONS_SHOWN = 100;

// ── People ───────────────────────────────────────────────────────────────────

/**
 * The caller's open questions, oldest first (at most 100, and as many as one answer has room for), with all that
 * there is to see: nothing is ever cut.
 */
export const list = query({
  args: {},
  handler: async (ctx) => {
    const owner = await requirePerson(ctx);
    const questions = ctx.db.query("permissionQuestions").withIndex("by_owner", (q) => q.eq("ownerId", owner));
    const open = [];
    let room = MAX_SHOWN_CHARACTERS;
    for await (const question of questions) {
      if (question.allow !== undefined) continue;
      const { _id, session, turn, permission, expiresAt } = question;
      if (!(await isVisible(ctx, question))) continue;
      const { patterns, shown } = await textsOf(ctx, question);
      open.push({ _id, session, turn, permission, patterns, shown, expiresAt });
      room -= charactersOf(patterns, shown);
      if (open.length === MAX_QUESTIONS_SHOWN || room <= 0) break;
    }
    return open;
  },
});

/** Says whether it may be done. The first answer counts. */
export const answer = mutation({
  args: { question: v.id("permissionQuestions"), allow: v.boolean() },
  handler: async (ctx, { question: id, allow }) => {
    const owner = await requirePerson(ctx);
    const question = await ctx.db.get(id);
    if (question === null || question.ownerId !== owner || !(await isVisible(ctx, question))) {
      throw refuse("not_found", "This question does not exist, or nobody waits for its answer any more.");
    }
    if (question.allow === undefined) await ctx.db.patch(question._id, { allow });
  },
});

// ── The worker ───────────────────────────────────────────────────────────────

/**
 * Shows a question of a running turn to the session's owner, whole. Asking twice changes nothing. `shown` is all that
 * is asked about, such as `{ label: "command", text: … }`; what is too large to be shown is not stored and not shown
 * at all: `too_large` is the answer, or the refusal if nothing is `shown`, because such workers know no such answer.
 */
export const ask = mutation({
  args: {
    who: credentials,
    turn: v.id("turns"),
    request: v.string(),
    permission: v.string(),
    patterns: v.array(v.string()),
    shown: v.optional(v.array(shownText)),
    timeoutMs: v.number(),
  },
  handler: async (ctx, { who, turn: id, request, permission, patterns, shown, timeoutMs }) => {
    checkText("request", request);
    checkText("permission", permission);
    const worker = await requireWorker(ctx, who);
    const turn = await runningTurn(ctx, worker, id);
    if (turn === null) return { status: "ended" as const };
    if (shown === undefined) refuseWhatMayBeCut(patterns);
    else if (isTooLarge(patterns, shown)) return { status: "too_large" as const };
    const open = await questionsOf(ctx, turn._id);
    if (open.some((question) => question.request === request)) return { status: "asked" as const };
    if (open.length >= MAX_QUESTIONS) throw refuse("too_many_questions", "Too many questions of this turn are open.");
    const expiresAt = Date.now() + timeoutMs;
    const question = { ownerId: worker.ownerId, session: turn.session, turn: turn._id, request, permission, expiresAt };
    const asked = await ctx.db.insert("permissionQuestions", question);
    await ctx.db.insert("permissionTexts", { turn: turn._id, question: asked, patterns, shown: shown ?? [] });
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
    if (question === undefined) return;
    const texts = await textRow(ctx, question._id);
    if (texts !== null) await ctx.db.delete(texts._id);
    await ctx.db.delete(question._id);
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

function textRow(ctx: QueryCtx, question: Id<"permissionQuestions">): Promise<Doc<"permissionTexts"> | null> {
  return ctx.db
    .query("permissionTexts")
    .withIndex("by_question", (q) => q.eq("question", question))
    .unique();
}

/** Whether neither the question's session nor its worker is deleted. */
async function isVisible(ctx: QueryCtx, question: Doc<"permissionQuestions">): Promise<boolean> {
  const session = await ctx.db.get(question.session);
  return session !== null && session.ownerId === question.ownerId && !(await isHidden(ctx, session));
}

/** What a question shows; one from before there were `permissionTexts` holds its patterns itself. */
async function textsOf(
  ctx: QueryCtx,
  question: Doc<"permissionQuestions">,
): Promise<{ patterns: string[]; shown: Shown }> {
  const row = await textRow(ctx, question._id);
  return { patterns: row?.patterns ?? question.patterns ?? [], shown: row?.shown ?? [] };
}

function charactersOf(patterns: string[], shown: Shown): number {
  const texts = [...patterns, ...shown.flatMap(({ label, text }) => [label, text])];
  return texts.reduce((sum, text) => sum + text.length, 0);
}

function isTooLarge(patterns: string[], shown: Shown): boolean {
  return patterns.length + shown.length > MAX_ENTRIES || charactersOf(patterns, shown) > MAX_CHARACTERS;
}

/** A worker that shows patterns alone cuts them: what is as long as that allows may be a part of what is asked. */
function refuseWhatMayBeCut(patterns: string[]): void {
  const isWhole = patterns.length < CUT_PATTERNS && patterns.every((pattern) => pattern.length < CUT_CHARACTERS);
  if (isWhole) return;
  throw refuse(
    "too_large",
    "This may be a part of what is asked: nobody could see all of it. Update the worker, which then shows it.",
  );
}

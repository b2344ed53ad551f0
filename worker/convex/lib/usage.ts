/**
 * What each person has, counted in one small row, and how fast they send.
 *
 * The row of a person who came before there were counts has none until `migrations:run` has counted: so long nothing
 * but their speed is limited. No query reads these rows, so they may change often.
 */
import type { Doc } from "../_generated/dataModel.js";
import type { MutationCtx, QueryCtx } from "../_generated/server.js";
import { DEFAULTS } from "./limits.js";
import { refuse } from "./refusal.js";

/** What is counted. */
export type Counted = "machines" | "workers" | "sessions" | "pendingTurns";

const NAMES: Record<Counted, string> = {
  machines: "machines",
  workers: "workers",
  sessions: "sessions",
  pendingTurns: "messages that wait for an answer",
};
const ADVICE: Record<Counted, string> = {
  machines: "Delete one that you do not need",
  workers: "Delete one that you do not need",
  sessions: "Delete some that you do not need",
  pendingTurns: "Wait until some are answered, or end their sessions",
};
const MINUTE = 60_000;
const NOTHING = { machines: 0, workers: 0, sessions: 0, pendingTurns: 0 };

/** The row of a person, if there is one. */
export function usageOf(ctx: QueryCtx, ownerId: string): Promise<Doc<"owners"> | null> {
  return ctx.db
    .query("owners")
    .withIndex("by_owner", (q) => q.eq("ownerId", ownerId))
    .unique();
}

/** How many of them the person may have. */
function limitOf(row: Doc<"owners"> | null, what: Counted | "messagesPerMinute"): number {
  const set = row?.limits?.[what];
  return set === null ? Infinity : (set ?? DEFAULTS[what]);
}

/** The row of a person; the counts of a new one begin with nothing. One who must be `known` has a machine already. */
export async function rowOf(
  ctx: MutationCtx,
  ownerId: string,
  who: "anybody" | "known" = "anybody",
): Promise<Doc<"owners">> {
  const row = await usageOf(ctx, ownerId);
  if (row !== null) return row;
  const machine = await ctx.db
    .query("machines")
    .withIndex("by_owner", (q) => q.eq("ownerId", ownerId))
    .first();
  if (who === "known" && machine === null) {
    throw refuse("not_found", `Nobody called \`${ownerId}\` has a machine here.`);
  }
  // Everything that a person has hangs on a machine.
  const counts = machine === null ? NOTHING : undefined;
  const id = await ctx.db.insert("owners", { ownerId, counts });
  return (await ctx.db.get(id))!;
}

/** Counts one more, or says that there is no room. */
export async function tryCharge(ctx: MutationCtx, ownerId: string, what: Counted): Promise<boolean> {
  const row = await rowOf(ctx, ownerId);
  if (row.counts === undefined) return true;
  if (row.counts[what] >= limitOf(row, what)) return false;
  await ctx.db.patch(row._id, { counts: { ...row.counts, [what]: row.counts[what] + 1 } });
  return true;
}

/** Counts one more, or refuses it. To be called before the thing itself is stored. */
export async function charge(ctx: MutationCtx, ownerId: string, what: Counted): Promise<void> {
  if (!(await tryCharge(ctx, ownerId, what))) throw overLimit(await usageOf(ctx, ownerId), what);
}

/** Counts so many fewer. */
export async function release(ctx: MutationCtx, ownerId: string, what: Counted, count: number): Promise<void> {
  if (count === 0) return;
  const row = await usageOf(ctx, ownerId);
  if (row?.counts === undefined) return;
  await ctx.db.patch(row._id, { counts: { ...row.counts, [what]: Math.max(0, row.counts[what] - count) } });
}

/** A message: one more that waits, and one more in this minute of the clock. */
export async function chargeMessage(ctx: MutationCtx, ownerId: string): Promise<void> {
  const row = await rowOf(ctx, ownerId);
  const change: Partial<Doc<"owners">> = {};
  const perMinute = limitOf(row, "messagesPerMinute");
  if (perMinute !== Infinity) {
    const minute = Math.floor(Date.now() / MINUTE);
    const sent = row.minute === minute ? (row.messages ?? 0) : 0;
    if (sent >= perMinute) {
      const wait = Math.ceil(((minute + 1) * MINUTE - Date.now()) / 1_000);
      throw refuse("too_many_messages", `At most ${perMinute} messages a minute are taken. Try again in ${wait} s.`);
    }
    change.minute = minute;
    change.messages = sent + 1;
  }
  if (row.counts !== undefined) {
    if (row.counts.pendingTurns >= limitOf(row, "pendingTurns")) throw overLimit(row, "pendingTurns");
    change.counts = { ...row.counts, pendingTurns: row.counts.pendingTurns + 1 };
  }
  if (Object.keys(change).length > 0) await ctx.db.patch(row._id, change);
}

/** A person has nothing any more. What an operator set for them stays, and how fast they send. */
export async function dropCounts(ctx: MutationCtx, ownerId: string): Promise<void> {
  const row = await usageOf(ctx, ownerId);
  if (row === null) return;
  if (row.limits === undefined) await ctx.db.delete(row._id);
  else await ctx.db.patch(row._id, { counts: NOTHING });
}

function overLimit(row: Doc<"owners"> | null, what: Counted) {
  const limit = `At most ${limitOf(row, what)} ${NAMES[what]} are allowed.`;
  return refuse("limit_reached", `${limit} ${ADVICE[what]}, or ask the operator for more.`);
}

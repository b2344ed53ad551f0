/**
 * What is deleted and not yet removed.
 */
import type { Doc } from "../_generated/dataModel.js";
import type { QueryCtx } from "../_generated/server.js";

/** Whose what is deleted is. No person is called so. */
export const NOBODY = "";

/** Whether a session's worker is deleted, and the session with it. */
export async function isHidden(ctx: QueryCtx, session: Doc<"sessions">): Promise<boolean> {
  const worker = await ctx.db.get(session.worker);
  return worker === null || worker.ownerId === NOBODY;
}

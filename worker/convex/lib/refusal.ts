/**
 * How a function says no.
 */
import { ConvexError } from "convex/values";

/** A refusal that the caller can tell apart by its code. */
export function refuse(code: string, message: string): ConvexError<{ code: string; message: string }> {
  return new ConvexError({ code, message });
}

/**
 * Which workers these functions serve.
 *
 * 1: workers that do not say which they speak. 2: they say it, how often they beat, and what a permission is about.
 */
import { refuse } from "./refusal.js";

/** The protocol of these functions, and the oldest of a worker's that they serve. */
export const PROTOCOL = 2;
const OLDEST = 1;

/** Refuses a worker that these functions cannot serve, and says which of the two to update. */
export function checkProtocol(spoken: number | undefined): void {
  const protocol = spoken ?? OLDEST;
  if (protocol > PROTOCOL) {
    throw refuse(
      "functions_too_old",
      `The worker speaks protocol ${protocol}, the functions up to ${PROTOCOL}: deploy the functions that came with ` +
        "this worker (`npx convex deploy` in its `worker` directory).",
    );
  }
  if (!(protocol >= OLDEST)) {
    throw refuse(
      "worker_too_old",
      `The worker speaks protocol ${protocol}, the functions ${OLDEST} at least: install the worker that came with ` +
        "these functions, or a newer one.",
    );
  }
}

/**
 * What may come from outside, how much of it one person may have, and how much of it one call shows.
 */
import { refuse } from "./refusal.js";

// ── Texts ────────────────────────────────────────────────────────────────────

/** The longest texts that are taken (characters: code points), by what the caller calls them. */
export const LONGEST = {
  name: 200,
  machineId: 150,
  workerId: 150,
  secret: 150,
  /** The worker cuts titles of OpenCode's to as many itself. */
  title: 300,
  model: 200,
  opencodeSessionId: 150,
  request: 200,
  permission: 200,
  digest: 100,
  "error.code": 100,
  "error.message": 10_000,
} as const;

/** Refuses a text that is too long or no text at all, before anything is stored. */
export function checkText(field: keyof typeof LONGEST, text: string | undefined): void {
  if (text === undefined) return;
  const allowed = LONGEST[field];
  const length = text.length <= allowed ? text.length : countCharacters(text);
  if (length > allowed) {
    throw refuse("too_long", `\`${field}\` has ${length} characters; ${allowed} are allowed.`);
  }
  checkWellFormed(field, text);
}

/** Refuses a text with half a surrogate pair: Convex cannot store it, and would say so less clearly. */
export function checkWellFormed(field: string, text: string): void {
  if (/\p{Surrogate}/u.test(text)) {
    throw refuse("malformed_text", `\`${field}\` holds half a character (a lone surrogate); it must be whole.`);
  }
}

/** The first `count` characters: code points, so that none is cut in half. */
export function cut(text: string, count: number): string {
  if (text.length <= count) return text;
  // So many code points lie within twice as many units, the last of them whole.
  return Array.from(text.slice(0, 2 * count)).slice(0, count).join("");
}

function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

// ── Lists ────────────────────────────────────────────────────────────────────

/** Characters that one answer shows at most, at up to three bytes each, of the 16 MiB that it may have. */
export const MAX_SHOWN_CHARACTERS = 3_000_000;

interface PageOptions {
  numItems: number;
  cursor: string | null;
  maximumBytesRead?: number;
}

/**
 * A page of people's, bounded: at most `items` rows, and none after the one with which it has `bytes`. A row has 1
 * MiB at most.
 */
export function bounded<T extends PageOptions>(asked: T, items: number, bytes: number): T {
  return {
    ...asked,
    numItems: Math.min(asked.numItems, items),
    maximumBytesRead: Math.min(asked.maximumBytesRead ?? bytes, bytes),
  };
}

// ── Owners ───────────────────────────────────────────────────────────────────

/** What one person may have, unless `limits:set` says otherwise. Sessions and workers count until they are deleted. */
export const DEFAULTS = {
  machines: 50,
  workers: 200,
  sessions: 10_000,
  pendingTurns: 1_000,
  messagesPerMinute: 120,
} as const;

/** The most workers that a person's list shows, and that an operator can allow. */
export const MAX_WORKERS = 1_000;

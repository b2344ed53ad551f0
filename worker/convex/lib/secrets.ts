/**
 * Workers' secrets: made here for those that are invited, and kept as hashes alone.
 */

/**
 * The two hexadecimal digits of each byte. Every call of a worker hashes its secret: looked up is faster than
 * printed.
 */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
/** Bytes of a secret: 192 bits. */
const SECRET_BYTES = 24;

/** A new secret. */
export function makeSecret(): string {
  return hexOf(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
}

/** Secrets are random and long, so one round of SHA-256 is enough to keep them. */
export async function hashSecret(secret: string): Promise<string> {
  return hexOf(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret))));
}

/** What people compare with the worker's log: the hash's first 16 digits in groups of four. */
export function fingerprintOf(secretHash: string): string {
  return (secretHash.slice(0, 16).match(/.{4}/g) ?? []).join("-");
}

function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

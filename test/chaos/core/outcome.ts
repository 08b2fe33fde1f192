import type { Outcome } from "./history.ts";

/** An answer of the API, or the lack of one. */
export type Reply =
  | { readonly kind: "answer"; readonly status: number; readonly text: string }
  /** Nothing listens on the socket: the request was never sent. */
  | { readonly kind: "unreachable"; readonly text: string }
  /** The connection broke, or time ran out, after it was sent. */
  | { readonly kind: "lost"; readonly text: string };

export interface Verdict {
  readonly outcome: Outcome;
  /** Why the answer is none that the API should give; null when it is fine. */
  readonly odd: string | null;
}

const FIRST_ERROR = 400;

/** Words of a 503 that leave the write's fate open. */
const UNKNOWN_WORDS = ["is not known", "Look before repeating"];
/** Words of errors of the server that say: nothing was done. */
const REFUSED_WORDS = [
  "update out of sequence",
  "does not have a leader",
  "no quorum of managers confirmed",
  "is not a swarm manager",
  "too many",
  "try again later",
];
/** Words of errors that say nothing about it. */
const OPEN_WORDS = ["context deadline exceeded", "context canceled"];

/** What a client may conclude of a write from what it got back. */
export function judge(reply: Reply): Verdict {
  if (reply.kind === "unreachable") return { outcome: "refused", odd: null };
  if (reply.kind === "lost") return { outcome: "unknown", odd: null };
  const { status, text } = reply;
  if (status < FIRST_ERROR) return { outcome: "acknowledged", odd: null };
  if (has(text, UNKNOWN_WORDS)) return { outcome: "unknown", odd: null };
  if (has(text, OPEN_WORDS)) return { outcome: "unknown", odd: null };
  if (has(text, REFUSED_WORDS)) return { outcome: "refused", odd: null };
  if (status < 500) return { outcome: "refused", odd: null };
  return { outcome: "unknown", odd: `${status} ${text.trim()}` };
}

function has(text: string, words: readonly string[]): boolean {
  return words.some(word => text.includes(word));
}

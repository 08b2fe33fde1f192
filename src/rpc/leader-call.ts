import { Backoff } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { type ErrorCode, SwarmError, toSwarmError } from "../base/errors.ts";
import type { Rng } from "../base/rng.ts";

const RETRY = { baseMs: 100, maxMs: 2_000 };
/** Redirects and failed addresses of one round. */
const MAX_HOPS = 8;

export interface LeaderCallOptions {
  /** Managers to begin with, in order; the leader need not be among them. */
  readonly addrs: readonly string[];
  readonly signal: AbortSignal;
  /** Rounds go on, with pauses between, until then. 0 = one round. */
  readonly timeoutMs: number;
  /** Whether the call may be made again when its fate is unknown. Default false. */
  readonly idempotent?: boolean;
}

/**
 * Makes a call on the leader, starting anywhere: follows `not_leader` answers to the address they
 * name, tries the next manager when one cannot be reached, and begins again while an election or a
 * limit is what stands in the way.
 */
export async function callLeader<T>(
  call: (addr: string) => Promise<T>,
  options: LeaderCallOptions,
  deps: { readonly clock: Clock; readonly rng: Rng },
): Promise<T> {
  const endMs = deps.clock.monoMs() + options.timeoutMs;
  const backoff = new Backoff(RETRY, deps.rng);
  for (;;) {
    options.signal.throwIfAborted();
    const outcome = await oneRound(call, options);
    if (outcome.ok) return outcome.value;
    const delayMs = backoff.nextMs();
    if (!isWorthRepeating(outcome.error, options) || deps.clock.monoMs() + delayMs > endMs) {
      throw outcome.error;
    }
    await sleep(deps.clock, delayMs, options.signal);
  }
}

type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: SwarmError };

async function oneRound<T>(
  call: (addr: string) => Promise<T>,
  options: LeaderCallOptions,
): Promise<Outcome<T>> {
  const waiting = [...options.addrs];
  const tried = new Set<string>();
  let error = new SwarmError("unavailable", "no manager's address is known");
  while (tried.size < MAX_HOPS) {
    const addr = waiting.shift();
    if (addr === undefined) break;
    if (tried.has(addr)) continue;
    tried.add(addr);
    try {
      return { ok: true, value: await call(addr) };
    } catch (thrown) {
      error = toSwarmError(thrown);
      if (!isWorthRepeating(error, options)) break;
      const leader = error.details["leader"];
      if (typeof leader === "string" && leader !== "") waiting.unshift(leader);
    }
  }
  return { ok: false, error };
}

/** The server says of these that nothing was done. */
const REFUSALS: readonly ErrorCode[] = ["not_leader", "unavailable", "resource_exhausted"];
/** These leave it open. */
const UNKNOWN: readonly ErrorCode[] = ["unknown_outcome", "deadline_exceeded"];

function isWorthRepeating(error: SwarmError, options: LeaderCallOptions): boolean {
  const unknownToo = options.idempotent ?? false;
  return REFUSALS.includes(error.code) || (unknownToo && UNKNOWN.includes(error.code));
}

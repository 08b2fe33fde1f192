import { type Interval, wasAwake, withoutQuorum } from "./disturbances.ts";
import type {
  ChaosHistory,
  ReadRecord,
  RequestRecord,
  Value,
  Violation,
  WriteRecord,
} from "./history.ts";
import { Register } from "./register.ts";

/** What the cluster says at the end, through one manager. */
export interface FinalState {
  readonly via: string;
  /** By key; what is not listed is not there. */
  readonly values: ReadonlyMap<string, Value>;
}

export const WRITE_RULE = "G1 an acknowledged write stays, a refused one never was";
export const READ_RULE = "G2 reads are linearizable";
export const PROMPT_RULE = "G8 a minority refuses promptly";

/**
 * A request at a manager without a quorum is answered within this: 5 s of waiting for a leader,
 * and a busy machine.
 */
export const PROMPT_MS = 12_000;
/** The losing side knows of it after this. */
const LOSS_SETTLES_MS = 500;

/** What was read while it went on, and that of two updates of one version only one was granted. */
export function checkReads({ requests }: ChaosHistory): readonly Violation[] {
  return [...replay(requests).violations, ...doubleGrants(requests)];
}

function doubleGrants(requests: readonly RequestRecord[]): readonly Violation[] {
  const granted = new Map<string, WriteRecord>();
  return requests.flatMap(request => {
    if (request.what !== "write" || request.action !== "update") return [];
    if (request.outcome !== "acknowledged" || request.base === 0) return [];
    const version = `${request.key} version ${request.base}`;
    const first = granted.get(version);
    granted.set(version, request);
    if (first === undefined) return [];
    const text = `two updates of ${version} were granted: ${first.id} and ${request.id}`;
    return [{ rule: WRITE_RULE, text, atMs: request.startMs }];
  });
}

/** Every object is what one of its possible last writes made it, and nothing else is there. */
export function checkWrites(history: ChaosHistory, final: FinalState): readonly Violation[] {
  const { registers } = replay(history.requests);
  const violations: Violation[] = [];
  const keys = new Set([...registers.keys(), ...final.values.keys()]);
  for (const key of [...keys].sort()) {
    const value = final.values.get(key) ?? null;
    const possible = registers.get(key)?.possible ?? [null];
    if (possible.includes(value)) continue;
    violations.push({
      rule: WRITE_RULE,
      text: `${key} is ${show(value)} at ${final.via}, and can only be ${possible.map(show).join(" or ")}`,
      atMs: 0,
    });
  }
  return violations;
}

function replay(requests: readonly RequestRecord[]): {
  readonly registers: ReadonlyMap<string, Register>;
  readonly violations: Violation[];
} {
  const registers = new Map<string, Register>();
  const violations: Violation[] = [];
  for (const request of [...requests].sort((a, b) => a.startMs - b.startMs || a.id - b.id)) {
    const register = registers.get(request.key) ?? new Register();
    registers.set(request.key, register);
    if (request.what === "write") register.wrote(request);
    else if (request.value !== undefined && !register.saw(request.value)) {
      violations.push(staleRead(request, register.possible));
    }
  }
  return { registers, violations };
}

function staleRead(read: ReadRecord, possible: readonly Value[]): Violation {
  return {
    rule: READ_RULE,
    text:
      `read ${read.id} of ${read.key} through ${read.via} gave ${show(read.value ?? null)}, ` +
      `and could only give ${possible.map(show).join(" or ")}`,
    atMs: read.startMs,
  };
}

export function show(value: Value): string {
  return value === null ? "absent" : `"${value}"`;
}

/** Without a quorum nothing is granted, and everybody is told so soon. */
export function checkQuorumLoss(history: ChaosHistory): readonly Violation[] {
  const violations: Violation[] = [];
  for (const gap of withoutQuorum(history.managers, history.faults)) {
    for (const request of history.requests) {
      const inside = request.startMs >= gap.fromMs + LOSS_SETTLES_MS && request.startMs < gap.toMs;
      if (!inside) continue;
      if (request.endMs <= gap.toMs && wasGranted(request)) {
        violations.push(promptness(request, "was granted though there was no quorum"));
      }
      const tookMs = request.endMs - request.startMs;
      const span = { fromMs: request.startMs, toMs: request.endMs };
      if (
        tookMs > PROMPT_MS + lateness(history, span) &&
        wasAwake(request.via, span, history.faults)
      ) {
        violations.push(promptness(request, `was answered after ${tookMs} ms`));
      }
    }
  }
  return violations;
}

/** What a machine that has too much to do excuses. */
function lateness({ lags }: ChaosHistory, span: Interval): number {
  return lags
    .filter(({ atMs }) => atMs >= span.fromMs && atMs <= span.toMs)
    .reduce((sum, { lateMs }) => sum + lateMs, 0);
}

function wasGranted(request: RequestRecord): boolean {
  return request.what === "write"
    ? request.outcome === "acknowledged"
    : request.value !== undefined;
}

function promptness(request: RequestRecord, text: string): Violation {
  return {
    rule: PROMPT_RULE,
    text: `${request.what} ${request.id} of ${request.key} through ${request.via} ${text}`,
    atMs: request.startMs,
  };
}

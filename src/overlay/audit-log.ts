import type { Clock } from "../base/clock.ts";
import type { AuditFinding } from "../model/data-path.ts";
import type { OverlayCounters } from "./counters.ts";

/** Findings kept of each network, newest last. */
export const MAX_FINDINGS = 10;

export interface AuditRecord {
  /** When it was last compared with what it should be, epoch ms; 0: not yet. */
  readonly auditedAtMs: number;
  /** Since the daemon's start. */
  readonly repairs: number;
  readonly findings: readonly AuditFinding[];
}

const NEVER: AuditRecord = { auditedAtMs: 0, repairs: 0, findings: [] };

/** What audits of the data path have found: by network, and of the host as a whole. */
export class AuditLog {
  readonly #clock: Clock;
  readonly #counters: OverlayCounters;
  readonly #records = new Map<string, AuditRecord>();

  constructor(deps: { readonly clock: Clock; readonly counters: OverlayCounters }) {
    this.#clock = deps.clock;
    this.#counters = deps.counters;
  }

  of(scope: string): AuditRecord {
    return this.#records.get(scope) ?? NEVER;
  }

  /** It was looked at: `what` was wrong, or nothing (null). */
  looked(scope: string, what: string | null): void {
    const { repairs, findings } = this.of(scope);
    this.#counters.audits += 1;
    if (what !== null) this.#counters.repairs += 1;
    const atMs = this.#clock.nowMs();
    const record =
      what === null
        ? { repairs, findings }
        : { repairs: repairs + 1, findings: [...findings, { atMs, what }].slice(-MAX_FINDINGS) };
    this.#records.set(scope, { ...record, auditedAtMs: atMs });
  }

  forget(scope: string): void {
    this.#records.delete(scope);
  }
}

/** Scope of what is the host's and no network's. */
export const HOST_SCOPE = "host";

import { performance } from "node:perf_hooks";
import { credentials } from "@grpc/grpc-js";
import { eventually } from "../../support/eventually.ts";
import { KvClient } from "./kv-wire.ts";
import type { System } from "./system.ts";

const CALL_TIMEOUT_MS = 150;
const READ_TIMEOUT_MS = 5_000;
/** Between writes, and after one that failed. */
const PACE_MS = 10;
const RETRY_MS = 3;
const RETURN_TIMEOUT_MS = 60_000;
const VALUE = Buffer.alloc(64, "f");
const CHECKERS = 64;
/** A new connection is tried at once when the member is back. */
const CHANNEL = {
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 20,
  "grpc.max_reconnect_backoff_ms": 50,
} as const;

export interface FailoverResult {
  /** From the kill to the acknowledgement of the first write begun after it, each trial. */
  readonly gapsMs: readonly number[];
  readonly acknowledged: number;
  /** Acknowledged, and not there at the end. */
  readonly lost: number;
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

/** Writes through every member at once, so that no time is lost in looking for the leader. */
class Writers {
  readonly #clients: readonly KvClient[];
  readonly acknowledged: string[] = [];
  #sequence = 0;
  #stopped = false;
  #runs: readonly Promise<void>[] = [];
  #killedMs = Number.POSITIVE_INFINITY;
  #gapMs: number | null = null;

  constructor(addrs: readonly string[]) {
    this.#clients = addrs.map(addr => new KvClient(addr, credentials.createInsecure(), CHANNEL));
  }

  start(): void {
    this.#runs = this.#clients.map(client => this.#write(client));
  }

  killedNow(): void {
    this.#killedMs = performance.now();
    this.#gapMs = null;
  }

  get gapMs(): number | null {
    return this.#gapMs;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#runs);
  }

  /** How many of the acknowledged keys some member does not have. */
  async lost(): Promise<number> {
    const missing = new Set<string>();
    for (const client of this.#clients) {
      const keys = this.acknowledged.values();
      const check = async (): Promise<void> => {
        for (const key of keys) {
          if ((await client.range(key, READ_TIMEOUT_MS)).value === null) missing.add(key);
        }
      };
      await Promise.all(Array.from({ length: CHECKERS }, check));
    }
    return missing.size;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  async #write(client: KvClient): Promise<void> {
    while (!this.#stopped) {
      this.#sequence += 1;
      const key = `failover-${this.#sequence}`;
      const startMs = performance.now();
      try {
        await client.put({ key, value: VALUE }, CALL_TIMEOUT_MS);
        this.acknowledged.push(key);
        if (startMs >= this.#killedMs) this.#gapMs ??= performance.now() - this.#killedMs;
        await pause(PACE_MS);
      } catch {
        // Refused or unknown: it is not counted, and the next one has a name of its own.
        await pause(RETRY_MS);
      }
    }
  }
}

/** SIGKILLs the leader again and again while clients write. */
export async function measureFailover(
  system: System,
  trials: number,
  tell: (line: string) => void,
): Promise<FailoverResult> {
  const writers = new Writers(system.clientAddrs);
  const gapsMs: number[] = [];
  writers.start();
  try {
    for (let trial = 1; trial <= trials; trial += 1) {
      const leader = await system.leader();
      const before = writers.acknowledged.length;
      await eventually(() => writers.acknowledged.length > before + 5, {
        what: "writes flow",
        timeoutMs: RETURN_TIMEOUT_MS,
        everyMs: 5,
      });
      writers.killedNow();
      const killed = system.kill(leader);
      const gapMs = await eventually(() => writers.gapMs, {
        what: "a write after the kill",
        timeoutMs: RETURN_TIMEOUT_MS,
        everyMs: 5,
      });
      await killed;
      gapsMs.push(gapMs);
      await system.restart(leader);
      if (trial % 10 === 0) tell(`${trial} of ${trials} leaders killed`);
    }
  } finally {
    await writers.stop();
  }
  await system.leader();
  const lost = await writers.lost();
  writers.close();
  return { gapsMs, acknowledged: writers.acknowledged.length, lost };
}

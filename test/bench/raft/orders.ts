import type { ChildProcess } from "node:child_process";
import type { PeerInfo } from "../../../src/raft/ports.ts";
import type { Identity } from "../../../src/rpc/ports.ts";

/** What a child process of the benchmark can be told; it answers each with a value. */
export type MemberOrder =
  | {
      readonly do: "start";
      readonly self: PeerInfo;
      /** Where it serves clients. */
      readonly clientAddr: string;
      /** Where it serves the load, on a bare endpoint. */
      readonly loadPort: number;
      readonly dir: string;
      readonly start: "bootstrap" | "join" | "restart";
      readonly knownPeers: readonly PeerInfo[];
      readonly identity: Identity;
    }
  | { readonly do: "add"; readonly peer: PeerInfo }
  | { readonly do: "report" }
  /** From inside the member, without a client: proposals or read barriers. */
  | ({ readonly do: "direct" } & Omit<Load, "addr">);

export interface MemberReport {
  readonly leads: boolean;
  readonly leaderId: number;
  readonly term: number;
  readonly voters: readonly number[];
  readonly lastIndex: number;
  readonly appliedIndex: number;
  readonly syncs: number;
  readonly snapshots: number;
  readonly rssMb: number;
}

export interface Load {
  readonly addr: string;
  readonly what: "write" | "read";
  readonly inFlight: number;
  readonly seconds: number;
  readonly valueBytes: number;
}

export interface Rates {
  readonly count: number;
  readonly failed: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** The parent's end of a child process. */
export class Child {
  readonly process: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #orders = 0;

  constructor(child: ChildProcess) {
    this.process = child;
    child.once("exit", code => {
      for (const [id, tell] of this.#waiting) tell({ id, error: `the process ended with ${code}` });
    });
    child.on("message", (answer: Answer) => this.#waiting.get(answer.id)?.(answer));
  }

  async ask<T>(order: object): Promise<T> {
    this.#orders += 1;
    const id = this.#orders;
    const answer = await new Promise<Answer>(resolve => {
      this.#waiting.set(id, resolve);
      if (this.process.connected) this.process.send({ id, order });
      else resolve({ id, error: "the process has ended" });
    });
    this.#waiting.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.result as T;
  }
}

/** The child's end. */
export function obeyParent<Order>(obey: (order: Order) => Promise<unknown>): void {
  process.on("disconnect", () => process.exit(0));
  process.on("message", (message: { readonly id: number; readonly order: Order }) => {
    obey(message.order).then(
      result => process.send?.({ id: message.id, result: result ?? null }),
      (error: unknown) => process.send?.({ id: message.id, error: String(error) }),
    );
  });
}

import type { Lab } from "../lab/lab.ts";
import type { Fault } from "./core/fault-plan.ts";
import type { Blow, FaultRecord } from "./core/history.ts";
import { pause } from "./pause.ts";

/** Deals faults out to the hosts of a lab, and mends them. */
export class FaultRunner {
  readonly records: FaultRecord[] = [];
  readonly #lab: Lab;
  readonly #say: (text: string) => void;
  readonly #active = new Set<Fault>();
  #lastId = 0;
  #quorumBackMs: number | null = null;

  constructor(options: { readonly say: (text: string) => void }, deps: { readonly lab: Lab }) {
    this.#lab = deps.lab;
    this.#say = options.say;
  }

  get active(): readonly Fault[] {
    return [...this.#active];
  }

  get quorumBackMs(): number | null {
    return this.#quorumBackMs;
  }

  /** Resolves when it is mended; the hold ends early when the signal aborts. */
  async play(fault: Fault, signal: AbortSignal): Promise<void> {
    const id = ++this.#lastId;
    this.#active.add(fault);
    const startMs = Date.now();
    this.#say(`fault ${id} ${describeFault(fault)}`);
    try {
      await Promise.all(fault.blows.map(blow => this.#inflict(blow)));
      const injectedMs = Date.now();
      await pause(fault.holdMs, signal);
      const healMs = Date.now();
      this.#say(`fault ${id} is mended`);
      await Promise.all(fault.blows.map(blow => this.#mend(blow)));
      const endMs = Date.now();
      const { kind, blows } = fault;
      this.records.push({ id, kind, blows, startMs, injectedMs, healMs, endMs });
      if (kind === "quorum-loss") this.#quorumBackMs = endMs;
      this.#say(`fault ${id} is over`);
    } finally {
      this.#active.delete(fault);
    }
  }

  async #inflict(blow: Blow): Promise<void> {
    if (blow.kind === "partition") {
      await this.#lab.partition(blow.host, blow.other, { oneWay: blow.oneWay });
      return;
    }
    const host = this.#lab.host(blow.host);
    if (blow.kind === "kill") await host.kill();
    else if (blow.kind === "stop") await host.stop();
    else if (blow.kind === "pause") await host.pause();
    else if (blow.kind === "cut") await host.cut();
    else if (blow.kind === "poweroff") await host.poweroff();
    else await host.restartEngine();
  }

  async #mend(blow: Blow): Promise<void> {
    const host = this.#lab.host(blow.host);
    if (blow.kind === "kill" || blow.kind === "stop") await host.start();
    else if (blow.kind === "pause") await host.resume();
    else if (blow.kind === "cut") await host.heal();
    else if (blow.kind === "poweroff") await host.poweron();
    else if (blow.kind === "partition") await this.#lab.unpartition(blow.host, blow.other);
  }
}

export function describeFault({ kind, blows, holdMs }: Fault): string {
  const parts = blows.map(blow => {
    if (blow.kind !== "partition") return `${blow.kind} ${blow.host}`;
    return `no packets ${blow.host} ${blow.oneWay ? "->" : "<->"} ${blow.other}`;
  });
  return `${kind}: ${parts.join(", ")} for ${(holdMs / 1_000).toFixed(1)} s`;
}

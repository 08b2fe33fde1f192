/** What a child process of the benchmark can say of itself while it works. */
import { closeSync, openSync, readSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { type Profiler, Session } from "node:inspector";
import { monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { writeHeapSnapshot } from "node:v8";

export type ProbeOrder =
  /** Longest turn, garbage collections: from now on, until `watched`. */
  | { readonly do: "watch" }
  | { readonly do: "watched" }
  /** A profile of the processor's time, until `profiled` writes it to a file. */
  | { readonly do: "profile" }
  | { readonly do: "profiled"; readonly file: string }
  | { readonly do: "heap"; readonly file: string };

export interface Watched {
  readonly longestTurnMs: number;
  /** Processor time of the thread within a few milliseconds more than the turn that took most. */
  readonly longestTurnCpuMs: number;
  readonly longestGcMs: number;
  readonly gcMs: number;
  /** After a collection where the process allows one; MiB. */
  readonly heapMib: number;
  readonly externalMib: number;
}

const NS_PER_MS = 1e6;
const BYTES_PER_MIB = 2 ** 20;
const RESOLUTION_MS = 5;

/** The kernel counts a thread's time by its tick. */
const CPU_SAMPLE_MS = 5;

/** The most processor time that the thread takes between two of its looks at the clock. */
class CpuTurns {
  longestMs = 0;
  #timer: NodeJS.Timeout | null = null;
  readonly #buffer = Buffer.alloc(64);

  start(): void {
    this.stop();
    this.longestMs = 0;
    const file = openSync("/proc/thread-self/schedstat", "r");
    let lastMs = this.#threadMs(file);
    this.#timer = setInterval(() => {
      const nowMs = this.#threadMs(file);
      this.longestMs = Math.max(this.longestMs, nowMs - lastMs);
      lastMs = nowMs;
    }, CPU_SAMPLE_MS);
    this.#close = () => closeSync(file);
  }

  stop(): void {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#close();
  }

  #close: () => void = () => undefined;

  #threadMs(file: number): number {
    const bytes = readSync(file, this.#buffer, 0, this.#buffer.length, 0);
    return Number(this.#buffer.toString("latin1", 0, bytes).split(" ")[0]) / NS_PER_MS;
  }
}

/** The child's end of the orders above. */
export class Probe {
  readonly #turns = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #cpuTurns = new CpuTurns();
  readonly #session = new Session();
  #gcMs = 0;
  #longestGcMs = 0;

  constructor() {
    this.#turns.enable();
    new PerformanceObserver(list => {
      for (const { duration } of list.getEntries()) {
        this.#gcMs += duration;
        this.#longestGcMs = Math.max(this.#longestGcMs, duration);
      }
    }).observe({ entryTypes: ["gc"] });
  }

  async obey(order: ProbeOrder): Promise<unknown> {
    switch (order.do) {
      case "watch":
        this.#turns.reset();
        this.#cpuTurns.start();
        this.#gcMs = 0;
        this.#longestGcMs = 0;
        return null;
      case "watched":
        return this.#watched();
      case "profile":
        this.#session.connect();
        await this.#post("Profiler.enable");
        return this.#post("Profiler.start");
      case "profiled":
        return this.#profiled(order.file);
      case "heap":
        return writeHeapSnapshot(order.file);
    }
  }

  #watched(): Watched {
    this.#cpuTurns.stop();
    const { heapUsed, external } = process.memoryUsage();
    return {
      longestTurnMs: this.#turns.max / NS_PER_MS,
      longestTurnCpuMs: this.#cpuTurns.longestMs,
      longestGcMs: this.#longestGcMs,
      gcMs: this.#gcMs,
      heapMib: heapUsed / BYTES_PER_MIB,
      externalMib: external / BYTES_PER_MIB,
    };
  }

  async #profiled(file: string): Promise<void> {
    const { profile } = (await this.#post("Profiler.stop")) as Profiler.StopReturnType;
    this.#session.disconnect();
    await writeFile(file, JSON.stringify(profile));
  }

  #post(method: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#session.post(method, (error, result) => {
        if (error === null) resolve(result);
        else reject(error);
      });
    });
  }
}

const PROBE_ORDERS: ReadonlySet<string> = new Set<ProbeOrder["do"]>([
  "watch",
  "watched",
  "profile",
  "profiled",
  "heap",
]);

export function isProbeOrder(order: { readonly do: string }): order is ProbeOrder {
  return PROBE_ORDERS.has(order.do);
}

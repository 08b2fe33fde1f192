import {
  type IntervalHistogram,
  monitorEventLoopDelay,
  PerformanceObserver,
} from "node:perf_hooks";
import type { Clock, Timer } from "../base/clock.ts";
import type { LogFields, Logger } from "../base/logger.ts";
import type { LoopHealth } from "../base/loop-health.ts";

const SAMPLE_MS = 50;
const HISTOGRAM_RESOLUTION_MS = 10;
const WINDOW_MS = 60_000;
/** A loop held for longer delays heartbeats; a tenth of an election timeout. */
export const STALL_WARNING_MS = 100;
/** One line for all stalls of this time. */
const WARN_EVERY_MS = 10_000;
const NS_PER_MS = 1e6;
const US_PER_MS = 1e3;

export interface LoopMonitorDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the daemon is at, as counters that grow; the log says by how much during a stall. */
  readonly counters: () => Readonly<Record<string, number>>;
}

interface Stall {
  readonly heldMs: number;
  readonly fields: LogFields;
}

/**
 * Watches the delay of the event loop and says when it was held, with what is known of why: a
 * process that got no processor, a garbage collection, or work of its own.
 */
export class LoopMonitor {
  readonly #deps: LoopMonitorDeps;
  #delays: IntervalHistogram = startHistogram();
  #before: IntervalHistogram | null = null;
  readonly #gc: PerformanceObserver;
  #gcMs = 0;
  #cpu = process.cpuUsage();
  #counters: Readonly<Record<string, number>> = {};
  #timer: Timer | null = null;
  #windowAtMs = 0;
  #warnedAtMs = Number.NEGATIVE_INFINITY;
  #worst: Stall | null = null;
  #untold = 0;
  #stalls = 0;
  #longestMs = 0;

  constructor(deps: LoopMonitorDeps) {
    this.#deps = deps;
    this.#gc = new PerformanceObserver(list => {
      for (const entry of list.getEntries()) this.#gcMs += entry.duration;
    });
  }

  start(): void {
    this.#gc.observe({ entryTypes: ["gc"] });
    this.#windowAtMs = this.#deps.clock.monoMs();
    this.#counters = this.#deps.counters();
    this.#arm();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#gc.disconnect();
    this.#delays.disable();
  }

  health(): LoopHealth {
    const windows = this.#before === null ? [this.#delays] : [this.#delays, this.#before];
    // The histogram counts the time between two ticks: its resolution is no delay.
    const most = (pick: (window: IntervalHistogram) => number): number => {
      const ns = Math.max(0, ...windows.filter(one => one.count > 0).map(pick));
      return round(Math.max(0, ns / NS_PER_MS - HISTOGRAM_RESOLUTION_MS));
    };
    return {
      meanMs: most(window => window.mean),
      p99Ms: most(window => window.percentile(99)),
      maxMs: most(window => window.max),
      stalls: this.#stalls,
      longestStallMs: round(this.#longestMs),
    };
  }

  #arm(): void {
    const dueMs = this.#deps.clock.monoMs() + SAMPLE_MS;
    this.#timer = this.#deps.clock.setTimer("loop monitor", SAMPLE_MS, () => this.#sample(dueMs));
  }

  #sample(dueMs: number): void {
    const nowMs = this.#deps.clock.monoMs();
    const heldMs = nowMs - dueMs;
    const cpu = process.cpuUsage(this.#cpu);
    const counters = this.#deps.counters();
    if (heldMs >= STALL_WARNING_MS) {
      const cpuMs = (cpu.user + cpu.system) / US_PER_MS;
      this.#note({ heldMs, fields: { cpuMs: round(cpuMs), ...grown(this.#counters, counters) } });
    } else this.#tell(nowMs);
    this.#cpu = process.cpuUsage();
    this.#counters = counters;
    if (nowMs - this.#windowAtMs >= WINDOW_MS) this.#nextWindow(nowMs);
    this.#arm();
  }

  #note(stall: Stall): void {
    this.#stalls += 1;
    this.#untold += 1;
    this.#longestMs = Math.max(this.#longestMs, stall.heldMs);
    if (this.#worst === null || stall.heldMs > this.#worst.heldMs) this.#worst = stall;
  }

  /** In a later turn than the stall: only then it is known what garbage collection took. */
  #tell(nowMs: number): void {
    const worst = this.#worst;
    if (worst !== null && nowMs - this.#warnedAtMs >= WARN_EVERY_MS) {
      const gcMs = round(this.#gcMs);
      this.#deps.logger.warn("the event loop was held", {
        heldMs: round(worst.heldMs),
        times: this.#untold,
        why: reasonOf(worst, gcMs),
        ...worst.fields,
        gcMs,
      });
      this.#warnedAtMs = nowMs;
      this.#worst = null;
      this.#untold = 0;
    }
    if (this.#worst === null) this.#gcMs = 0;
  }

  #nextWindow(nowMs: number): void {
    this.#delays.disable();
    this.#before = this.#delays;
    this.#delays = startHistogram();
    this.#windowAtMs = nowMs;
  }
}

function startHistogram(): IntervalHistogram {
  const histogram = monitorEventLoopDelay({ resolution: HISTOGRAM_RESOLUTION_MS });
  histogram.enable();
  return histogram;
}

/** Most of the time went to it. */
function reasonOf({ heldMs, fields }: Stall, gcMs: number): string {
  if (Number(fields["cpuMs"]) < heldMs / 2) return "this process got no processor, or was stopped";
  return gcMs > heldMs / 2 ? "garbage collection" : "work of this process";
}

function grown(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Record<string, number> {
  const changes = Object.entries(after).map(([name, value]) => {
    return [name, value - (before[name] ?? value)] as const;
  });
  return Object.fromEntries(changes.filter(([, change]) => change !== 0));
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

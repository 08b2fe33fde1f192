import { performance } from "node:perf_hooks";
import type { Load, Rates } from "./orders.ts";

/** Keys written and read; few enough that the state stays small. */
export const KEYS = 10_000;

export function keyOf(n: number): string {
  return `key-${String(n % KEYS).padStart(6, "0")}`;
}

/** Keeps `inFlight` calls going for the given time and returns their latencies. */
export async function drive(
  { inFlight, seconds }: Pick<Load, "inFlight" | "seconds">,
  call: (n: number) => Promise<unknown>,
): Promise<Rates> {
  const latencies: number[] = [];
  let failed = 0;
  let next = 0;
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  const one = async (): Promise<void> => {
    for (let sentMs = performance.now(); sentMs < endMs; sentMs = performance.now()) {
      next += 1;
      try {
        await call(next);
        latencies.push(performance.now() - sentMs);
      } catch {
        failed += 1;
        await new Promise(resolve => setTimeout(resolve, 10));
      }
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return {
    count: latencies.length,
    failed,
    seconds: (performance.now() - startMs) / 1_000,
    ...quantiles(latencies),
  };
}

export function quantiles(latencies: readonly number[]): Pick<Rates, "p50Ms" | "p99Ms" | "p999Ms"> {
  const sorted = Float64Array.from(latencies).sort();
  // Nearest rank: the smallest that at least the share `q` does not exceed.
  const at = (q: number): number => sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99), p999Ms: at(0.999) };
}

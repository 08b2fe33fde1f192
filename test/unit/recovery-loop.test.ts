import { performance } from "node:perf_hooks";
import t from "tap";
import { type LogFields, silentLogger } from "../../src/base/logger.ts";
import { LoopMonitor, STALL_WARNING_MS } from "../../src/system/loop-monitor.ts";
import { realClock } from "../../src/system/real.ts";
import { eventually } from "../support/eventually.ts";

function hold(ms: number): void {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) Math.sqrt(endMs);
}

t.test("a loop that is held is noticed, counted and told of once", async t => {
  const warnings: LogFields[] = [];
  let applied = 5;
  const monitor = new LoopMonitor({
    clock: realClock,
    counters: () => ({ applied, idle: 1 }),
    logger: { ...silentLogger, warn: (_message, fields = {}) => warnings.push(fields) },
  });
  monitor.start();
  t.teardown(() => monitor.stop());
  t.match(monitor.health(), { stalls: 0, longestStallMs: 0 });
  const heldMs = STALL_WARNING_MS * 3;
  hold(heldMs);
  applied += 7;
  await eventually(() => warnings.length > 0, { what: "a warning" });
  const health = monitor.health();
  t.ok(health.stalls >= 1);
  t.ok(health.longestStallMs >= heldMs - 60, `${health.longestStallMs} ms`);
  const [told] = warnings;
  t.equal(told?.["applied"], 7, "and what was done meanwhile");
  t.notOk(Object.hasOwn(told ?? {}, "idle"));
  t.ok(Number(told?.["heldMs"]) >= heldMs - 60);
  hold(heldMs);
  await eventually(() => monitor.health().stalls >= 2, { what: "the second" });
  t.equal(warnings.length, 1, "not a line for each");
  await eventually(() => monitor.health().maxMs >= heldMs - 60, { what: "the histogram has it" });
  t.ok(monitor.health().p99Ms <= monitor.health().maxMs);
});

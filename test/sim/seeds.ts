import { performance } from "node:perf_hooks";
import { parseSimArgs, type SimArguments } from "./args.ts";
import { type RunResult, simulate } from "./run.ts";

/** Runs seeds one after the other. `main.ts` starts it, as one file and with Node's flags. */

const PROGRESS_EVERY_MS = 10_000;
const SHOWN_LINES = 150;
const MS_PER_MINUTE = 60_000;

/** What `--until-failure` ends with, as one line of JSON. */
export interface SeedsOutcome {
  readonly ran: number;
  readonly failed: Pick<RunResult, "seed" | "violation"> | null;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Sums over the seeds that have run. */
class Totals {
  readonly #startedMs = performance.now();
  #toldMs = this.#startedMs;
  #simulatedMs = 0;
  #events = 0;
  #unhealed = 0;
  ran = 0;
  failed = 0;

  add(result: RunResult): void {
    this.ran += 1;
    this.#simulatedMs += result.simulatedMs;
    this.#events += result.events;
    if (!result.healed) this.#unhealed += 1;
    if (result.violation !== null) this.failed += 1;
    const nowMs = performance.now();
    if (nowMs - this.#toldMs < PROGRESS_EVERY_MS) return;
    this.#toldMs = nowMs;
    print(`seed ${result.seed}: ${this.failed} failed, ${this.#pace()}`);
  }

  tell(): void {
    const healed = this.#unhealed === 0 ? "" : `, ${this.#unhealed} without a quorum to heal`;
    print(`${this.#pace()}, ${this.#events} events`);
    print(`${this.ran - this.failed} passed, ${this.failed} failed${healed}`);
  }

  #pace(): string {
    const { user, system } = process.cpuUsage();
    const cpuMs = (user + system) / 1_000;
    const tookMs = performance.now() - this.#startedMs;
    const minutes = (this.#simulatedMs / MS_PER_MINUTE).toFixed(0);
    const perMinute = (this.#simulatedMs / cpuMs).toFixed(0);
    return (
      `${minutes} simulated minutes in ${(tookMs / 1_000).toFixed(1)} s ` +
      `(${(cpuMs / 1_000).toFixed(1)} s of CPU), ${perMinute} a CPU-minute`
    );
  }
}

/** Runs the seed again with every message kept, and shows the end of it. */
async function explain(result: RunResult, ticks: number): Promise<void> {
  const { seed } = result;
  const again = await simulate({ seed, ticks, full: true, maxLines: SHOWN_LINES });
  for (const line of again.trace.slice(-SHOWN_LINES)) print(line);
  const { violation } = again;
  print(`seed ${seed} breaks ${violation?.checker}: ${violation?.text}`);
  print(`replay: npm run sim -- --seed ${seed} --ticks ${ticks} --trace`);
}

async function runOne(seed: number, { seeds, ticks, trace }: SimArguments): Promise<RunResult> {
  const full = trace && seeds === 1;
  const kept = full ? { full, maxLines: Number.MAX_SAFE_INTEGER } : {};
  const result = await simulate({ seed, ticks, ...kept });
  if (full) for (const line of result.trace) print(line);
  if (seeds === 1) {
    const { trace: _, ...told } = result;
    print(JSON.stringify(told));
  }
  return result;
}

async function runSeeds(args: SimArguments): Promise<number> {
  const { seed: first, seeds, ticks, untilFailure } = args;
  const totals = new Totals();
  let failure: SeedsOutcome["failed"] = null;
  for (let seed = first; seed < first + seeds && failure === null; seed += 1) {
    const result = await runOne(seed, args);
    totals.add(result);
    if (result.violation === null) continue;
    if (untilFailure) failure = { seed, violation: result.violation };
    else await explain(result, ticks);
  }
  totals.tell();
  const outcome: SeedsOutcome = { ran: totals.ran, failed: failure };
  if (untilFailure) print(JSON.stringify(outcome));
  return totals.failed;
}

const command = parseSimArgs(process.argv.slice(2));
if (command.kind !== "seeds") throw new Error("main.ts runs the other commands");
process.exitCode = (await runSeeds(command)) === 0 ? 0 : 1;

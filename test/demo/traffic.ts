import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Lab } from "../lab/lab.ts";
import { plainEnv } from "../lab/run.ts";
import type { Board } from "./board.ts";
import type { Backend, ClientOrder, ClientReport, FailedTry } from "./wire.ts";

/** Reports kept for the rate of the last second, and a mark a second for its history. */
const REPORTS_A_SECOND = 5;
const MAX_HISTORY = 120;
const MAX_FAILED_TRIES = 10_000;

export interface TimedFailure extends FailedTry {
  /** When it was reported, ms of `performance.now()`. */
  readonly atMs: number;
}

/** What the client saw over the whole demonstration. */
export interface TrafficTotals {
  readonly answered: number;
  readonly retried: number;
  readonly failed: number;
  /** Tries that did not succeed, whatever became of their requests. */
  readonly failedTries: readonly TimedFailure[];
}

/** Runs the client in the lab's network and keeps its counters. */
export class Traffic {
  readonly #child: ChildProcess;
  readonly #board: Board;
  readonly #recent: ClientReport[] = [];
  readonly #history: number[] = [];
  readonly #failedTries: TimedFailure[] = [];
  #reports = 0;
  #answered = 0;
  #retried = 0;
  #failed = 0;

  constructor(deps: {
    readonly lab: Lab;
    readonly board: Board;
  }) {
    this.#board = deps.board;
    const program = [process.execPath, "--import=tsx", join(import.meta.dirname, "client.ts")];
    const [command = "", ...args] = deps.lab.clientCommand(program);
    this.#child = spawn(command, args, { env: plainEnv(), stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdin?.on("error", () => undefined); // It has ended; `stop` knows.
    if (this.#child.stdout === null) throw new Error("the client has no output");
    createInterface({ input: this.#child.stdout }).on("line", line => {
      this.#onReport(JSON.parse(line) as ClientReport);
    });
  }

  get totals(): TrafficTotals {
    return {
      answered: this.#answered,
      retried: this.#retried,
      failed: this.#failed,
      failedTries: this.#failedTries,
    };
  }

  setBackends(backends: readonly Backend[]): void {
    const order: ClientOrder = { backends };
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  stop(): void {
    this.#child.stdin?.end();
  }

  #onReport(report: ClientReport): void {
    this.#answered += report.answered;
    this.#retried += report.retried;
    this.#failed += report.failed;
    const atMs = performance.now();
    for (const failed of report.failedTries) {
      if (this.#failedTries.length < MAX_FAILED_TRIES) this.#failedTries.push({ ...failed, atMs });
    }
    this.#recent.push(report);
    if (this.#recent.length > REPORTS_A_SECOND) this.#recent.shift();
    this.#reports += 1;
    const perSecond = this.#recent.reduce((sum, one) => sum + one.answered, 0);
    if (this.#reports % REPORTS_A_SECOND === 0) this.#history.push(perSecond);
    if (this.#history.length > MAX_HISTORY) this.#history.shift();
    this.#board.traffic = {
      perSecond,
      answered: this.#answered,
      retried: this.#retried,
      failed: this.#failed,
      shares: sumByVersion(this.#recent),
      history: this.#history,
    };
  }
}

function sumByVersion(reports: readonly ClientReport[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { byVersion } of reports) {
    for (const [version, count] of Object.entries(byVersion)) {
      sums[version] = (sums[version] ?? 0) + count;
    }
  }
  return sums;
}

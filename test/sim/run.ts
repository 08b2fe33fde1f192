import { errorMessage } from "../../src/base/errors.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { collectableAny } from "./abort-any.ts";
import { Admin } from "./admin.ts";
import { Chance } from "./chance.ts";
import { Clients } from "./clients.ts";
import { Cluster } from "./cluster.ts";
import { CHECK_EVERY_MS, CONVERGE_MS, Liveness } from "./liveness.ts";
import { Nemesis } from "./nemesis.ts";
import { Operator } from "./operator.ts";
import { drawPlan, type Plan } from "./plan.ts";
import type { Violation } from "./witness.ts";
import { nextTurn } from "./world.ts";

/** Virtual time of one tick of `--ticks`: a tick of Raft's clock. */
export const TICK_MS = 100;
const FOUNDING_MS = 120_000;
const PLAN_STREAM = 1;

export interface RunOptions {
  readonly seed: number;
  /** Length of the phase in which anything may go wrong. */
  readonly ticks: number;
  /** Keep every message in the trace. */
  readonly full?: boolean;
  readonly maxLines?: number;
  /** Changes to the plan that the seed draws. */
  readonly tune?: (plan: Plan) => Plan;
}

export interface RunResult {
  readonly seed: number;
  readonly violation: Violation | null;
  readonly trace: readonly string[];
  /** Of everything that happened. */
  readonly hash: string;
  readonly simulatedMs: number;
  readonly events: number;
  readonly commits: number;
  readonly elections: number;
  readonly acknowledged: number;
  readonly reads: number;
  readonly unknown: number;
  /** False when too many disks were lost for the second phase. */
  readonly healed: boolean;
}

const DEFAULT_LINES = 400;

/** One simulation: founds a cluster, breaks it at random, heals a quorum of it, checks all along. */
export class Run {
  readonly #options: RunOptions;
  readonly #cluster: Cluster;
  readonly #operator: Operator;
  readonly #nemesis: Nemesis;
  readonly #clients: Clients;
  readonly #admin: Admin;
  #healed = true;

  constructor(options: RunOptions) {
    const { seed, full = false, maxLines = DEFAULT_LINES } = options;
    const drawn = drawPlan(new Chance(new SeededRng(seed * 64 + PLAN_STREAM)));
    const plan = options.tune?.(drawn) ?? drawn;
    this.#options = options;
    this.#cluster = new Cluster({ seed, plan, trace: { full, maxLines } });
    this.#operator = new Operator(this.#cluster);
    this.#nemesis = new Nemesis(this.#cluster, this.#operator);
    this.#clients = new Clients(this.#cluster);
    this.#admin = new Admin(this.#cluster);
  }

  async run(): Promise<RunResult> {
    const undo = [collectableAny(), cheapErrors()];
    try {
      await this.#phases();
    } finally {
      for (const one of undo.reverse()) one();
    }
    await nextTurn();
    const { witness, trace, world } = this.#cluster;
    const broken = witness.violation === null ? this.#clients.check() : null;
    if (broken !== null) {
      witness.fail("linearizable", `no order explains ${broken.id}:\n${broken.history}`);
    }
    return {
      seed: this.#options.seed,
      violation: witness.violation,
      trace: trace.lines,
      hash: trace.hash,
      simulatedMs: world.nowMs,
      events: world.events,
      commits: witness.lastCommitted,
      elections: witness.elections,
      acknowledged: this.#clients.acknowledged,
      reads: this.#clients.reads,
      unknown: this.#clients.unknown,
      healed: this.#healed,
    };
  }

  async #phases(): Promise<void> {
    if (!(await this.#found())) return;
    this.#clients.start();
    this.#admin.start();
    this.#nemesis.start();
    if (!(await this.#passes(this.#options.ticks * TICK_MS, () => false))) return;
    this.#nemesis.stop();
    this.#operator.stop();
    this.#clients.stop();
    this.#admin.stop();
    await this.#live();
  }

  async #found(): Promise<boolean> {
    const { witness, world, trace } = this.#cluster;
    let founded = false;
    this.#operator.found().then(
      () => {
        founded = true;
      },
      (error: unknown) => witness.fail("founding", errorMessage(error)),
    );
    await nextTurn();
    const sound = await this.#passes(FOUNDING_MS, () => founded);
    if (sound && !founded) witness.fail("liveness", "the cluster was not founded");
    trace.note(`founded after ${Math.round(world.nowMs)} ms`);
    return sound && founded;
  }

  /** Runs for so long, or until `done`; false when a property was broken. */
  async #passes(durationMs: number, done: () => boolean): Promise<boolean> {
    const { world, witness } = this.#cluster;
    await world.run(world.nowMs + durationMs, () => {
      if (world.spins)
        witness.fail("time-goes-on", "somebody does the same again and again at once");
      return witness.violation !== null || done();
    });
    return witness.violation === null;
  }

  async #live(): Promise<void> {
    const { world, witness, trace } = this.#cluster;
    const { operator, clients } = { operator: this.#operator, clients: this.#clients };
    const liveness = new Liveness(this.#cluster, { operator, clients });
    this.#healed = liveness.heal();
    if (!this.#healed) {
      trace.note("too many disks are lost to heal a quorum");
      return;
    }
    const untilMs = world.nowMs + CONVERGE_MS;
    while (world.nowMs < untilMs) {
      if (!(await this.#passes(CHECK_EVERY_MS, () => false))) return;
      if (liveness.check()) return;
    }
    witness.fail("liveness", `a healed quorum still lacks, after 120 s: ${liveness.why}`);
  }
}

/** Nobody looks at the stacks of the many errors that are handled. Returns an undo. */
function cheapErrors(): () => void {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  return () => {
    Error.stackTraceLimit = stackTraceLimit;
  };
}

export function simulate(options: RunOptions): Promise<RunResult> {
  return new Run(options).run();
}

import { setMaxListeners } from "node:events";
import { randomFloat, SeededRng } from "../../src/base/rng.ts";
import { listNodes } from "../lab/cluster.ts";
import type { Lab, LabHost } from "../lab/lab.ts";
import { eventually } from "../support/eventually.ts";
import { Client } from "./client.ts";
import { ClusterWatch } from "./cluster-watch.ts";
import { untilAtRest } from "./converge.ts";
import { checkContainers } from "./core/check-containers.ts";
import { checkCopies } from "./core/check-copies.ts";
import { checkQuorumLoss, checkReads, checkWrites } from "./core/check-writes.ts";
import { ContainerLog } from "./core/container-log.ts";
import { FaultBag, type Situation } from "./core/fault-plan.ts";
import type { ChaosHistory, HostMark, Violation } from "./core/history.ts";
import type { TimelineEntry } from "./core/report.ts";
import { downMarks, type SnapshotCounts, sessionMarks, snapshotCounts } from "./daemon-logs.ts";
import { EngineWatch } from "./engine-watch.ts";
import { FaultRunner } from "./fault-runner.ts";
import { checkAgreement, readFinal } from "./final-state.ts";
import { pause } from "./pause.ts";
import { pulse } from "./pulse.ts";
import { cutLogsOften } from "./swarm-settings.ts";
import { World } from "./world.ts";

const CLIENTS = 3;
/** Services are made before the first fault, so that there is something to break. */
const WARM_UP_MS = 8_000;
const MIN_BETWEEN_FAULTS_MS = 1_500;
const MAX_BETWEEN_FAULTS_MS = 7_000;
const NOTHING_FITS_MS = 300;
/** Streams of events deliver what has happened. */
const LAST_EVENTS_MS = 500;
const PULSES_TIMEOUT_MS = 30_000;

export const REST_RULE = "a healed cluster comes to rest";
export const ANSWER_RULE = "the API's answers say what became of a request";

export interface RunOptions {
  readonly seed: number;
  readonly faultMs: number;
}

export interface RunResult {
  readonly history: ChaosHistory;
  readonly timeline: readonly TimelineEntry[];
  readonly taskLog: readonly TimelineEntry[];
  readonly violations: readonly Violation[];
  readonly faultMs: number;
  /** Null when it did not. */
  readonly convergeMs: number | null;
  readonly finalServices: number;
  readonly snapshots: SnapshotCounts;
}

/** One run on a lab that is up: faults under load, rest, and the judgement. */
export class ChaosRun {
  readonly #options: RunOptions;
  readonly #lab: Lab;
  readonly #hosts: readonly LabHost[];
  readonly #managers: readonly LabHost[];
  readonly #world = new World();
  readonly #containers = new ContainerLog();
  readonly #engines: readonly EngineWatch[];
  readonly #faults: FaultRunner;
  readonly #watch: ClusterWatch;
  readonly #timeline: TimelineEntry[] = [];
  #downs: readonly HostMark[] = [];
  #sessions: readonly HostMark[] = [];

  constructor(
    options: RunOptions,
    deps: { readonly lab: Lab; readonly onLine: (text: string) => void },
  ) {
    this.#options = options;
    this.#lab = deps.lab;
    this.#hosts = deps.lab.hosts();
    this.#managers = this.#hosts.filter(host => host.role === "manager");
    const say = (text: string): void => {
      this.#timeline.push({ atMs: Date.now(), text });
      deps.onLine(text);
    };
    this.#engines = this.#hosts.map(host => new EngineWatch(host, this.#containers));
    this.#faults = new FaultRunner({ say }, deps);
    this.#watch = new ClusterWatch({ say }, { lab: deps.lab, faults: this.#faults });
  }

  /** What is known so far; for a run that was ended early. */
  history(): ChaosHistory {
    const names = (role: string): string[] =>
      this.#hosts.filter(host => host.role === role).map(host => host.name);
    return {
      managers: names("manager"),
      workers: names("worker"),
      requests: [...this.#world.requests].sort((a, b) => a.startMs - b.startMs || a.id - b.id),
      faults: this.#faults.records,
      containers: this.#containers.records,
      leaders: this.#watch.leaders,
      downs: this.#downs,
      sessions: this.#sessions,
      lags: this.#watch.lags,
    };
  }

  async run(signal: AbortSignal): Promise<RunResult> {
    const watching = new AbortController();
    const ends = listened([signal, watching.signal]);
    const watchers = [this.#watch.run(ends), ...this.#engines.map(engine => engine.run(ends))];
    const startedMs = Date.now();
    let violations: Violation[] = [];
    let convergeMs: number | null = null;
    try {
      await this.#underLoad(signal);
      const healedMs = Date.now();
      const left = await untilAtRest(this.#hosts, signal);
      if (left.length === 0) convergeMs = Date.now() - healedMs;
      violations = left.map(text => ({ rule: REST_RULE, text, atMs: 0 }));
      violations.push(...(await this.#judge(signal)));
    } finally {
      watching.abort();
      await Promise.all(watchers);
    }
    const { taskLog } = this.#watch;
    const faultMs = Math.min(this.#options.faultMs, Date.now() - startedMs);
    const history = this.history();
    const timeline = this.#timeline;
    const finalServices = [...this.#world.objects.values()].filter(
      object => object.kind === "service" && object.exists === "yes",
    ).length;
    const snapshots = await snapshotCounts(this.#managers);
    const counts = { faultMs, convergeMs, finalServices, snapshots };
    return { history, timeline, taskLog, violations, ...counts };
  }

  /** Clients work until every fault is mended. */
  async #underLoad(signal: AbortSignal): Promise<void> {
    await this.#registerNodes();
    await cutLogsOften(this.#managers);
    const calm = new AbortController();
    const working = listened([signal, calm.signal]);
    const clients = [...this.#startPulses(working), ...this.#startClients(working)];
    const failed = Promise.all(clients).then(() => undefined);
    try {
      await Promise.race([this.#warmUp(signal), failed]);
      await Promise.race([this.#inflict(signal), failed]);
    } finally {
      calm.abort();
      await Promise.all(clients);
    }
    await this.#activateNodes(signal);
  }

  async #activateNodes(signal: AbortSignal): Promise<void> {
    const deps = { world: this.#world, managers: this.#managers };
    const client = new Client("closer", { ...deps, rng: new SeededRng(this.#options.seed) });
    for (const object of this.#world.objects.values()) await client.activate(object, signal);
  }

  async #registerNodes(): Promise<void> {
    const [first] = this.#managers;
    for (const node of await listNodes(first?.socketPath ?? "")) {
      const object = this.#world.add("node", node.Description?.Hostname ?? "");
      object.id = node.ID;
      object.exists = "yes";
    }
  }

  #startPulses(signal: AbortSignal): Promise<void>[] {
    return this.#managers.map((host, i) => {
      const rng = new SeededRng(this.#options.seed + 100 + i);
      const client = new Client(`pulse-${host.name}`, {
        world: this.#world,
        managers: [host],
        rng,
      });
      return pulse(host.name, client, this.#world, signal);
    });
  }

  #startClients(signal: AbortSignal): Promise<void>[] {
    return Array.from({ length: CLIENTS }, (_, i) => {
      const rng = new SeededRng(this.#options.seed + 200 + i);
      const deps = { world: this.#world, managers: this.#managers, rng };
      return new Client(`client-${i + 1}`, deps).run(signal);
    });
  }

  async #warmUp(signal: AbortSignal): Promise<void> {
    const pulses = this.#managers.map(host => `config/pulse-${host.name}`);
    await eventually(() => pulses.every(key => this.#world.objects.get(key)?.exists === "yes"), {
      what: "the first writes are granted",
      timeoutMs: PULSES_TIMEOUT_MS,
    });
    await pause(WARM_UP_MS, signal);
  }

  async #inflict(signal: AbortSignal): Promise<void> {
    const rng = new SeededRng(this.#options.seed);
    const bag = new FaultBag(rng);
    const done = new AbortController();
    const over = listened([signal, done.signal]);
    const timer = setTimeout(() => done.abort(), this.#options.faultMs);
    const plays: Promise<void>[] = [];
    let broken: unknown = null;
    while (!over.aborted && broken === null) {
      const fault = bag.next(this.#situation());
      if (fault === null) {
        await pause(NOTHING_FITS_MS, over);
        continue;
      }
      const played = this.#faults.play(fault, over).catch((error: unknown) => {
        broken = error;
      });
      plays.push(played);
      const between = MAX_BETWEEN_FAULTS_MS - MIN_BETWEEN_FAULTS_MS;
      await pause(MIN_BETWEEN_FAULTS_MS + randomFloat(rng) * between, over);
    }
    clearTimeout(timer);
    done.abort();
    await Promise.all(plays);
    if (broken !== null) throw broken;
  }

  #situation(): Situation {
    return {
      nowMs: Date.now(),
      managers: this.#managers.map(host => host.name),
      workers: this.#hosts.filter(host => host.role === "worker").map(host => host.name),
      leader: this.#watch.leader,
      active: this.#faults.active,
      recovering: this.#watch.recovering,
      quorumBackMs: this.#faults.quorumBackMs,
    };
  }

  async #judge(signal: AbortSignal): Promise<readonly Violation[]> {
    await Promise.all(this.#engines.map(engine => engine.look().catch(() => undefined)));
    await pause(LAST_EVENTS_MS, signal);
    this.#downs = await downMarks(this.#managers);
    this.#sessions = await sessionMarks(this.#hosts);
    const history = this.history();
    const finals = await Promise.allSettled(
      this.#managers.map(host => readFinal(host, this.#world)),
    );
    const writes = finals.flatMap((final, i) => {
      if (final.status === "fulfilled") {
        return [...checkWrites(history, final.value.state), ...final.value.violations];
      }
      const text = `${this.#managers[i]?.name}: ${final.reason}`;
      return [{ rule: REST_RULE, text, atMs: 0 }];
    });
    return [
      ...writes,
      ...checkReads(history),
      ...checkContainers(history),
      ...checkCopies(history),
      ...checkQuorumLoss(history),
      ...(await checkAgreement(this.#managers, signal)),
      ...this.#world.oddAnswers.map(({ atMs, text }) => ({ rule: ANSWER_RULE, text, atMs })),
      ...this.#watch.violations,
    ];
  }
}

/** Aborts with the first of them; any number may wait for it. */
function listened(signals: readonly AbortSignal[]): AbortSignal {
  const any = AbortSignal.any([...signals]);
  setMaxListeners(0, any);
  return any;
}

import { request } from "../lab/http.ts";
import type { Lab, LabHost } from "../lab/lab.ts";
import { call, type NodeAnswer, type TaskAnswer } from "./api.ts";
import { touched } from "./core/fault-plan.ts";
import type { Lag, LeaderSighting, Violation } from "./core/history.ts";
import type { TimelineEntry } from "./core/report.ts";
import type { FaultRunner } from "./fault-runner.ts";
import { pause } from "./pause.ts";

const LEADER_EVERY_MS = 300;
const STATUS_TIMEOUT_MS = 1_000;
const NODES_EVERY_MS = 1_000;
const TASKS_EVERY_MS = 2_000;
const LIST_TIMEOUT_MS = 5_000;
const DAEMONS_EVERY_MS = 1_000;
const LAG_EVERY_MS = 100;
const MIN_LAG_MS = 250;
/** A manager that said within this that it knows a leader is well. */
const FRESH_MS = 2_000;

interface StatusAnswer {
  readonly raft?: {
    readonly role?: string;
    readonly term?: number;
    readonly leaderNodeId?: string;
  } | null;
}

/** Watches from outside: who leads, what nodes are called, what tasks do, which daemons live. */
export class ClusterWatch {
  readonly leaders: LeaderSighting[] = [];
  readonly taskLog: TimelineEntry[] = [];
  readonly violations: Violation[] = [];
  readonly lags: Lag[] = [];
  readonly #lab: Lab;
  readonly #managers: readonly LabHost[];
  readonly #faults: FaultRunner;
  readonly #say: (text: string) => void;
  readonly #nodeStates = new Map<string, string>();
  readonly #taskStates = new Map<string, string>();
  #lagLookMs = 0;
  readonly #dead = new Set<string>();
  /** When the manager last said that it knows a leader. */
  readonly #knewLeaderMs = new Map<string, number>();

  constructor(
    options: { readonly say: (text: string) => void },
    deps: { readonly lab: Lab; readonly faults: FaultRunner },
  ) {
    this.#say = options.say;
    this.#lab = deps.lab;
    this.#faults = deps.faults;
    this.#managers = deps.lab.hosts().filter(host => host.role === "manager");
  }

  /** The last one that was seen to lead, unless a fault is on it. */
  get leader(): string | null {
    return this.leaders.at(-1)?.host ?? null;
  }

  /** Managers that have not said for a while that they know a leader. */
  get recovering(): readonly string[] {
    const sinceMs = Date.now() - FRESH_MS;
    return this.#managers
      .map(host => host.name)
      .filter(name => (this.#knewLeaderMs.get(name) ?? 0) < sinceMs);
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      ...this.#managers.map(host => every(LEADER_EVERY_MS, signal, () => this.#lookAtLeader(host))),
      every(NODES_EVERY_MS, signal, at => this.#lookAtNodes(at)),
      every(TASKS_EVERY_MS, signal, at => this.#lookAtTasks(at)),
      every(LAG_EVERY_MS, signal, () => this.#lookAtLag()),
      every(DAEMONS_EVERY_MS, signal, () => this.#lookAtDaemons()),
    ]);
  }

  /** A term has one leader: only the first sight of each newer term counts. */
  async #lookAtLeader(host: LabHost): Promise<void> {
    const answer = await request(host.socketPath, "GET", "/swarmd/v1/status", undefined, {
      timeoutMs: STATUS_TIMEOUT_MS,
    }).catch(() => null);
    const raft = (answer?.body as StatusAnswer | undefined)?.raft;
    if ((raft?.leaderNodeId ?? "") !== "") this.#knewLeaderMs.set(host.name, Date.now());
    const term = raft?.term ?? 0;
    if (raft?.role !== "leader" || term <= (this.leaders.at(-1)?.term ?? 0)) return;
    this.leaders.push({ atMs: Date.now(), host: host.name, term });
    this.#say(`${host.name} leads in term ${term}`);
  }

  async #lookAtNodes(at: number): Promise<void> {
    const nodes = await this.#list<NodeAnswer>(at, "/nodes");
    for (const node of nodes) {
      const name = node.Description?.Hostname ?? node.ID;
      const state = node.Status?.State ?? "unknown";
      const before = this.#nodeStates.get(name);
      this.#nodeStates.set(name, state);
      if (before !== undefined && before !== state) this.#say(`node ${name} is ${state}`);
    }
  }

  async #lookAtTasks(at: number): Promise<void> {
    for (const task of await this.#list<TaskAnswer>(at, "/tasks")) {
      const { ID, ServiceID = "", NodeID = "", Slot = 0, DesiredState, Status } = task;
      const now = `${DesiredState} ${Status.State} ${Status.Message ?? ""} ${Status.Err ?? ""}`;
      if (this.#taskStates.get(ID) === now) continue;
      this.#taskStates.set(ID, now);
      const text = `task ${ID} service ${ServiceID} slot ${Slot} node ${NodeID}: ${now}`;
      this.taskLog.push({ atMs: Date.now(), text });
    }
  }

  /** Through one manager after the other; nothing when it does not answer. */
  async #list<T>(at: number, path: string): Promise<readonly T[]> {
    const host = this.#managers[at % this.#managers.length];
    if (host === undefined) return [];
    const called = await call(host, "GET", path, undefined, LIST_TIMEOUT_MS);
    return called.verdict.outcome === "acknowledged" ? (called.body as readonly T[]) : [];
  }

  /** This loop is late when the machine has too much to do. */
  async #lookAtLag(): Promise<void> {
    const nowMs = Date.now();
    const lateMs = nowMs - this.#lagLookMs - LAG_EVERY_MS;
    if (this.#lagLookMs > 0 && lateMs >= MIN_LAG_MS) this.lags.push({ atMs: nowMs, lateMs });
    this.#lagLookMs = nowMs;
  }

  /** A daemon that no fault has ended must run. */
  async #lookAtDaemons(): Promise<void> {
    const before = touched(this.#faults.active);
    for (const host of this.#lab.hosts()) {
      if (before.has(host.name) || this.#dead.has(host.name)) continue;
      if ((await host.pid()) !== null || touched(this.#faults.active).has(host.name)) continue;
      this.#dead.add(host.name);
      const text = `swarmd on ${host.name} ended, and no fault ended it`;
      this.violations.push({
        rule: "a daemon runs until it is told to stop",
        text,
        atMs: Date.now(),
      });
      this.#say(text);
    }
  }
}

async function every(
  periodMs: number,
  signal: AbortSignal,
  look: (at: number) => Promise<void>,
): Promise<void> {
  for (let at = 0; !signal.aborted; at++) {
    await look(at);
    await pause(periodMs, signal);
  }
}

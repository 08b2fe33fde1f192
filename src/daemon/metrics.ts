import type { LoopHealth } from "../base/loop-health.ts";
import { type Family, gauge } from "../metrics/core/exposition.ts";
import { type Health, healthOf } from "../metrics/core/health.ts";
import { nodeFamilies, type ProcessFacts } from "../metrics/core/node-families.ts";
import { raftFamilies } from "../metrics/core/raft-families.ts";
import { stateFamilies } from "../metrics/core/state-families.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Manager } from "./manager.ts";

const US_PER_SECOND = 1e6;
const MS_PER_SECOND = 1_000;

export interface DaemonMetricsDeps {
  readonly lifecycle: Lifecycle;
  readonly loopHealth: () => LoopHealth;
  /** Asks the local Engine; soon false when it does not answer. */
  readonly engineAnswers: () => Promise<boolean>;
  readonly version: string;
}

function processFacts(): ProcessFacts {
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return {
    residentBytes: rss,
    heapUsedBytes: heapUsed,
    cpuSeconds: (user + system) / US_PER_SECOND,
    startedAtSeconds: Math.round(Date.now() / MS_PER_SECOND - process.uptime()),
  };
}

/** Gathers, when somebody asks, what the parts of the daemon know of themselves. */
export class DaemonMetrics {
  readonly #deps: DaemonMetricsDeps;
  /** The state is counted once for each of its versions, however often it is asked for. */
  #counted: { readonly index: number; readonly families: readonly Family[] } | null = null;

  constructor(deps: DaemonMetricsDeps) {
    this.#deps = deps;
  }

  async families(): Promise<readonly Family[]> {
    const { lifecycle, loopHealth, engineAnswers, version } = this.#deps;
    const hasEngine = await engineAnswers();
    const { node } = lifecycle;
    const { nodeId, isManager } = lifecycle.state();
    const manager = node?.manager ?? null;
    const own = nodeFamilies({
      version,
      nodeId,
      clusterId: lifecycle.clusterId,
      isManager,
      isServed: (node?.worker?.manager ?? "") !== "",
      hasEngine,
      overlay: node?.worker?.overlayFacts ?? null,
      loop: loopHealth(),
      process: processFacts(),
    });
    return manager === null ? own : [...own, ...this.#ofManager(manager)];
  }

  async health(): Promise<Health> {
    const { lifecycle, engineAnswers } = this.#deps;
    const hasEngine = await engineAnswers();
    const { node } = lifecycle;
    const { localNodeState: state, isManager, error } = lifecycle.state();
    return healthOf({
      state,
      problem: [error, node?.worker?.problem ?? ""].filter(why => why !== "").join("; "),
      isManager: isManager && node !== null,
      hasLeader: (node?.manager?.raft.status().leaderId ?? 0) !== 0,
      isServed: (node?.worker?.manager ?? "") !== "",
      hasEngine,
    });
  }

  #ofManager(manager: Manager): Family[] {
    const { raft, store, record, sessions } = manager;
    const names = new Map(store.members().map(member => [member.raftId, member.nodeId]));
    return [
      ...raftFamilies({
        status: raft.status(),
        counts: raft.stats(),
        leaderChanges: record.leaderChanges,
        names,
        reachable: id => raft.reachable(id),
      }),
      record.transactions.family(
        "swarm_raft_transaction_latency_seconds",
        "Raft transaction latency.",
      ),
      record.transactions.family(
        "swarm_store_write_tx_latency_seconds",
        "Raft store write tx latency; writes go through the log, so it is that of transactions.",
      ),
      record.snapshots.family("swarm_raft_snapshot_latency_seconds", "Raft snapshot latency."),
      record.schedulingDelays.family(
        "swarm_dispatcher_scheduling_delay_seconds",
        "Scheduling delay is the time a task takes to go from NEW to RUNNING state.",
      ),
      ...(sessions === null
        ? []
        : [gauge("swarmd_sessions", "Nodes that the leader serves.", sessions)]),
      ...this.#ofState(manager),
    ];
  }

  #ofState({ store }: Manager): readonly Family[] {
    const { index } = store.view;
    if (this.#counted?.index !== index) {
      this.#counted = { index, families: stateFamilies(store.view) };
    }
    return this.#counted.families;
  }
}

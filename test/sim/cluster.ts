import { SwarmError } from "../../src/base/errors.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { isOperation } from "../../src/control/operations.ts";
import type { LeaderTransport } from "../../src/control/ports.ts";
import type { RaftId } from "../../src/raft/core/types.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import { Chance } from "./chance.ts";
import { ManagerHost } from "./host.ts";
import type { SimManager } from "./manager.ts";
import { type HostId, Network } from "./network.ts";
import type { Plan } from "./plan.ts";
import type { SimProcess } from "./process.ts";
import { SessionLink } from "./session-link.ts";
import { Trace } from "./trace.ts";
import { SimTransport } from "./transport.ts";
import { Weather } from "./weather.ts";
import { Witness } from "./witness.ts";
import { WorkerHost } from "./worker.ts";
import { World } from "./world.ts";

export const OUTSIDE: HostId = 0;
const FIRST_WORKER: HostId = 101;
const CLUSTER_ID = "cluster";
/** When a process is killed its peers see their streams close within about this. */
const CLOSE_NOTICE_MS = 2;
/** Independent streams of chance, so that a change in one place leaves the others alone. */
const STREAMS = {
  hosts: 11,
  network: 12,
  operator: 13,
  nemesis: 14,
  clients: 15,
  admin: 16,
  weather: 17,
} as const;

export interface ClusterOptions {
  readonly seed: number;
  readonly plan: Plan;
  readonly trace: { readonly full: boolean; readonly maxLines: number };
}

/** All machines of a simulation and what connects them. */
export class Cluster {
  readonly plan: Plan;
  readonly clusterId = CLUSTER_ID;
  readonly world = new World();
  readonly witness = new Witness();
  readonly trace: Trace;
  readonly network: Network;
  readonly weather: Weather;
  readonly managers: readonly ManagerHost[];
  readonly workers: readonly WorkerHost[];
  readonly #options: ClusterOptions;
  readonly #transports = new Map<RaftId, SimTransport>();
  #lastRaftId = 0;

  constructor(options: ClusterOptions) {
    const { plan, seed } = options;
    this.#options = options;
    this.plan = plan;
    this.trace = new Trace(options.trace, this.world);
    const { world, trace, witness } = this;
    this.network = new Network(plan.network, { world, chance: this.chance("network") });
    this.weather = new Weather(plan.weather, { world, chance: this.chance("weather") });
    const hosts = Array.from({ length: plan.managers + plan.spares }, (_, i) => i + 1);
    this.managers = hosts.map(id => this.#newHost(id));
    this.workers = Array.from({ length: plan.workers }, (_, i) => {
      const id = FIRST_WORKER + i;
      return new WorkerHost(
        { id, clusterId: CLUSTER_ID, seed: seed + id },
        {
          world,
          witness,
          logger: trace.logger(`w${id}`),
          managers: () => this.managers.filter(inUse).map(host => host.addr),
          dial: (worker, process, addr) => this.#dial(worker, process, addr),
        },
      );
    });
  }

  /** The stream of chance of one part of the simulation. */
  chance(stream: keyof typeof STREAMS): Chance {
    return new Chance(new SeededRng(this.#options.seed * 64 + STREAMS[stream]));
  }

  newRaftId(): RaftId {
    this.#lastRaftId += 1;
    return this.#lastRaftId;
  }

  /** The leader of the highest term among the managers that run. */
  get leader(): ManagerHost | null {
    let best: ManagerHost | null = null;
    let bestTerm = 0;
    for (const host of this.managers) {
      const status = host.running ? host.manager?.raft.status() : undefined;
      if (status?.role !== "leader" || status.term <= bestTerm) continue;
      best = host;
      bestTerm = status.term;
    }
    return best;
  }

  /** Runs `work` on the manager of a host for somebody outside of the cluster. */
  ask<T>(host: ManagerHost, work: (manager: SimManager) => Promise<T>): Promise<T> {
    const { manager } = host;
    if (manager === null) return Promise.reject(unreachable(host));
    const ends = { from: OUTSIDE, to: host.id };
    const processes = { caller: null, callee: manager.process };
    return this.network.call(ends, processes, async () => work(manager));
  }

  #newHost(id: HostId): ManagerHost {
    const { world, trace, witness, plan } = this;
    return new ManagerHost(id, {
      world,
      trace,
      witness,
      plan,
      clusterId: CLUSTER_ID,
      chance: new Chance(new SeededRng(this.#options.seed * 4_096 + id)),
      newTransport: (host, process) => this.#newTransport(host, process),
      forward: (host, process) => this.#forward(host, process),
      onEnd: (host, transport, kind) => {
        if (kind === "kill") this.#closeStreams(host, transport);
      },
    });
  }

  #newTransport(host: ManagerHost, process: SimProcess): SimTransport {
    const { witness, trace, network } = this;
    const transport = new SimTransport(
      { self: host.peer, clusterId: CLUSTER_ID, hostId: host.id },
      {
        process,
        network,
        onSend: message => {
          trace.detail(
            () => `${host.name} sends ${describe(message)}`,
            message.from,
            message.to,
            message.term,
            message.index,
          );
          witness.sent(host.raftId, message);
        },
        onReceive: message => {
          trace.detail(
            () => `${host.name} receives ${describe(message)}`,
            message.term,
            message.index,
          );
        },
        peer: raftId => alive(this.#transports.get(raftId)),
        at: addr => alive(this.managers.find(other => other.addr === addr)?.transport),
      },
    );
    this.#transports.set(host.raftId, transport);
    return transport;
  }

  /** Calls of a follower's API that only the leader can answer. */
  #forward(host: ManagerHost, process: SimProcess): LeaderTransport {
    return {
      call: async (peer, { op, argsJson }, signal) => {
        const target = this.managers.find(other => other.addr === peer.addr);
        const manager = target?.manager ?? null;
        if (target === undefined || manager === null || !isOperation(op)) {
          throw new SwarmError("unavailable", `nobody answers at ${peer.addr}`);
        }
        const ends = { from: host.id, to: target.id };
        const processes = { caller: process, callee: manager.process };
        try {
          return await this.network.call(ends, processes, async () =>
            JSON.stringify(await manager.service.run(op, JSON.parse(argsJson), signal)),
          );
        } catch (error) {
          if (!(error instanceof SwarmError) || error.code !== "unavailable") throw error;
          throw new SwarmError("unknown_outcome", "the leader's answer was lost", {}, error);
        }
      },
      logs: (_peer: PeerInfo) => {
        throw new SwarmError("unimplemented", "there are no logs here");
      },
    };
  }

  #dial(
    worker: WorkerHost,
    process: SimProcess,
    addr: string,
  ): ReturnType<typeof SessionLink.client> {
    return SessionLink.client(
      { nodeId: worker.nodeId, hostId: worker.id },
      {
        process,
        network: this.network,
        target: () => {
          const host = this.managers.find(other => other.addr === addr);
          const manager = host?.manager ?? null;
          return host === undefined || manager === null ? null : { hostId: host.id, manager };
        },
      },
    );
  }

  #closeStreams(host: ManagerHost, transport: SimTransport): void {
    for (const other of this.managers) {
      const target = other.transport;
      if (target === null || this.network.isCut(host.id, other.id)) continue;
      this.world.after(CLOSE_NOTICE_MS, () => target.peerLost(transport.raftId));
    }
  }
}

function alive(transport: SimTransport | null | undefined): SimTransport | null {
  return transport?.process.alive === true ? transport : null;
}

function unreachable(host: ManagerHost): SwarmError {
  return new SwarmError("unavailable", `${host.name} does not answer`);
}

function describe(message: {
  readonly kind: string;
  readonly from: number;
  readonly to: number;
  readonly term: number;
  readonly index: number;
  readonly logTerm: number;
  readonly commit: number;
  readonly reject: boolean;
  readonly entries: readonly { readonly index: number; readonly term: number }[];
}): string {
  const { kind, from, to, term, index, logTerm, commit, reject, entries } = message;
  const first = entries[0];
  const carried = first === undefined ? "" : ` entries ${first.index}+${entries.length}`;
  const verdict = reject ? " reject" : "";
  return `${kind} ${from}>${to} term ${term} at ${index}/${logTerm} commit ${commit}${carried}${verdict}`;
}

function inUse(host: ManagerHost): boolean {
  return host.state !== "empty";
}

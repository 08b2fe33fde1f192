import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LocalNodeInfo, NodeLifecycle } from "../../src/api/ports.ts";
import { ApiServer } from "../../src/api/server.ts";
import type { Clock } from "../../src/base/clock.ts";
import { SwarmError } from "../../src/base/errors.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { ForwardingClient } from "../../src/control/client.ts";
import type { LeaderTransport, LogSource, NodeAsker } from "../../src/control/ports.ts";
import { ControlService } from "../../src/control/service.ts";
import { SwarmEventLog } from "../../src/control/swarm-events.ts";
import type { PeerInfo, RaftNode } from "../../src/raft/ports.ts";
import { realClock } from "../../src/system/real.ts";
import { MemoryStore } from "./memory-store.ts";
import { aCluster, aNode } from "./rows.ts";

export const SELF_ID = "1".repeat(25);

/** A Raft node whose role and reachability a test sets. */
export class ScriptedRaft implements RaftNode {
  readonly raftId = 1;
  leaderId = 1;
  term = 1;
  voters = [1];
  readonly unreachable = new Set<number>();
  /** Set to make read barriers fail. */
  barrierError: SwarmError | null = null;
  barriers = 0;

  async propose(): Promise<unknown> {
    throw new SwarmError("internal", "writes go to the memory store");
  }
  async readBarrier(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.barriers += 1;
    if (this.barrierError !== null) throw this.barrierError;
  }
  addMember(): Promise<void> {
    return Promise.resolve();
  }
  removeMember(): Promise<void> {
    return Promise.resolve();
  }
  transferLeadership(): Promise<void> {
    return Promise.resolve();
  }
  status(): ReturnType<RaftNode["status"]> {
    const conf = {
      voters: this.voters,
      learners: [],
      votersOutgoing: [],
      learnersNext: [],
      autoLeave: false,
    };
    return {
      id: this.raftId,
      term: this.term,
      vote: 0,
      commit: 10,
      applied: 10,
      lastIndex: 10,
      role: this.leaderId === this.raftId ? "leader" : "follower",
      leaderId: this.leaderId,
      transferTarget: 0,
      conf,
      progress: [],
    };
  }
  reachable(raftId: number): boolean {
    return !this.unreachable.has(raftId);
  }
  onLeadership(): () => void {
    return () => undefined;
  }
  run(): Promise<void> {
    return Promise.resolve();
  }
}

/** A lifecycle that remembers what it was asked. */
export class ScriptedLifecycle implements NodeLifecycle {
  info: LocalNodeInfo = {
    localNodeState: "active",
    nodeId: SELF_ID,
    nodeAddr: "10.0.0.1",
    isManager: true,
    error: "",
    remoteManagers: [{ nodeId: SELF_ID, addr: "10.0.0.1:2377" }],
  };
  readonly asked: unknown[][] = [];
  readonly #rig: { readonly client: ForwardingClient; readonly events: SwarmEventLog };

  constructor(rig: { readonly client: ForwardingClient; readonly events: SwarmEventLog }) {
    this.#rig = rig;
  }

  state(): LocalNodeInfo {
    return this.info;
  }
  become(state: "inactive" | "worker" | "preparing" | "manager"): void {
    const nodeId = state === "inactive" ? "" : SELF_ID;
    this.info = {
      ...this.info,
      nodeId,
      localNodeState: state === "inactive" ? "inactive" : "active",
      isManager: state === "manager" || state === "preparing",
      remoteManagers: state === "inactive" ? [] : this.info.remoteManagers,
    };
    this.ready = state === "manager";
  }
  ready = true;

  async init(...args: unknown[]): Promise<string> {
    this.asked.push(["init", args[0]]);
    return SELF_ID;
  }
  async join(...args: unknown[]): Promise<void> {
    this.asked.push(["join", args[0]]);
  }
  async leave(...args: unknown[]): Promise<void> {
    this.asked.push(["leave", args[0]]);
  }
  async backup(passphrase: string): Promise<AsyncIterable<Uint8Array>> {
    this.asked.push(["backup", passphrase]);
    return (async function* () {
      yield Buffer.from("a ");
      yield Buffer.from("backup");
    })();
  }
  async restore(request: unknown, file: AsyncIterable<Uint8Array>): Promise<string> {
    const parts: Uint8Array[] = [];
    for await (const part of file) parts.push(part);
    this.asked.push(["restore", request, Buffer.concat(parts).toString()]);
    return SELF_ID;
  }
  async unlock(...args: unknown[]): Promise<void> {
    this.asked.push(["unlock", args[0]]);
  }
  async unlockKey(): Promise<string> {
    return "";
  }
  async attachNetwork(networkId: string): Promise<{ readonly gateway: string }> {
    this.asked.push(["attach", networkId]);
    return { gateway: "10.0.1.1" };
  }
  control(): ForwardingClient | null {
    return this.ready ? this.#rig.client : null;
  }
  events(): SwarmEventLog | null {
    return this.ready ? this.#rig.events : null;
  }
}

export interface ControlRig {
  readonly store: MemoryStore;
  readonly raft: ScriptedRaft;
  readonly service: ControlService;
  readonly client: ForwardingClient;
  readonly lifecycle: ScriptedLifecycle;
  readonly events: SwarmEventLog;
  readonly peers: PeerInfo[];
}

const NO_TRANSPORT: LeaderTransport = {
  call: async () => {
    throw new SwarmError("unavailable", "no other manager");
  },
  logs: () => {
    throw new SwarmError("unavailable", "no other manager");
  },
};

export interface ControlRigOptions {
  readonly transport?: LeaderTransport;
  readonly logs?: LogSource;
  readonly asker?: NodeAsker;
  readonly clock?: Clock;
  /** Whether an external CA answers there. Default: none does. */
  readonly reachesCa?: (urls: readonly string[], rootPem: string) => boolean;
}

/** A manager of one over the memory store: control service, client and lifecycle. */
export function controlRig(options: ControlRigOptions = {}): ControlRig {
  const clock = options.clock ?? realClock;
  const store = new MemoryStore(clock);
  const raft = new ScriptedRaft();
  const member = { id: "1", nodeId: SELF_ID, raftId: 1, addr: "10.0.0.1:2377" };
  store.put(
    {
      op: "create",
      table: "cluster",
      row: aCluster({
        joinTokens: { worker: "SWMTKN-1-w", manager: "SWMTKN-1-m" },
        defaultAddrPool: ["10.0.0.0/8"],
      }),
    },
    {
      op: "create",
      table: "nodes",
      row: aNode({
        id: SELF_ID,
        spec: { Role: "manager", Availability: "active" },
        certRole: "manager",
        status: { state: "ready", message: "", addr: "10.0.0.1" },
      }),
    },
    { op: "create", table: "members", row: member },
  );
  let tokens = 0;
  let unlockKeys = 0;
  const service = new ControlService(
    { nodeId: SELF_ID },
    {
      store,
      raft,
      clock,
      logs: () => options.logs ?? null,
      asker: () => options.asker ?? null,
      tokens: {
        nextRoot: async () => ({ certPem: "next", keyPem: "key", crossSignedPem: "cross" }),
        checkRoot: () => undefined,
        reachesCa: async (urls, rootPem) => options.reachesCa?.(urls, rootPem) ?? false,
        newMeshKey: () => "mesh-key",
        newUnlockKey: () => {
          unlockKeys += 1;
          return `SWMKEY-1-${unlockKeys}`;
        },
        newJoinToken: role => {
          tokens += 1;
          return `SWMTKN-1-${role}-${tokens}`;
        },
      },
    },
  );
  const peers: PeerInfo[] = [member];
  const client = new ForwardingClient(
    { nodeId: SELF_ID },
    {
      service,
      raft,
      peers: () => peers,
      transport: options.transport ?? NO_TRANSPORT,
      clock,
      logger: silentLogger,
    },
  );
  const events = new SwarmEventLog(store);
  const lifecycle = new ScriptedLifecycle({ client, events });
  return { store, raft, service, client, lifecycle, events, peers };
}

export interface ApiRig {
  readonly server: ApiServer;
  readonly socketPath: string;
  close(): Promise<void>;
}

/** The API of a rig on a socket in a folder of its own. */
export async function apiRig(
  rig: Pick<ControlRig, "lifecycle">,
  engineSocketPath: string,
  clock: Clock = realClock,
): Promise<ApiRig> {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-api-"));
  const socketPath = join(dir, "swarmd.sock");
  const rng = new SeededRng(7);
  const server = new ApiServer(
    { socketPath, engineSocketPath, productVersion: "0.1.0" },
    {
      lifecycle: rig.lifecycle,
      ids: new RngIdSource(rng),
      rng,
      clock,
      logger: silentLogger,
    },
  );
  await server.start();
  const close = async (): Promise<void> => {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  };
  return { server, socketPath, close };
}

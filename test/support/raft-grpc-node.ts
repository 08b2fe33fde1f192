import { type AddressInfo, createServer } from "node:net";
import { credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { type Logger, silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import { nextTurn } from "../../src/raft/driver/turns.ts";
import { DRIVER_DEFAULTS, type DriverOptions, RaftDriver } from "../../src/raft/driver.ts";
import type { PeerInfo, StateMachine } from "../../src/raft/ports.ts";
import { LevelRaftStorage } from "../../src/raft/storage/level-storage.ts";
import { AesGcmSealer } from "../../src/raft/storage/sealer.ts";
import {
  GrpcRaftTransport,
  RAFT_CHANNEL_OPTIONS,
  raftServiceHandlers,
} from "../../src/raft/transport/grpc-transport.ts";
import { RaftClient, RaftService } from "../../src/rpc/gen/swarmd/v1/raft.ts";
import { realClock } from "../../src/system/real.ts";
import { ListMachine } from "./list-machine.ts";

export const GRPC_CLUSTER_ID = "grpc-cluster";

/** Raft clients without TLS, on loopback. */
export function dialPlainly(peer: PeerInfo): RaftClient {
  return new RaftClient(peer.addr, credentials.createInsecure(), RAFT_CHANNEL_OPTIONS);
}

export interface GrpcNodeOptions extends Partial<DriverOptions> {
  readonly raftId: number;
  readonly start: DriverOptions["start"];
  readonly dir: string;
  /** host:port; a free port when absent. */
  readonly addr?: string;
  /** What the others are told; `addr` when absent. */
  readonly advertise?: string;
  /** What the log replicates into; `machine` when absent. */
  readonly stateMachine?: StateMachine;
  readonly log?: Logger;
}

/** A whole member: driver, level storage on disk, gRPC on loopback. */
export class GrpcNode {
  readonly driver: RaftDriver;
  readonly machine: ListMachine;
  readonly transport: GrpcRaftTransport;
  readonly self: PeerInfo;
  readonly #server: Server;
  readonly #stop = new AbortController();
  /** Null when `run` ended well, else its error. */
  readonly ended: Promise<unknown>;

  private constructor(parts: {
    readonly driver: RaftDriver;
    readonly machine: ListMachine;
    readonly transport: GrpcRaftTransport;
    readonly self: PeerInfo;
    readonly server: Server;
  }) {
    this.driver = parts.driver;
    this.machine = parts.machine;
    this.transport = parts.transport;
    this.self = parts.self;
    this.#server = parts.server;
    this.ended = this.driver.run(this.#stop.signal).then(
      () => null,
      (error: unknown) => error,
    );
  }

  static async start(options: GrpcNodeOptions): Promise<GrpcNode> {
    const { raftId, dir, log = silentLogger } = options;
    const addr = options.addr ?? `127.0.0.1:${await freePort()}`;
    const self: PeerInfo = { raftId, nodeId: `node-${raftId}`, addr: options.advertise ?? addr };
    const rng = new SeededRng(raftId);
    const common = { clock: realClock, rng, log };
    const transport = new GrpcRaftTransport(
      { clusterId: GRPC_CLUSTER_ID, self },
      { ...common, dial: dialPlainly, nodeIdOf: null },
    );
    const machine = new ListMachine();
    const storage = new LevelRaftStorage(
      { dir, keepOldSnapshots: 0 },
      { sealer: new AesGcmSealer({ dek: Buffer.alloc(32, raftId) }), clock: realClock },
    );
    const driver = await RaftDriver.open(
      { ...DRIVER_DEFAULTS, ...options, clusterId: GRPC_CLUSTER_ID, self },
      {
        ...common,
        storage,
        transport,
        stateMachine: options.stateMachine ?? machine,
        createCore: (config, deps) => new RaftCore(config, deps),
        nextTurn,
      },
    );
    const server = await serve(addr, transport);
    return new GrpcNode({ driver, machine, transport, self, server });
  }

  get leads(): boolean {
    return this.driver.status().role === "leader";
  }

  /** A clean shutdown. */
  async stop(): Promise<unknown> {
    this.#stop.abort();
    const error = await this.ended;
    this.#server.forceShutdown();
    return error;
  }

  /** As when the process dies: its connections close and it hands nothing over. */
  async kill(): Promise<void> {
    this.#server.forceShutdown();
    await this.transport.close();
    this.#stop.abort();
    await this.ended;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}

async function serve(addr: string, transport: GrpcRaftTransport): Promise<Server> {
  const server = new Server();
  server.addService(
    RaftService,
    raftServiceHandlers(() => transport),
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(addr, ServerCredentials.createInsecure(), error => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  return server;
}

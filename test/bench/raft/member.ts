/**
 * One member of `npm run bench -- raft`, in a process of its own: the daemon's Raft, storage, TLS
 * transport and flags, over a map of keys instead of the cluster's state.
 */
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import { errorMessage, isSwarmError } from "../../../src/base/errors.ts";
import { silentLogger } from "../../../src/base/logger.ts";
import { RaftCore } from "../../../src/raft/core/raft-core.ts";
import { nextTurn } from "../../../src/raft/driver/turns.ts";
import { DRIVER_DEFAULTS, RaftDriver } from "../../../src/raft/driver.ts";
import { LevelRaftStorage } from "../../../src/raft/storage/level-storage.ts";
import { AesGcmSealer, DEK_BYTES } from "../../../src/raft/storage/sealer.ts";
import {
  GrpcRaftTransport,
  raftServiceHandlers,
} from "../../../src/raft/transport/grpc-transport.ts";
import { RpcClients } from "../../../src/rpc/clients.ts";
import { RaftClient, RaftService } from "../../../src/rpc/gen/swarmd/v1/raft.ts";
import { peerOf, RpcServer } from "../../../src/rpc/server.ts";
import { KernelRng, realClock } from "../../../src/system/real.ts";
import { TestIdentitySource } from "../../support/test-ca.ts";
import { drive, keyOf } from "./drive.ts";
import { serveCalls } from "./h2-server.ts";
import { KvMachine } from "./kv-machine.ts";
import { decodePut, encodeFound, encodePut, type Found, KV_SERVICE, type Put } from "./kv-wire.ts";
import { type MemberOrder, type MemberReport, obeyParent } from "./orders.ts";

const RAFT_KEEPALIVE = {
  keepaliveMs: 1_000,
  keepaliveTimeoutMs: 2_000,
  connectTimeoutMs: 1_000,
  handshakeTimeoutMs: 1_000,
};
const RAFT_ACCESS = { stream: "manager", installSnapshot: "manager", probe: "manager" } as const;
const never = new AbortController().signal;

interface Running {
  readonly driver: RaftDriver;
  readonly machine: KvMachine;
}

let running: Running | null = null;

async function start(order: Extract<MemberOrder, { do: "start" }>): Promise<void> {
  const { self, dir, identity, knownPeers } = order;
  const common = { clock: realClock, rng: new KernelRng(), log: silentLogger };
  const source = new TestIdentitySource(identity);
  const deps = { identity: source, clock: realClock, logger: silentLogger };
  const clients = new RpcClients({ limits: RAFT_KEEPALIVE }, deps);
  const { clusterId } = identity;
  const transport = new GrpcRaftTransport(
    { clusterId, self },
    {
      ...common,
      dial: peer => clients.ownClient(RaftClient, peer.addr, { nodeId: peer.nodeId }),
      nodeIdOf: call => peerOf(call)?.nodeId ?? "",
    },
  );
  const machine = new KvMachine();
  const sealer = new AesGcmSealer({ dek: Buffer.alloc(DEK_BYTES, self.raftId) });
  const driver = await RaftDriver.open(
    { ...DRIVER_DEFAULTS, clusterId, self, start: order.start, knownPeers },
    {
      ...common,
      storage: new LevelRaftStorage({ dir, keepOldSnapshots: 0 }, { sealer, clock: realClock }),
      transport,
      stateMachine: machine,
      createCore: (config, coreDeps) => new RaftCore(config, coreDeps),
      nextTurn,
    },
  );
  const server = new RpcServer({ listenAddr: self.addr }, { ...deps, isRemoved: () => false });
  server.addNativeService(
    RaftService,
    raftServiceHandlers(() => transport),
    RAFT_ACCESS,
  );
  await server.start();
  void driver.run(never).catch((error: unknown) => {
    console.error(`member ${self.raftId}: ${errorMessage(error)}`);
    process.exit(1);
  });
  running = { driver, machine };
  await serveClients(order.clientAddr, running);
  await serveLoad(order.loadPort, running);
}

function toStatus(error: unknown): { readonly code: status; readonly details: string } {
  const notLeader = isSwarmError(error, "not_leader");
  const code = notLeader ? status.FAILED_PRECONDITION : status.UNAVAILABLE;
  return { code, details: errorMessage(error) };
}

async function serveClients(addr: string, { driver, machine }: Running): Promise<void> {
  const server = new Server({ "grpc.max_concurrent_streams": 4_096 });
  server.addService(KV_SERVICE, {
    put: (
      call: { readonly request: Put },
      answer: (error: object | null, value?: true) => void,
    ): void => {
      driver.propose(encodePut(call.request), never).then(
        () => answer(null, true),
        (error: unknown) => answer(toStatus(error)),
      );
    },
    range: (
      call: { readonly request: string },
      answer: (error: object | null, value?: Found) => void,
    ): void => {
      driver.readBarrier(never).then(
        () => answer(null, { value: machine.get(call.request) }),
        (error: unknown) => answer(toStatus(error)),
      );
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(addr, ServerCredentials.createInsecure(), error => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

/** The same two calls on a bare endpoint: the load is not to measure grpc-js. */
async function serveLoad(port: number, { driver, machine }: Running): Promise<void> {
  const none = Buffer.alloc(0);
  const put = async (message: Buffer): Promise<Uint8Array> => {
    await driver.propose(message, never);
    return none;
  };
  const range = async (message: Buffer): Promise<Uint8Array> => {
    await driver.readBarrier(never);
    return encodeFound({ value: machine.get(decodePut(message).key) });
  };
  await serveCalls(
    port,
    new Map([
      [KV_SERVICE.put.path, put],
      [KV_SERVICE.range.path, range],
    ]),
  );
}

function report({ driver }: Running): MemberReport {
  const { role, leaderId, term, conf, lastIndex } = driver.status();
  const { appliedIndex, storage, snapshotsTaken } = driver.stats();
  return {
    leads: role === "leader",
    leaderId,
    term,
    voters: conf.voters,
    lastIndex,
    appliedIndex,
    syncs: storage.appends,
    snapshots: snapshotsTaken,
    rssMb: Math.round(process.memoryUsage().rss / 2 ** 20),
  };
}

obeyParent<MemberOrder>(async order => {
  if (order.do === "start") return start(order);
  if (running === null) throw new Error("start first");
  const { driver } = running;
  if (order.do === "report") return report(running);
  if (order.do === "add") return driver.addMember(order.peer, never);
  const value = Buffer.alloc(order.valueBytes, "v");
  return drive(order, n =>
    order.what === "write"
      ? driver.propose(encodePut({ key: keyOf(n), value }), never)
      : driver.readBarrier(never),
  );
});

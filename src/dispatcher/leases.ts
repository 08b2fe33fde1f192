import { type Clock, sleep } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Change } from "../model/change.ts";
import type { AskedAddress, NetworkAttachment, Task, TaskStatus } from "../model/rows.ts";
import type { StateStore } from "../state/ports.ts";

/** The allocator answers with its next plan. */
const ALLOCATION_TIMEOUT_MS = 5_000;
const POLL_MS = 20;

export interface Lease {
  readonly taskId: string;
  /** CIDR. */
  readonly address: string;
}

export interface LeasesDeps {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly ids: IdSource;
}

/**
 * Addresses of plain containers on attachable networks. Each is held by a row of a task without a
 * service on the container's node, so it is in the tables of every node that has the network.
 */
export class Leases {
  readonly #deps: LeasesDeps;

  constructor(deps: LeasesDeps) {
    this.#deps = deps;
  }

  /**
   * Throws not_found, permission_denied (not attachable), or resource_exhausted: none is free, or
   * the one asked for is somebody's.
   */
  async take(
    nodeId: string,
    networkId: string,
    asked: AskedAddress,
    signal: AbortSignal,
  ): Promise<Lease> {
    const { store, clock, ids } = this.#deps;
    const network = store.view.table("networks").get(networkId);
    if (network === undefined) throw new SwarmError("not_found", `network ${networkId} not found`);
    const name = network.spec.Name;
    if (network.spec["Attachable"] !== true) {
      throw new SwarmError("permission_denied", `network ${name} not manually attachable`);
    }
    const taskId = ids.newId();
    const row = attachmentRow(taskId, nodeId, { networkId, asked }, clock.nowMs());
    await store.submit([{ op: "create", table: "tasks", row }], signal);
    try {
      return { taskId, address: await this.#allocated(taskId, name, signal) };
    } catch (error) {
      // Also when who asked is gone: nobody else would ever give it back.
      await this.release(nodeId, taskId, new AbortController().signal);
      throw error;
    }
  }

  async #allocated(taskId: string, name: string, signal: AbortSignal): Promise<string> {
    const { store, clock } = this.#deps;
    const untilMs = clock.monoMs() + ALLOCATION_TIMEOUT_MS;
    let why = "";
    while (why === "" && clock.monoMs() < untilMs) {
      const row = store.view.table("tasks").get(taskId);
      const address = row?.networks[0]?.addresses[0];
      if (address !== undefined) return address;
      why = row?.status.err ?? "";
      if (why === "") await sleep(clock, POLL_MS, signal);
    }
    const text = why || `no address came for network ${name} in time`;
    throw new SwarmError("resource_exhausted", text);
  }

  /** Only a node's own; what has gone already is no error. */
  async release(nodeId: string, taskId: string, signal: AbortSignal): Promise<void> {
    const task = this.#deps.store.view.table("tasks").get(taskId);
    if (task === undefined) return;
    if (task.nodeId !== nodeId || task.serviceId !== "") {
      throw new SwarmError("permission_denied", `${taskId} holds no address of this node`);
    }
    const change: Change = { op: "delete", table: "tasks", id: taskId };
    await this.#deps.store.submit([change], signal);
  }
}

function attachmentRow(
  id: string,
  nodeId: string,
  attachment: Pick<NetworkAttachment, "networkId" | "asked">,
  nowMs: number,
): Omit<Task, "version" | "createdAtMs" | "updatedAtMs"> {
  const status: TaskStatus = {
    state: "running",
    timestampMs: nowMs,
    message: "attached",
    err: "",
    containerId: "",
    pid: 0,
    exitCode: 0,
    ports: [],
  };
  return {
    id,
    serviceId: "",
    serviceName: "",
    specVersion: 0,
    slot: 0,
    nodeId,
    desiredState: "running",
    status,
    runningSinceMs: 0,
    endedAtMs: 0,
    startAfterMs: 0,
    jobIteration: 0,
    assignedGeneric: [],
    networks: [{ ...attachment, addresses: [], aliases: [] }],
  };
}

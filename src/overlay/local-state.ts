import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { addressesOf } from "../model/overlay.ts";
import type { TableSnapshot } from "./core/table.ts";
import { StateFile } from "./state-file.ts";

/** A network as this node's Engine knows it. The Engine says so once, when it makes it. */
export interface EngineNetwork {
  /** The Engine's own id. */
  readonly id: string;
  /** The cluster's. */
  readonly networkId: string;
  readonly internal: boolean;
  readonly ingress: boolean;
}

/** A container's place on a network of this node. */
export interface LocalEndpoint {
  /** The Engine's id of it. */
  readonly id: string;
  readonly networkId: string;
  readonly addr: string;
  readonly addr6?: string;
  readonly mac: string;
  readonly device: string;
  /** Path of the container's network namespace; empty: it has not joined, or has left. */
  readonly sandbox: string;
}

interface Stored {
  readonly version: 1;
  readonly networks: readonly EngineNetwork[];
  readonly endpoints: readonly LocalEndpoint[];
  /** By network/address: whom to ask for names that are not the cluster's. */
  readonly nameservers: readonly (readonly [string, readonly string[]])[];
  /** By network/address: the row that holds the address of a plain container. */
  readonly leases?: readonly (readonly [string, string])[];
  /** Places on the ingress network of containers with ports of the host too; UDP ports answered. */
  readonly bridged?: readonly (readonly [string, readonly number[]])[];
}

/** What this node must know of its own overlay networks after a restart, on disk. */
export class LocalState {
  readonly #file: StateFile<Stored>;
  readonly #tables: StateFile<TableSnapshot>;
  readonly networks = new Map<string, EngineNetwork>();
  readonly endpoints = new Map<string, LocalEndpoint>();
  readonly nameservers = new Map<string, readonly string[]>();
  readonly leases = new Map<string, string>();
  readonly bridged = new Map<string, readonly number[]>();

  private constructor(dir: string) {
    this.#file = new StateFile(join(dir, "local.json"));
    this.#tables = new StateFile(join(dir, "tables.json"));
  }

  /** Throws data_loss when what is there cannot be read. */
  static async open(dir: string): Promise<LocalState> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const state = new LocalState(dir);
    const stored = await state.#file.load();
    for (const network of stored?.networks ?? []) state.networks.set(network.id, network);
    for (const endpoint of stored?.endpoints ?? []) state.endpoints.set(endpoint.id, endpoint);
    for (const [key, list] of stored?.nameservers ?? []) state.nameservers.set(key, list);
    for (const [key, ports] of stored?.bridged ?? []) state.bridged.set(key, ports);
    for (const [key, taskId] of stored?.leases ?? []) state.leases.set(key, taskId);
    return state;
  }

  /** The tables as last told; null when there are none that can be used. */
  async loadTables(): Promise<TableSnapshot | null> {
    // Managers send them again: damage costs no more than the wait for that.
    return this.#tables.load().catch(() => null);
  }

  saveTables(snapshot: () => TableSnapshot): Promise<void> {
    return this.#tables.save(snapshot);
  }

  save(): Promise<void> {
    return this.#file.save(() => ({
      version: 1,
      networks: [...this.networks.values()],
      endpoints: [...this.endpoints.values()],
      nameservers: [...this.nameservers],
      leases: [...this.leases],
      bridged: [...this.bridged],
    }));
  }

  /** Addresses that have joined, by network. */
  joined(): ReadonlyMap<string, ReadonlySet<string>> {
    const joined = new Map<string, Set<string>>();
    for (const endpoint of this.endpoints.values()) {
      if (endpoint.sandbox === "") continue;
      const { networkId } = endpoint;
      const addrs = joined.get(networkId) ?? new Set();
      for (const addr of addressesOf(endpoint)) addrs.add(addr);
      joined.set(networkId, addrs);
    }
    return joined;
  }

  /** Networks that some container is on, or about to join. */
  used(): ReadonlySet<string> {
    return new Set([...this.endpoints.values()].map(({ networkId }) => networkId));
  }

  usesNetwork(networkId: string): boolean {
    return this.used().has(networkId);
  }
}

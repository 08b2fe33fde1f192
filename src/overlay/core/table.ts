import type {
  OverlayChange,
  OverlayEndpoint,
  OverlayHost,
  OverlayKind,
  OverlayMesh,
  OverlayNetwork,
  OverlayService,
} from "../../model/overlay.ts";

/** What a node has been told of one network. */
export interface NetworkTable {
  readonly network: OverlayNetwork;
  readonly services: ReadonlyMap<string, OverlayService>;
  readonly endpoints: ReadonlyMap<string, OverlayEndpoint>;
}

interface Rows {
  network: OverlayNetwork;
  readonly services: Map<string, OverlayService>;
  readonly endpoints: Map<string, OverlayEndpoint>;
}

/** All rows of a table, for the disk. */
export interface TableSnapshot {
  readonly hosts: readonly OverlayHost[];
  /** Absent: it was not told, or the file is of before. */
  readonly mesh?: OverlayMesh;
  readonly networks: readonly OverlayNetwork[];
  readonly services: readonly OverlayService[];
  readonly endpoints: readonly OverlayEndpoint[];
}

/** The overlay tables of a node: the sum of all changes it was told. */
export class OverlayTable {
  readonly #hosts = new Map<string, OverlayHost>();
  readonly #networks = new Map<string, Rows>();
  /** Null while this node was told of no encrypted network. */
  mesh: OverlayMesh | null = null;

  get hosts(): ReadonlyMap<string, OverlayHost> {
    return this.#hosts;
  }

  networkIds(): string[] {
    return [...this.#networks.keys()];
  }

  network(id: string): NetworkTable | undefined {
    return this.#networks.get(id);
  }

  get hasEncrypted(): boolean {
    return [...this.#networks.values()].some(({ network }) => network.encrypted);
  }

  /**
   * Takes in changes in their order; `complete` ones replace everything. Returns the networks that
   * are not as they were: all of them when a host changed.
   */
  apply(changes: readonly OverlayChange[], complete: boolean): ReadonlySet<string> {
    const before = new Set(this.#networks.keys());
    const touched = new Set<string>(complete ? before : []);
    if (complete) this.#clear();
    for (const change of changes) {
      if (change.kind === "host" || change.kind === "mesh")
        for (const id of before) touched.add(id);
      const networkId = this.#applyOne(change);
      if (networkId !== null) touched.add(networkId);
    }
    return touched;
  }

  snapshot(): TableSnapshot {
    const rows = [...this.#networks.values()];
    return {
      hosts: [...this.#hosts.values()],
      ...(this.mesh !== null && { mesh: this.mesh }),
      networks: rows.map(({ network }) => network),
      services: rows.flatMap(({ services }) => [...services.values()]),
      endpoints: rows.flatMap(({ endpoints }) => [...endpoints.values()]),
    };
  }

  restore({ hosts, mesh, networks, services, endpoints }: TableSnapshot): void {
    this.#clear();
    this.mesh = mesh ?? null;
    for (const host of hosts) this.#hosts.set(host.id, host);
    for (const network of networks) this.#networks.set(network.id, newRows(network));
    for (const item of services) this.#networks.get(item.networkId)?.services.set(item.id, item);
    for (const item of endpoints) this.#networks.get(item.networkId)?.endpoints.set(item.id, item);
  }

  #clear(): void {
    this.mesh = null;
    this.#hosts.clear();
    this.#networks.clear();
  }

  /** The network that the change is of; null when it is of none that is known. */
  #applyOne(change: OverlayChange): string | null {
    if (change.action === "remove") return this.#remove(change.kind, change.id);
    switch (change.kind) {
      case "host":
        this.#hosts.set(change.item.id, change.item);
        return null;
      case "mesh":
        this.mesh = change.item;
        return null;
      case "network": {
        const rows = this.#networks.get(change.item.id);
        if (rows === undefined) this.#networks.set(change.item.id, newRows(change.item));
        else rows.network = change.item;
        return change.item.id;
      }
      case "service":
        this.#networks.get(change.item.networkId)?.services.set(change.item.id, change.item);
        return change.item.networkId;
      case "endpoint":
        this.#networks.get(change.item.networkId)?.endpoints.set(change.item.id, change.item);
        return change.item.networkId;
    }
  }

  #remove(kind: OverlayKind, id: string): string | null {
    if (kind === "host") {
      this.#hosts.delete(id);
      return null;
    }
    if (kind === "mesh") {
      this.mesh = null;
      return null;
    }
    if (kind === "network") return this.#networks.delete(id) ? id : null;
    const networkId = id.split("/")[0] ?? "";
    const rows = this.#networks.get(networkId);
    if (rows === undefined) return null;
    (kind === "service" ? rows.services : rows.endpoints).delete(id);
    return networkId;
  }
}

function newRows(network: OverlayNetwork): Rows {
  return { network, services: new Map(), endpoints: new Map() };
}

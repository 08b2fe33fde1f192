import type { Commit, RowEvent } from "../../model/change.ts";
import { summarize, type TableSummary } from "../../model/data-path.ts";
import { meshOf } from "../../model/mesh.ts";
import {
  addressesOf,
  byFamily,
  MESH_ID,
  MTU_OPTION,
  type OverlayChange,
  type OverlayEndpoint,
  type OverlayHost,
  type OverlayMesh,
  type OverlayNetwork,
  type OverlayPort,
  type OverlayService,
  overlayItemId,
  parseMtu,
} from "../../model/overlay.ts";
import { publishAddresses } from "../../model/publish-address.ts";
import type { Network, Node, Service, Task } from "../../model/rows.ts";
import type { Labels, PortConfig, ServiceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted, UNHEALTHY_TEXT } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";

const ENCRYPTED_OPTION = "encrypted";

/** Services and endpoints of one network, by item id. */
type Items = Map<string, OverlayService | OverlayEndpoint>;

/** What one commit changed in the overlay tables. */
export interface NetworkNews {
  /** For every node. */
  readonly hosts: readonly OverlayChange[];
  /** By network, for the nodes that have it. */
  readonly changes: ReadonlyMap<string, readonly OverlayChange[]>;
  /** The keys of the encrypted mesh are others: each node is told what it needs of them. */
  readonly mesh: boolean;
}

/**
 * The overlay tables of the whole cluster, kept by the leader next to the state: what each node
 * has to know is a choice of networks out of it. Fed with every commit, so that a change costs
 * what it touches, not the size of the cluster.
 */
export class NetworkTables {
  readonly #hosts = new Map<string, OverlayHost>();
  readonly #networks = new Map<string, OverlayNetwork>();
  readonly #items = new Map<string, Items>();
  #ingressId = "";

  /** Reads everything anew. */
  reset(view: StateView): void {
    this.#hosts.clear();
    this.#networks.clear();
    this.#items.clear();
    this.#ingressId = "";
    for (const network of view.table("networks").all()) this.#putNetwork(view, network);
    for (const node of view.table("nodes").all()) {
      const host = hostOf(node);
      if (host !== null) this.#hosts.set(host.id, host);
    }
    for (const service of view.table("services").all()) {
      for (const item of this.#serviceItems(service)) this.#itemsOf(item).set(item.id, item);
    }
    for (const task of view.table("tasks").all()) {
      for (const item of endpointsOf(task)) this.#itemsOf(item).set(item.id, item);
    }
  }

  /** Empty while the cluster has none. */
  get ingressId(): string {
    return this.#ingressId;
  }

  has(networkId: string): boolean {
    return this.#networks.has(networkId);
  }

  /** The mesh's keys, for a node that has one of these networks; null when none is encrypted. */
  meshFor(view: StateView, networkIds: Iterable<string>): OverlayMesh | null {
    const needsIt = [...networkIds].some(id => this.#networks.get(id)?.encrypted === true);
    const [cluster] = view.table("cluster").all();
    if (!needsIt || cluster === undefined) return null;
    const { generation, psk, previousPsk, settled } = meshOf(cluster);
    return { id: MESH_ID, generation, psk, previousPsk, settled };
  }

  hosts(): OverlayChange[] {
    return [...this.#hosts.values()].map(item => ({ action: "update", kind: "host", item }));
  }

  /** All there is to know of a network; nothing when there is no such network. */
  everythingOf(networkId: string): OverlayChange[] {
    const item = this.#networks.get(networkId);
    if (item === undefined) return [];
    const items = [...(this.#items.get(networkId)?.values() ?? [])];
    return [{ action: "update", kind: "network", item }, ...items.map(update)];
  }

  /** Of what `everythingOf` tells; null when there is no such network. */
  summaryOf(networkId: string): TableSummary | null {
    if (!this.#networks.has(networkId)) return null;
    const services: OverlayService[] = [];
    const endpoints: OverlayEndpoint[] = [];
    for (const item of this.#items.get(networkId)?.values() ?? []) {
      if ("taskId" in item) endpoints.push(item);
      else services.push(item);
    }
    return summarize(services, endpoints);
  }

  /** Takes in a commit; `view` is the state after it. */
  observe(commit: Commit, view: StateView): NetworkNews {
    const hosts: OverlayChange[] = [];
    const changes = new Map<string, OverlayChange[]>();
    let mesh = false;
    for (const event of commit.events) {
      if (event.table === "cluster") mesh ||= event.before?.mesh !== event.after?.mesh;
      if (event.table === "nodes") hosts.push(...this.#observeNode(event.id, event.after));
      // That a network is gone is news without a change of its own.
      else if (event.table === "networks" && event.after === null) changes.set(event.id, []);
      for (const [id, change] of this.#observe(event, view)) push(changes, id, change);
    }
    return { hosts, changes, mesh };
  }

  *#observe(event: RowEvent, view: StateView): Generator<readonly [string, OverlayChange]> {
    if (event.table === "networks") yield* this.#observeNetwork(event.id, event.after, view);
    else if (event.table === "tasks") {
      const before = event.before === null ? [] : endpointsOf(event.before);
      yield* this.#replace(before, event.after === null ? [] : endpointsOf(event.after));
    } else if (event.table === "services") {
      const before = event.before === null ? [] : this.#serviceItems(event.before);
      yield* this.#replace(before, event.after === null ? [] : this.#serviceItems(event.after));
    }
  }

  #observeNode(id: string, after: Node | null): OverlayChange[] {
    const host = after === null ? null : hostOf(after);
    const known = this.#hosts.get(id);
    if (host === null) {
      return this.#hosts.delete(id) ? [{ action: "remove", kind: "host", id }] : [];
    }
    if (known !== undefined && same(known, host)) return [];
    this.#hosts.set(id, host);
    return [{ action: "update", kind: "host", item: host }];
  }

  *#observeNetwork(
    id: string,
    after: Network | null,
    view: StateView,
  ): Generator<readonly [string, OverlayChange]> {
    if (after === null) {
      this.#networks.delete(id);
      this.#items.delete(id);
      if (this.#ingressId === id) this.#ingressId = "";
      return;
    }
    const item = this.#putNetwork(view, after);
    yield [id, { action: "update", kind: "network", item }];
  }

  #putNetwork(view: StateView, network: Network): OverlayNetwork {
    const item = networkOf(view, network);
    this.#networks.set(item.id, item);
    if (item.ingress) this.#ingressId = item.id;
    return item;
  }

  *#replace(
    before: readonly (OverlayService | OverlayEndpoint)[],
    after: readonly (OverlayService | OverlayEndpoint)[],
  ): Generator<readonly [string, OverlayChange]> {
    const kept = new Set(after.map(item => item.id));
    for (const item of before) {
      if (kept.has(item.id)) continue;
      this.#items.get(item.networkId)?.delete(item.id);
      yield [item.networkId, { action: "remove", kind: kindOf(item), id: item.id }];
    }
    for (const item of after) {
      const known = this.#itemsOf(item).get(item.id);
      if (known !== undefined && same(known, item)) continue;
      this.#itemsOf(item).set(item.id, item);
      yield [item.networkId, update(item)];
    }
  }

  #itemsOf({ networkId }: { readonly networkId: string }): Items {
    let items = this.#items.get(networkId);
    if (items === undefined) {
      items = new Map();
      this.#items.set(networkId, items);
    }
    return items;
  }

  /**
   * One for each network the service is on; none once its removal was asked for. While a newer spec
   * waits for the allocator, what the service has had goes on.
   */
  #serviceItems(service: Service): OverlayService[] {
    if (service.pendingDelete) return [];
    const { spec, endpoint } = service;
    const ports = endpoint.ports.flatMap(port => publishedPort(port, spec.Labels));
    const targets = networksOf(spec).map(({ Target = "", Aliases = [] }) => ({
      networkId: Target,
      aliases: Aliases,
    }));
    const ingress = this.#ingressId;
    if (ports.length > 0 && ingress !== "") targets.push({ networkId: ingress, aliases: [] });
    const vipMode = spec.EndpointSpec?.Mode !== "dnsrr";
    return targets.flatMap(({ networkId, aliases }) => {
      const own = endpoint.virtualIps.filter(vip => vip.networkId === networkId);
      const { addr: vip, addr6: vip6 } = byFamily(own.map(({ addr }) => addr));
      if (vip === "" && vipMode && networkId !== ingress) return [];
      return {
        id: overlayItemId(networkId, service.id),
        networkId,
        serviceId: service.id,
        name: spec.Name ?? "",
        aliases,
        vip,
        ...(vip6 !== undefined && { vip6 }),
        ports: networkId === ingress ? ports : [],
      };
    });
  }
}

function push(changes: Map<string, OverlayChange[]>, id: string, change: OverlayChange): void {
  const list = changes.get(id);
  if (list === undefined) changes.set(id, [change]);
  else list.push(change);
}

function kindOf(item: OverlayService | OverlayEndpoint): "service" | "endpoint" {
  return "taskId" in item ? "endpoint" : "service";
}

function update(item: OverlayService | OverlayEndpoint): OverlayChange {
  return "taskId" in item
    ? { action: "update", kind: "endpoint", item }
    : { action: "update", kind: "service", item };
}

/** Items are plain JSON, made field by field in one order. */
function same(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function hostOf(node: Node): OverlayHost | null {
  const overlay = node.description?.overlay;
  if (node.overlayIndex === undefined || overlay === undefined || overlay.addr === "") return null;
  const { addr, publicKey, ipv6, meshKeys } = overlay;
  return {
    ...{ id: node.id, index: node.overlayIndex, addr, publicKey },
    ...(ipv6 === true && { ipv6 }),
    ...(meshKeys !== undefined && { meshKeys }),
  };
}

function networkOf(view: StateView, network: Network): OverlayNetwork {
  const { spec } = network;
  const [cluster] = view.table("cluster").all();
  const given = spec["Options"];
  const options = typeof given === "object" && given !== null ? given : {};
  const encrypted = ENCRYPTED_OPTION in options;
  const mtu = MTU_OPTION in options ? parseMtu(String(options[MTU_OPTION])) : null;
  return {
    id: network.id,
    name: spec.Name,
    vni: network.vni,
    subnets: network.subnets,
    internal: spec["Internal"] === true,
    attachable: spec["Attachable"] === true,
    ingress: spec["Ingress"] === true,
    encrypted,
    dataPathPort: cluster?.dataPathPort ?? 0,
    ...(mtu !== null && { mtu }),
  };
}

function networksOf(spec: ServiceSpec): NonNullable<ServiceSpec["Networks"]> {
  const own = spec.TaskTemplate?.Networks ?? [];
  return own.length > 0 ? own : (spec.Networks ?? []);
}

function publishedPort(port: PortConfig, labels: Labels | undefined): OverlayPort[] {
  const published = port.PublishedPort ?? 0;
  if (port.PublishMode === "host" || published === 0) return [];
  const at = publishAddresses(labels, published);
  const found = { protocol: port.Protocol ?? "tcp", published, target: port.TargetPort ?? 0 };
  return [at.length === 0 ? found : { ...found, at }];
}

/** The networks that a task keeps its node busy with; none before it is placed or once it ended. */
export function liveNetworksOf(task: Task): readonly string[] {
  if (task.nodeId === "" || isTerminal(task.status.state)) return [];
  if (compareTaskStates(task.status.state, "assigned") < 0) return [];
  return task.networks.map(({ networkId }) => networkId);
}

/** New connections may go to the task. */
export function isServing(task: Task): boolean {
  const { state, err } = task.status;
  return state === "running" && err !== UNHEALTHY_TEXT && isWanted(task.desiredState);
}

function endpointsOf(task: Task): OverlayEndpoint[] {
  if (liveNetworksOf(task).length === 0) return [];
  const slot = task.slot > 0 ? String(task.slot) : task.nodeId;
  const name = task.serviceId === "" ? task.serviceName : `${task.serviceName}.${slot}.${task.id}`;
  return task.networks.flatMap(({ networkId, addresses, mac }) => {
    const own = byFamily(addresses);
    if (addressesOf(own).length === 0) return [];
    return {
      id: overlayItemId(networkId, task.id),
      networkId,
      taskId: task.id,
      serviceId: task.serviceId,
      name,
      nodeId: task.nodeId,
      ...own,
      ...(mac !== undefined && { mac }),
      serving: isServing(task),
    };
  });
}

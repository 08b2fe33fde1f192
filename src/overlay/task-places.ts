import { withSignal } from "../base/async.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { AssignedTask } from "../model/assignment.ts";
import { familyOf, type IpFamily } from "../model/ip.ts";
import {
  addressesOf,
  byFamily,
  type OverlayEndpoint,
  type OverlayNetwork,
  type OverlaySubnet,
  withoutPrefix,
} from "../model/overlay.ts";
import type { NetworkAttachment } from "../model/rows.ts";
import type { PortConfig, ServiceSpec } from "../model/service-spec.ts";
import type { PreparedNetworks } from "../worker/networks.ts";
import type { OverlayTable } from "./core/table.ts";
import type { EngineSide } from "./engine-side.ts";
import type { Flows } from "./flows.ts";
import type { LocalLeases } from "./leases.ts";
import type { LocalState } from "./local-state.ts";
import type { Mesh } from "./mesh.ts";
import type { MeshKeeper } from "./mesh-keeper.ts";
import { placeKey } from "./naming.ts";
import type { NetworkPrograms } from "./network-programs.ts";
import type { Sandboxes } from "./sandboxes.ts";

/** How long a network may take to come here for a plain container. */
const ATTACH_TIMEOUT_MS = 5_000;
const ATTACH_POLL_MS = 20;
/** How long a network may fail to come about before its task does. */
const READY_TIMEOUT_MS = 10_000;
/** How long a task that is to be stopped keeps its open connections. */
const QUIESCE_TIMEOUT_MS = 3_000;
const QUIESCE_POLL_MS = 100;

export interface TaskPlacesDeps {
  readonly table: OverlayTable;
  readonly state: LocalState;
  readonly flows: Flows;
  readonly sandboxes: Sandboxes;
  readonly programs: NetworkPrograms;
  readonly mesh: Mesh;
  readonly meshKeeper: MeshKeeper;
  readonly leases: LocalLeases;
  readonly engine: EngineSide;
  /** Whether this host has IPv6. */
  readonly ipv6: () => boolean;
  /** Why there are no overlay networks here; empty: there are. */
  readonly problem: () => string;
  /** Why no SCTP port can be published here; empty: it can. */
  readonly sctp: () => string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The places of this node's containers on overlay networks. */
export class TaskPlaces {
  readonly #nodeId: string;
  readonly #deps: TaskPlacesDeps;

  constructor(options: { readonly nodeId: string }, deps: TaskPlacesDeps) {
    this.#nodeId = options.nodeId;
    this.#deps = deps;
  }

  /** Brings an attachable network to this node's Engine, for a container that is no task. */
  async attach(networkId: string, signal: AbortSignal): Promise<{ readonly gateway: string }> {
    this.#refuseWithout();
    const known = (): boolean => this.#deps.table.network(networkId) !== undefined;
    if (!known()) await this.#deps.leases.reserve(networkId);
    const untilMs = this.#deps.clock.monoMs() + ATTACH_TIMEOUT_MS;
    while (!known() && this.#deps.clock.monoMs() < untilMs) {
      await sleep(this.#deps.clock, ATTACH_POLL_MS, signal);
    }
    const network = await this.#ready(networkId, signal);
    await withSignal(this.#deps.engine.ensure(network, signal), signal);
    return { gateway: gatewayOf(network, "ipv4") };
  }

  /** Whether managers gave the address to a task of this node that belongs to a service. */
  isTasks(networkId: string, addr: string): boolean {
    const serviceId = this.#endpointAt(networkId, addr)?.serviceId ?? "";
    return serviceId !== "";
  }

  /** The MAC address that the task with that address is to have; empty: any. */
  macOf(networkId: string, addr: string): string {
    return this.#endpointAt(networkId, addr)?.mac ?? "";
  }

  #endpointAt(networkId: string, addr: string): OverlayEndpoint | undefined {
    const endpoints = this.#deps.table.network(networkId)?.endpoints.values() ?? [];
    return [...endpoints].find(
      one => one.nodeId === this.#nodeId && addressesOf(one).includes(addr),
    );
  }

  async prepare({ task, spec }: AssignedTask, signal: AbortSignal): Promise<PreparedNetworks> {
    this.#refuseWithout();
    this.#refuseSctp(spec.EndpointSpec?.Ports ?? []);
    // The ingress network last: the others' names and devices come first.
    const ordered = [...task.networks].sort(
      (a, b) => Number(this.#isIngress(a.networkId)) - Number(this.#isIngress(b.networkId)),
    );
    const own = spec.TaskTemplate?.ContainerSpec?.DNSConfig?.Nameservers ?? [];
    const endpoints: PreparedNetworks["endpoints"][number][] = [];
    let nameserver = "";
    for (const attachment of ordered) {
      const network = await this.#ready(attachment.networkId, signal);
      const networkId = await withSignal(this.#deps.engine.ensure(network, signal), signal);
      const { addr, addr6 } = byFamily(attachment.addresses);
      // Aliases are answered by this cluster's own name server, for all tasks of the service.
      const own6 = this.#deps.ipv6() && addr6 !== undefined ? { IPv6Address: addr6 } : {};
      const options = driverOptions(spec, attachment.networkId);
      const endpoint = { IPAMConfig: { IPv4Address: addr, ...own6 }, ...options };
      endpoints.push({ networkId, endpoint });
      if (!network.ingress) nameserver ||= gatewayOf(network, "ipv4");
    }
    await this.#keepNameservers(ordered, own);
    await this.#keepBridged(ordered, spec.EndpointSpec?.Ports ?? []);
    return { endpoints, nameservers: nameserver === "" ? own : [nameserver] };
  }

  async started({ task }: AssignedTask): Promise<void> {
    for (const { networkId, addresses } of task.networks) {
      const addr = withoutPrefix(addresses[0] ?? "");
      const udpPorts = this.#deps.state.bridged.get(placeKey(networkId, addr));
      const all = [...this.#deps.state.endpoints.values()];
      const place = all.find(one => one.networkId === networkId && one.addr === addr);
      if (udpPorts === undefined || place === undefined) continue;
      const network = this.#deps.table.network(networkId)?.network;
      if (network === undefined) continue;
      await this.#deps.sandboxes.answerBy(place.sandbox, {
        addr,
        gateway: gatewayOf(network, "ipv4"),
        addr6: place.addr6,
        gateway6: gatewayOf(network, "ipv6"),
        udpPorts,
      });
    }
  }

  /** A task with ports of its host keeps the Engine's bridge beside the ingress network. */
  async #keepBridged(
    attachments: readonly NetworkAttachment[],
    ports: readonly PortConfig[],
  ): Promise<void> {
    const mixed = ports.some(port => port.PublishMode === "host");
    const udp = ports.filter(port => port.PublishMode !== "host" && port.Protocol === "udp");
    const targets = udp.map(port => port.TargetPort ?? 0);
    let changed = false;
    for (const { networkId, addresses } of attachments) {
      if (!this.#isIngress(networkId)) continue;
      const key = placeKey(networkId, withoutPrefix(addresses[0] ?? ""));
      changed = mixed || this.#deps.state.bridged.delete(key) || changed;
      if (mixed) this.#deps.state.bridged.set(key, targets);
    }
    if (changed) await this.#deps.state.save();
  }

  async quiesce({ task }: AssignedTask, signal: AbortSignal): Promise<void> {
    if (task.serviceId === "" || this.#deps.problem() !== "") return;
    const { clock, logger } = this.#deps;
    const places = new Set(
      task.networks.flatMap(({ networkId, addresses }) =>
        addresses.map(address => placeKey(networkId, withoutPrefix(address))),
      ),
    );
    const ends = [...this.#deps.state.endpoints.values()].filter(
      one => one.sandbox !== "" && places.has(placeKey(one.networkId, one.addr)),
    );
    const sandboxes = [...new Set(ends.map(({ sandbox }) => sandbox))];
    const untilMs = clock.monoMs() + QUIESCE_TIMEOUT_MS;
    try {
      while (sandboxes.length > 0 && clock.monoMs() < untilMs) {
        const open = await Promise.all(
          sandboxes.map(sandbox => this.#deps.flows.connections(sandbox)),
        );
        if (open.every(count => count === 0)) return;
        await sleep(clock, QUIESCE_POLL_MS, signal);
      }
    } catch (error) {
      signal.throwIfAborted();
      logger.debug("cannot count the connections of a task", { error: errorMessage(error) });
    }
  }

  #isIngress(networkId: string): boolean {
    return this.#deps.table.network(networkId)?.network.ingress ?? false;
  }

  /** The network, programmed. Throws `unavailable` while this node has not been told of it. */
  async #ready(networkId: string, signal: AbortSignal): Promise<OverlayNetwork> {
    const network = this.#deps.table.network(networkId)?.network;
    if (network === undefined) {
      throw new SwarmError("unavailable", `this node does not know the network ${networkId} yet`);
    }
    if (network.encrypted && this.#deps.mesh.problem !== "") {
      const text = `network ${network.name} is encrypted, and this node cannot encrypt`;
      throw new SwarmError("failed_precondition", `${text}: ${this.#deps.mesh.problem}`);
    }
    if (this.#deps.table.hosts.get(this.#nodeId) === undefined) {
      throw new SwarmError("unavailable", "this node has no index in the data path yet");
    }
    const isV4 = ({ subnet }: OverlaySubnet): boolean => familyOf(subnet) === "ipv4";
    if (!this.#deps.ipv6() && !network.ingress && !network.subnets.every(isV4)) {
      const text = `network ${network.name} has IPv6, and this node's kernel or nftables has not`;
      throw new SwarmError("failed_precondition", text);
    }
    if (network.encrypted) await withSignal(this.#deps.meshKeeper.request(), signal);
    await this.#programmed(network, signal);
    return this.#deps.ipv6() ? network : { ...network, subnets: network.subnets.filter(isV4) };
  }

  /** What fails for so long fails the task too: another node may do, and somebody must hear. */
  async #programmed({ id, name }: OverlayNetwork, signal: AbortSignal): Promise<void> {
    const { clock, programs } = this.#deps;
    const over = new AbortController();
    const check = (): Timer =>
      clock.setTimer("network", READY_TIMEOUT_MS, () => {
        const problem = programs.problems().get(id) ?? "";
        timer = check();
        if (problem === "") return;
        const text = `network ${name} cannot be made on this node: ${problem}`;
        over.abort(new SwarmError("failed_precondition", text));
      });
    let timer = check();
    try {
      await withSignal(programs.sync(id), AbortSignal.any([signal, over.signal]));
    } finally {
      timer.cancel();
    }
  }

  async #keepNameservers(
    attachments: readonly NetworkAttachment[],
    own: readonly string[],
  ): Promise<void> {
    const keys = attachments.map(({ networkId, addresses }) =>
      placeKey(networkId, withoutPrefix(addresses[0] ?? "")),
    );
    let changed = false;
    for (const key of keys) {
      if (own.length > 0) this.#deps.state.nameservers.set(key, own);
      changed = own.length > 0 || this.#deps.state.nameservers.delete(key) || changed;
    }
    if (changed) await this.#deps.state.save();
  }

  #refuseSctp(ports: readonly PortConfig[]): void {
    const reason = this.#deps.sctp();
    const port = ports.find(({ Protocol }) => Protocol === "sctp");
    if (reason === "" || port === undefined) return;
    const text = `SCTP port ${port.TargetPort ?? 0} cannot be published on this node: ${reason}`;
    throw new SwarmError("failed_precondition", text);
  }

  #refuseWithout(): void {
    const problem = this.#deps.problem();
    if (problem === "") return;
    const text = `overlay networks are not available on this node: ${problem}`;
    throw new SwarmError("failed_precondition", text);
  }
}

/** Of the attachment, for the Engine and whatever of it understands them. */
function driverOptions(spec: ServiceSpec, networkId: string): object {
  const own = spec.TaskTemplate?.Networks ?? [];
  const all = own.length > 0 ? own : (spec.Networks ?? []);
  const options = all.find(({ Target }) => Target === networkId)?.DriverOpts ?? {};
  return Object.keys(options).length > 0 ? { DriverOpts: options } : {};
}

function gatewayOf(network: OverlayNetwork, family: IpFamily): string {
  return network.subnets.find(({ gateway }) => familyOf(gateway) === family)?.gateway ?? "";
}

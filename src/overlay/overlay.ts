import { stat } from "node:fs/promises";
import { TaskGroup, withSignal } from "../base/async.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { AssignedTask } from "../model/assignment.ts";
import { type OverlayChange, type OverlayNetwork, withoutPrefix } from "../model/overlay.ts";
import type { NetworkAttachment, OverlayCapability } from "../model/rows.ts";
import type { PortConfig } from "../model/service-spec.ts";
import type { PreparedNetworks, TaskNetworks } from "../worker/networks.ts";
import type { Commands } from "./commands.ts";
import { ENCRYPTED_PORT, NAMESPACE_PREFIX, namespaceOf } from "./core/names.ts";
import type { HostRules } from "./core/nft.ts";
import type { NetworkPlan, PlanFacts } from "./core/plan.ts";
import { OverlayTable } from "./core/table.ts";
import { HostProgram } from "./host-rules.ts";
import { Lane, type LaneDeps } from "./lane.ts";
import { type LeaseSource, LocalLeases } from "./leases.ts";
import { type LocalEndpoint, LocalState } from "./local-state.ts";
import { Mesh } from "./mesh.ts";
import { Namespaces } from "./namespaces.ts";
import { Naming, placeKey } from "./naming.ts";
import { ipamMethods, networkDriverMethods } from "./network-driver.ts";
import { NetworkPrograms } from "./network-programs.ts";
import { PluginServer } from "./plugin-server.ts";
import { listNamespaces, probeHost, underlayMtu } from "./probe.ts";

/** How often what is there is compared with what should be. */
export const AUDIT_INTERVAL_MS = 3_000;
const AUDITS_AT_ONCE = 4;
/** How long a network may take to come here for a plain container. */
const ATTACH_TIMEOUT_MS = 5_000;
const ATTACH_POLL_MS = 20;
/** Tables reach the disk so long after a change: managers send them again anyway. */
const SAVE_TABLES_DELAY_MS = 2_000;
/** How long a task that is to be stopped keeps its open connections. */
const QUIESCE_TIMEOUT_MS = 3_000;
const QUIESCE_POLL_MS = 100;
/** What is there from before the start is put in order before the Engine is answered. */
const START_TIMEOUT_MS = 10_000;

export interface OverlayOptions {
  readonly nodeId: string;
  /** Folder for what must outlive a restart. */
  readonly dir: string;
  /** Where the Engine finds the plugin. */
  readonly pluginSocket: string;
  /** This host's address in the data path. */
  readonly addr: string;
}

/** The Engine's side of networks; may be called only outside of the plugin's handlers. */
export interface EngineSide {
  ensure(network: OverlayNetwork, signal: AbortSignal): Promise<string>;
  remove(engineId: string, signal: AbortSignal): Promise<void>;
}

export interface OverlayDeps {
  readonly engine: EngineSide;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** Overlay networks of this node: namespaces, virtual addresses, names and published ports. */
export class Overlay implements TaskNetworks {
  readonly #options: OverlayOptions;
  readonly #deps: OverlayDeps;
  readonly #stop = new AbortController();
  readonly #table = new OverlayTable();
  readonly #state: LocalState;
  readonly #namespaces: Namespaces;
  readonly #programs: NetworkPrograms;
  readonly #host: HostProgram;
  readonly #naming: Naming;
  readonly #leases: LocalLeases;
  readonly #mesh: Mesh;
  readonly #meshLane: Lane;
  readonly #server: PluginServer;
  #pendingMesh: Promise<void> = Promise.resolve();
  #problem = "";
  #mtu = 0;
  /** Managers have said what is this node's: what else is here is left over. */
  #confirmed = false;
  #saveTimer: Timer | null = null;

  private constructor(options: OverlayOptions, deps: OverlayDeps, state: LocalState) {
    this.#options = options;
    this.#deps = deps;
    this.#state = state;
    const lanes: LaneDeps = { ...deps, signal: this.#stop.signal };
    this.#leases = new LocalLeases({ ...deps, state });
    this.#naming = new Naming({ ...deps, table: this.#table, state });
    this.#mesh = new Mesh(options, {
      ...deps,
      hosts: () => this.#table.hosts,
      underlayMtu: () => this.#mtu,
    });
    this.#meshLane = new Lane("encrypted mesh", () => this.#mesh.sync(), lanes);
    this.#namespaces = new Namespaces(deps);
    this.#programs = new NetworkPrograms({
      ...lanes,
      namespaces: this.#namespaces,
      table: this.#table,
      facts: () => this.#facts(),
      inUse: networkId => state.usesNetwork(networkId),
      openDns: (networkId, gateway) => this.#naming.open(networkId, gateway),
      onAdopted: plan => this.#plugAgain(plan),
      onProgrammed: () => void this.#host.sync(),
    });
    this.#host = new HostProgram({ ...lanes, ...deps, rules: () => this.#hostRules() });
    const ports = {
      state,
      network: (networkId: string) => this.#networkFacts(networkId),
      plug: (endpoint: LocalEndpoint) => this.#plug(endpoint),
      unplug: ({ networkId, device }: LocalEndpoint) => this.#namespaces.unplug(networkId, device),
      sync: (networkId: string) => this.#programs.sync(networkId),
      isTasks: (networkId: string, addr: string) => this.#isTasks(networkId, addr),
      lease: (networkId: string) => this.#leases.take(networkId),
      release: (networkId: string, addr: string) => this.#leases.release(networkId, addr),
    };
    const methods = { ...networkDriverMethods(ports), ...ipamMethods(ports) };
    this.#server = new PluginServer({ socketPath: options.pluginSocket, methods }, deps);
  }

  static async open(options: OverlayOptions, deps: OverlayDeps): Promise<Overlay> {
    return new Overlay(options, deps, await LocalState.open(options.dir));
  }

  /**
   * Puts in order what is there, then answers the Engine: it may ask at once for a container of
   * before. What cannot be done here is said once and kept as the reason.
   */
  async start(): Promise<void> {
    const { commands, logger, clock } = this.#deps;
    const facts = await probeHost(commands);
    for (const warning of facts.warnings) logger.warn("overlay networks are limited", { warning });
    this.#problem = facts.problem;
    this.#mtu = await underlayMtu(this.#options.addr);
    if (this.#problem === "") {
      const tables = await this.#state.loadTables();
      if (tables !== null) this.#table.restore(tables);
      await this.#mesh.open();
      if (this.#mesh.problem !== "") {
        logger.warn("encrypted networks are off on this node", { reason: this.#mesh.problem });
      }
      await this.#forgetDeadEndpoints();
      // The guards come before anything that they guard.
      const ready = this.#host.sync().then(() => {
        this.#program(this.#table.networkIds());
        return this.programmed();
      });
      await Promise.race([ready, sleep(clock, START_TIMEOUT_MS, this.#stop.signal)]);
      this.#problem = await this.#listen();
    }
    if (this.#problem === "") return;
    logger.error("overlay networks are off on this node", { reason: this.#problem });
  }

  async #listen(): Promise<string> {
    try {
      await this.#server.listen();
      return "";
    } catch (error) {
      return `cannot serve the Engine's plugin socket: ${errorMessage(error)}`;
    }
  }

  /** Looks after the data path until the signal aborts; it stays as it is then. */
  async run(signal: AbortSignal): Promise<void> {
    const group = new TaskGroup(signal);
    if (this.#problem === "") group.start("overlay audit", inner => this.#auditLoop(inner));
    await new Promise<void>(done => {
      if (group.signal.aborted) done();
      group.signal.addEventListener("abort", () => done(), { once: true });
    });
    this.#stop.abort(new SwarmError("canceled", "shutting down"));
    this.#saveTimer?.cancel();
    this.#programs.close();
    if (this.#problem === "") {
      await this.#server.close();
      await this.#state.saveTables(() => this.#table.snapshot());
    }
    await group.close();
  }

  /** Removes everything of this node's networks: it leaves the cluster, its tasks are gone. */
  async clear(signal: AbortSignal): Promise<void> {
    if (this.#problem !== "") return;
    this.#table.apply([], true);
    for (const { id } of [...this.#state.networks.values()]) {
      await this.#deps.engine.remove(id, signal);
    }
    this.#state.endpoints.clear();
    this.#state.networks.clear();
    this.#state.nameservers.clear();
    await Promise.all(this.#programs.ids().map(id => this.#programs.sync(id)));
    await this.#host.remove();
    await this.#mesh.remove();
    await this.#state.save();
    await this.#state.saveTables(() => this.#table.snapshot());
  }

  async capability(): Promise<OverlayCapability> {
    const publicKey = this.#problem === "" ? this.#mesh.publicKey : "";
    return { addr: this.#options.addr, publicKey, problem: this.#problem };
  }

  apply(changes: readonly OverlayChange[], complete: boolean): void {
    if (changes.length === 0 && !complete) return;
    const touched = this.#table.apply(changes, complete);
    this.#naming.changed(touched);
    if (this.#problem !== "") return;
    this.#program(touched);
    this.#saveTimer ??= this.#deps.clock.setTimer("overlay-tables", SAVE_TABLES_DELAY_MS, () => {
      this.#saveTimer = null;
      void this.#saveTables();
    });
    if (complete) this.#confirmed = true;
  }

  /** Where addresses of plain containers come from; until then there are none. */
  useLeases(source: LeaseSource): void {
    this.#leases.source = source;
  }

  /** Brings an attachable network to this node's Engine, for a container that is no task. */
  async attach(networkId: string, signal: AbortSignal): Promise<{ readonly gateway: string }> {
    if (this.#problem !== "") {
      const text = `overlay networks are not available on this node: ${this.#problem}`;
      throw new SwarmError("failed_precondition", text);
    }
    const known = (): boolean => this.#table.network(networkId) !== undefined;
    if (!known()) await this.#leases.reserve(networkId);
    const untilMs = this.#deps.clock.monoMs() + ATTACH_TIMEOUT_MS;
    while (!known() && this.#deps.clock.monoMs() < untilMs) {
      await sleep(this.#deps.clock, ATTACH_POLL_MS, signal);
    }
    const network = await this.#ready(networkId, signal);
    await withSignal(this.#deps.engine.ensure(network, signal), signal);
    return { gateway: network.subnets[0]?.gateway ?? "" };
  }

  /** Whether managers gave the address to a task of this node. */
  #isTasks(networkId: string, addr: string): boolean {
    const endpoints = this.#table.network(networkId)?.endpoints.values() ?? [];
    return [...endpoints].some(one => one.addr === addr && one.nodeId === this.#options.nodeId);
  }

  /** Encrypted networks follow when the mesh has. */
  #program(networkIds: Iterable<string>): void {
    const encrypted: string[] = [];
    for (const id of networkIds) {
      if (this.#table.network(id)?.network.encrypted === true) encrypted.push(id);
      else void this.#programs.sync(id);
    }
    if (encrypted.length > 0) this.#pendingMesh = this.#programEncrypted(encrypted);
  }

  async #programEncrypted(networkIds: readonly string[]): Promise<void> {
    if (this.#mesh.problem !== "") return;
    try {
      await this.#meshLane.request();
      await Promise.all(networkIds.map(id => this.#programs.sync(id)));
    } catch (error) {
      // Shutting down: whatever is missing is made at the next start.
      this.#deps.logger.debug("the mesh was not finished", { error: errorMessage(error) });
    }
  }

  async programmed(): Promise<void> {
    if (this.#problem !== "") return;
    await this.#pendingMesh;
    await this.#programs.settled();
    await this.#host.settled();
  }

  async prepare({ task, spec }: AssignedTask, signal: AbortSignal): Promise<PreparedNetworks> {
    if (this.#problem !== "") {
      const text = `overlay networks are not available on this node: ${this.#problem}`;
      throw new SwarmError("failed_precondition", text);
    }
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
      const addr = withoutPrefix(attachment.addresses[0] ?? "");
      // Aliases are answered by this cluster's own name server, for all tasks of the service.
      endpoints.push({ networkId, endpoint: { IPAMConfig: { IPv4Address: addr } } });
      if (!network.ingress) nameserver ||= network.subnets[0]?.gateway ?? "";
    }
    await this.#keepNameservers(ordered, own);
    await this.#keepBridged(ordered, spec.EndpointSpec?.Ports ?? []);
    return { endpoints, nameservers: nameserver === "" ? own : [nameserver] };
  }

  async started({ task }: AssignedTask): Promise<void> {
    for (const { networkId, addresses } of task.networks) {
      const addr = withoutPrefix(addresses[0] ?? "");
      const udpPorts = this.#state.bridged.get(placeKey(networkId, addr));
      const all = [...this.#state.endpoints.values()];
      const place = all.find(one => one.networkId === networkId && one.addr === addr);
      if (udpPorts === undefined || place === undefined) continue;
      const gateway = this.#networkFacts(networkId)?.gateway ?? "";
      await this.#namespaces.answerBy(place.sandbox, { addr, gateway, udpPorts });
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
      changed = mixed || this.#state.bridged.delete(key) || changed;
      if (mixed) this.#state.bridged.set(key, targets);
    }
    if (changed) await this.#state.save();
  }

  async quiesce({ task }: AssignedTask, signal: AbortSignal): Promise<void> {
    if (task.serviceId === "" || this.#problem !== "") return;
    const { clock, logger } = this.#deps;
    const joined = this.#state.joined();
    const places = task.networks
      .map(({ networkId, addresses }) => ({ networkId, addr: withoutPrefix(addresses[0] ?? "") }))
      .filter(({ networkId, addr }) => joined.get(networkId)?.has(addr));
    const untilMs = clock.monoMs() + QUIESCE_TIMEOUT_MS;
    try {
      while (places.length > 0 && clock.monoMs() < untilMs) {
        const open = await Promise.all(
          places.map(({ networkId, addr }) => this.#namespaces.connections(networkId, addr)),
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
    return this.#table.network(networkId)?.network.ingress ?? false;
  }

  /** The network, programmed. Throws `unavailable` while this node has not been told of it. */
  async #ready(networkId: string, signal: AbortSignal): Promise<OverlayNetwork> {
    const network = this.#table.network(networkId)?.network;
    if (network === undefined) {
      throw new SwarmError("unavailable", `this node does not know the network ${networkId} yet`);
    }
    if (network.encrypted && this.#mesh.problem !== "") {
      const text = `network ${network.name} is encrypted, and this node cannot encrypt`;
      throw new SwarmError("failed_precondition", `${text}: ${this.#mesh.problem}`);
    }
    if (this.#table.hosts.get(this.#options.nodeId) === undefined) {
      throw new SwarmError("unavailable", "this node has no index in the data path yet");
    }
    if (network.encrypted) await withSignal(this.#meshLane.request(), signal);
    await withSignal(this.#programs.sync(networkId), signal);
    return network;
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
      if (own.length > 0) this.#state.nameservers.set(key, own);
      changed = own.length > 0 || this.#state.nameservers.delete(key) || changed;
    }
    if (changed) await this.#state.save();
  }

  #facts(): PlanFacts {
    return {
      nodeId: this.#options.nodeId,
      joined: this.#state.joined(),
      used: this.#state.used(),
      underlay: { mtu: this.#mtu },
      mesh: this.#mesh.facts,
    };
  }

  #hostRules(): HostRules {
    const plans = this.#programs.ids().flatMap(id => this.#programs.planOf(id) ?? []);
    const ingress = plans.find(plan => plan.ingress);
    const ports = [...(ingress?.ports.keys() ?? [])].sort();
    const addr = ingress === undefined ? "" : this.#options.addr;
    return { addr, ports, guardedPort: ENCRYPTED_PORT };
  }

  #networkFacts(
    networkId: string,
  ): { readonly internal: boolean; readonly ingress: boolean; readonly gateway: string } | null {
    const network = this.#table.network(networkId)?.network;
    if (network === undefined) return null;
    const gateway = network.subnets[0]?.gateway ?? "";
    return { internal: network.internal, ingress: network.ingress, gateway };
  }

  async #plug(endpoint: LocalEndpoint): Promise<void> {
    const { networkId } = endpoint;
    if (this.#programs.planOf(networkId) === null) await this.#programs.sync(networkId);
    const plan = this.#programs.planOf(networkId);
    if (plan === null) {
      throw new SwarmError("unavailable", `network ${networkId} is not ready on this node`);
    }
    await this.#namespaces.plug(plan, endpoint);
  }

  /** After a namespace was lost the ends of the containers that still run are made anew. */
  async #plugAgain(plan: NetworkPlan): Promise<void> {
    const { networkId } = plan;
    const all = [...this.#state.endpoints.values()].filter(one => one.networkId === networkId);
    const joined = all.filter(({ sandbox }) => sandbox !== "");
    if (joined.length === 0) return;
    const devices = await this.#namespaces.devices(networkId);
    const [subnet] = this.#table.network(networkId)?.network.subnets ?? [];
    const prefixBits = Number(subnet?.subnet.split("/")[1] ?? 0);
    const gateway = plan.ingress ? (subnet?.gateway ?? "") : "";
    for (const endpoint of joined) {
      const { device, sandbox, addr } = endpoint;
      if (devices.has(device) || !(await isThere(sandbox))) continue;
      this.#deps.logger.warn("a container had lost its network", { network: networkId, addr });
      await this.#namespaces.plugInto(plan, endpoint, { sandbox, prefixBits, gateway });
    }
  }

  async #saveTables(): Promise<void> {
    try {
      await this.#state.saveTables(() => this.#table.snapshot());
    } catch (error) {
      this.#deps.logger.warn("cannot save the overlay tables", { error: errorMessage(error) });
    }
  }

  async #auditLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#deps.clock, AUDIT_INTERVAL_MS, signal);
      try {
        await this.#audit(signal);
      } catch (error) {
        signal.throwIfAborted();
        this.#deps.logger.info("cannot check the data path", { error: errorMessage(error) });
      }
    }
  }

  async #audit(signal: AbortSignal): Promise<void> {
    await this.#forgetDeadEndpoints();
    await this.#leases.audit();
    await this.#host.audit();
    await this.#mesh.audit();
    const ids = this.#programs.ids();
    const next = async (): Promise<void> => {
      for (let id = ids.shift(); id !== undefined; id = ids.shift()) {
        signal.throwIfAborted();
        await this.#programs.audit(id);
      }
    };
    await Promise.all(Array.from({ length: AUDITS_AT_ONCE }, next));
    if (this.#confirmed) await this.#removeLeftovers(signal);
  }

  /** No Leave is heard for a container that ended while this daemon was away. */
  async #forgetDeadEndpoints(): Promise<void> {
    const joined = [...this.#state.endpoints.values()].filter(({ sandbox }) => sandbox !== "");
    const dead: LocalEndpoint[] = [];
    for (const networkId of new Set(joined.map(endpoint => endpoint.networkId))) {
      const devices = await this.#namespaces.devices(networkId).catch(() => null);
      // Without its namespace the network is for the audit to mend.
      if (devices === null) continue;
      dead.push(...joined.filter(one => one.networkId === networkId && !devices.has(one.device)));
    }
    // Only what has not changed while the devices were being listed.
    const known = dead.filter(endpoint => this.#state.endpoints.get(endpoint.id) === endpoint);
    const there = await Promise.all(known.map(({ sandbox }) => isThere(sandbox)));
    const gone = known.filter((_, i) => there[i] === false);
    for (const { id, networkId } of gone) {
      this.#state.endpoints.delete(id);
      void this.#programs.sync(networkId);
    }
    if (gone.length > 0) await this.#state.save();
  }

  /** The Engine's networks, and namespaces, of networks that are not this node's any more. */
  async #removeLeftovers(signal: AbortSignal): Promise<void> {
    for (const { id, networkId } of [...this.#state.networks.values()]) {
      if (this.#table.network(networkId) !== undefined) continue;
      if (!this.#state.usesNetwork(networkId)) await this.#deps.engine.remove(id, signal);
    }
    const known = new Set([
      ...this.#table.networkIds().map(namespaceOf),
      ...[...this.#state.endpoints.values()].map(({ networkId }) => namespaceOf(networkId)),
    ]);
    for (const name of await listNamespaces()) {
      if (!name.startsWith(NAMESPACE_PREFIX) || known.has(name)) continue;
      await this.#namespaces.remove(name.slice(NAMESPACE_PREFIX.length));
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

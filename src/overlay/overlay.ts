import { TaskGroup } from "../base/async.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { AssignedTask } from "../model/assignment.ts";
import type { NodeQuestion } from "../model/data-path.ts";
import type { OverlayChange } from "../model/overlay.ts";
import type { AskedAddress, OverlayCapability } from "../model/rows.ts";
import type { PreparedNetworks, TaskNetworks } from "../worker/networks.ts";
import { AuditLog } from "./audit-log.ts";
import { Caretaker } from "./caretaker.ts";
import type { Commands, LinePrograms } from "./commands.ts";
import { Conversations } from "./conversations.ts";
import type { HostRules } from "./core/nft.ts";
import { type PlanFacts, planHostRules } from "./core/plan.ts";
import { OverlayTable } from "./core/table.ts";
import { OverlayCounters } from "./counters.ts";
import type { EngineSide } from "./engine-side.ts";
import { Flows } from "./flows.ts";
import type { HostProbe } from "./host-probe.ts";
import { HostProgram } from "./host-rules.ts";
import { type LeaseSource, LocalLeases, leaseRowsOf } from "./leases.ts";
import { type LocalEndpoint, LocalState } from "./local-state.ts";
import { Mesh } from "./mesh.ts";
import { MeshKeeper } from "./mesh-keeper.ts";
import { Namespaces } from "./namespaces.ts";
import { Naming } from "./naming.ts";
import { ipamMethods, networkDriverMethods } from "./network-driver.ts";
import { NetworkPrograms } from "./network-programs.ts";
import { PluginServer } from "./plugin-server.ts";
import { underlayMtu } from "./probe.ts";
import { Prober } from "./prober.ts";
import { Reports } from "./reports.ts";
import { Sandboxes } from "./sandboxes.ts";
import { TaskPlaces } from "./task-places.ts";

/** Tables reach the disk so long after a change: managers send them again anyway. */
const SAVE_TABLES_DELAY_MS = 2_000;
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

export interface OverlayDeps {
  readonly engine: EngineSide;
  readonly commands: Commands & LinePrograms;
  readonly probe: HostProbe;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** Overlay networks of this node: namespaces, virtual addresses, names and published ports. */
export class Overlay implements TaskNetworks {
  readonly #options: OverlayOptions;
  readonly #deps: OverlayDeps;
  readonly #stop = new AbortController();
  readonly counters = new OverlayCounters();
  readonly #table = new OverlayTable();
  readonly #state: LocalState;
  readonly #conversations: Conversations;
  readonly #namespaces: Namespaces;
  readonly #programs: NetworkPrograms;
  readonly #host: HostProgram;
  readonly #naming: Naming;
  readonly #leases: LocalLeases;
  readonly #mesh: Mesh;
  readonly #meshKeeper: MeshKeeper;
  readonly #places: TaskPlaces;
  readonly #caretaker: Caretaker;
  readonly #reports: Reports;
  readonly #server: PluginServer;
  #pendingMesh: Promise<void> = Promise.resolve();
  #known: Promise<void> = Promise.resolve();
  #started: Promise<void> = Promise.resolve();
  /** There are tables of before: ends of the mesh may be up, which others must be told of. */
  #isKnownHere = false;
  #problem = "";
  #onCapability: () => void = () => undefined;
  #mtu = 0;
  #ipv6 = false;
  #sctp = "";
  /** Managers have said what is this node's: what else is here is left over. */
  #confirmed = false;
  #saveTimer: Timer | null = null;

  private constructor(options: OverlayOptions, deps: OverlayDeps, state: LocalState) {
    this.#options = options;
    this.#deps = deps;
    this.#state = state;
    const { counters } = this;
    const audits = new AuditLog({ ...deps, counters });
    const lanes = { ...deps, audits, counters, signal: this.#stop.signal };
    this.#leases = new LocalLeases({
      ...deps,
      state,
      rows: () => (this.#confirmed ? leaseRowsOf(this.#table, options.nodeId) : null),
      onFound: (networkId, what) => {
        audits.looked(networkId, what);
        deps.logger.warn("an address and who has it did not agree", { network: networkId, what });
      },
    });
    this.#naming = new Naming({ ...deps, table: this.#table, state });
    this.#mesh = new Mesh(options, {
      ...deps,
      hosts: () => this.#table.hosts,
      told: () => this.#table.mesh,
      isNeeded: () => this.#table.hasEncrypted,
      onChanged: () => this.#onCapability(),
      underlayMtu: () => this.#mtu,
    });
    this.#meshKeeper = new MeshKeeper({ ...lanes, mesh: this.#mesh });
    this.#conversations = new Conversations({ ...deps, programs: deps.commands });
    this.#namespaces = new Namespaces({ ...deps, conversations: this.#conversations });
    const flows = new Flows(deps);
    this.#programs = new NetworkPrograms({
      ...lanes,
      flows,
      namespaces: this.#namespaces,
      table: this.#table,
      facts: () => this.#facts(),
      inUse: networkId => state.usesNetwork(networkId),
      openDns: (networkId, gateway) => this.#naming.open(networkId, gateway),
      onAdopted: plan => this.#caretaker.plugAgain(plan),
      onProgrammed: () => void this.#host.sync(),
    });
    this.#host = new HostProgram({ ...lanes, rules: () => this.#hostRules() });
    const parts = {
      ...deps,
      state,
      table: this.#table,
      namespaces: this.#namespaces,
      sandboxes: new Sandboxes({ ...deps, namespaces: this.#namespaces }),
      programs: this.#programs,
      mesh: this.#mesh,
      meshKeeper: this.#meshKeeper,
      leases: this.#leases,
    };
    const problem = (): string => this.#problem;
    const ipv6 = (): boolean => this.#ipv6;
    const sctp = (): string => this.#sctp;
    this.#places = new TaskPlaces(options, { ...parts, flows, ipv6, problem, sctp });
    const confirmed = (): boolean => this.#confirmed;
    this.#caretaker = new Caretaker({ ...parts, host: this.#host, confirmed });
    const prober = new Prober({
      ...deps,
      mesh: () => this.#meshKeeper.facts(),
      meshProblem: () => this.#mesh.problem,
    });
    const facts = (): PlanFacts => this.#facts();
    this.#reports = new Reports({ ...parts, audits, prober, facts, problem });
    this.#server = this.#newServer();
  }

  /** Networks programmed here, and the endpoints of tasks and containers on them. */
  sizes(): { readonly networks: number; readonly endpoints: number } {
    return { networks: this.#programs.programmedCount, endpoints: this.#state.endpoints.size };
  }

  /** Why this host has no overlay networks; empty when it has. */
  get problem(): string {
    return this.#problem;
  }

  static async open(options: OverlayOptions, deps: OverlayDeps): Promise<Overlay> {
    return new Overlay(options, deps, await LocalState.open(options.dir));
  }

  /** What the Engine asks, and where it is done. */
  #newServer(): PluginServer {
    const ports = {
      state: this.#state,
      network: (networkId: string) => this.#table.network(networkId)?.network ?? null,
      plug: (endpoint: LocalEndpoint) => this.#programs.plug(endpoint),
      unplug: ({ networkId, device }: LocalEndpoint) => this.#namespaces.unplug(networkId, device),
      sync: (networkId: string) => this.#programs.sync(networkId),
      isTasks: (networkId: string, addr: string) => this.#places.isTasks(networkId, addr),
      macOf: (networkId: string, addr: string) => this.#places.macOf(networkId, addr),
      ipv6: () => this.#ipv6,
      lease: (networkId: string, asked: AskedAddress) => this.#leases.take(networkId, asked),
      release: (networkId: string, addr: string) => this.#leases.release(networkId, addr),
    };
    const methods = { ...networkDriverMethods(ports), ...ipamMethods(ports) };
    return new PluginServer({ socketPath: this.#options.pluginSocket, methods }, this.#deps);
  }

  /**
   * Puts in order what is there, then answers the Engine: it may ask at once for a container of
   * before. What cannot be done here is said once and kept as the reason.
   */
  start(): Promise<void> {
    this.#known = this.#learn();
    this.#started = this.#known.then(() => this.#open());
    return this.#started;
  }

  /** What can be done on this host. */
  async #learn(): Promise<void> {
    const { probe, logger } = this.#deps;
    const facts = await probe.facts();
    for (const warning of facts.warnings) logger.warn("overlay networks are limited", { warning });
    this.#problem = facts.problem;
    this.#ipv6 = facts.ipv6;
    this.#sctp = facts.sctp;
    this.#mtu = await underlayMtu(this.#options.addr);
    if (this.#problem !== "") return;
    await this.#mesh.open(facts.wireguard);
    if (this.#mesh.problem !== "") {
      logger.warn("encrypted networks are off on this node", { reason: this.#mesh.problem });
    }
    const tables = await this.#state.loadTables();
    this.#isKnownHere = tables !== null;
    if (tables !== null) this.#table.restore(tables);
  }

  async #open(): Promise<void> {
    const { logger, clock } = this.#deps;
    if (this.#problem === "") {
      await this.#caretaker.forgetDeadEndpoints();
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
    if (this.#problem === "") group.start("overlay audit", inner => this.#caretaker.run(inner));
    await new Promise<void>(done => {
      if (group.signal.aborted) done();
      group.signal.addEventListener("abort", () => done(), { once: true });
    });
    this.#stop.abort(new SwarmError("canceled", "shutting down"));
    this.#saveTimer?.cancel();
    this.#meshKeeper.close();
    this.#programs.close();
    await this.#conversations.close();
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
    await this.#known;
    if (this.#isKnownHere) await this.#started;
    const { addr } = this.#options;
    if (this.#problem !== "") return { addr, publicKey: "", problem: this.#problem };
    const { publicKey, ends, lagging } = this.#mesh;
    return {
      ...{ addr, publicKey, problem: "" },
      ...(this.#ipv6 && { ipv6: true }),
      ...(publicKey !== "" && { changesKeys: true }),
      ...(ends.length > 0 && { meshKeys: ends }),
      ...(lagging.length > 0 && { lagging }),
    };
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

  /** Who is to be told when `capability` has changed. */
  useCapability(onChanged: () => void): void {
    this.#onCapability = onChanged;
  }

  /** Where addresses of plain containers come from; until then there are none. */
  useLeases(source: LeaseSource): void {
    this.#leases.source = source;
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
      await this.#meshKeeper.request();
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

  attach(networkId: string, signal: AbortSignal): Promise<{ readonly gateway: string }> {
    return this.#places.attach(networkId, signal);
  }

  prepare(assigned: AssignedTask, signal: AbortSignal): Promise<PreparedNetworks> {
    return this.#places.prepare(assigned, signal);
  }

  started(assigned: AssignedTask): Promise<void> {
    return this.#places.started(assigned);
  }

  quiesce(assigned: AssignedTask, signal: AbortSignal): Promise<void> {
    return this.#places.quiesce(assigned, signal);
  }

  /** What managers ask of this node's data path. */
  answer(question: NodeQuestion, signal: AbortSignal): Promise<object> {
    return this.#reports.answer(question, signal);
  }

  #facts(): PlanFacts {
    return {
      nodeId: this.#options.nodeId,
      joined: this.#state.joined(),
      used: this.#state.used(),
      ipv6: this.#ipv6,
      underlay: { mtu: this.#mtu },
      mesh: this.#mesh.facts,
    };
  }

  #hostRules(): HostRules {
    const plans = this.#programs.ids().flatMap(id => this.#programs.planOf(id) ?? []);
    return planHostRules(plans, this.#options.addr);
  }

  async #saveTables(): Promise<void> {
    try {
      await this.#state.saveTables(() => this.#table.snapshot());
    } catch (error) {
      this.#deps.logger.warn("cannot save the overlay tables", { error: errorMessage(error) });
    }
  }
}

import { setTimeout as sleep } from "node:timers/promises";
import { request } from "../lab/http.ts";
import type { Lab, LabHost } from "../lab/lab.ts";
import { type Board, type HostRow, type Mood, NO_POWER, type TaskChip } from "./board.ts";
import type { Backend } from "./wire.ts";

/** Follows the cluster through the API of whichever manager answers. */

const EVERY_MS = 120;
const ANSWER_TIMEOUT_MS = 800;
const API = "/v1.41";
/** A task that failed is shown this long. */
const SHOW_FAILED_MS = 4_000;

interface NodeRow {
  readonly ID: string;
  readonly Spec: { readonly Role: string };
  readonly Description?: { readonly Hostname?: string };
  readonly Status?: { readonly State?: string };
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability?: string } | null;
}

export interface TaskRow {
  readonly ID: string;
  readonly Slot: number;
  readonly NodeID?: string;
  readonly DesiredState: string;
  readonly Spec: { readonly ContainerSpec: { readonly Image: string } };
  readonly Status: {
    readonly State: string;
    readonly Timestamp: string;
    readonly PortStatus?: { readonly Ports?: readonly { readonly PublishedPort?: number }[] };
  };
}

interface ServiceRow {
  readonly Spec: {
    readonly TaskTemplate: { readonly ContainerSpec: { readonly Image: string } };
    readonly Mode: { readonly Replicated?: { readonly Replicas?: number } };
  };
  readonly UpdateStatus?: { readonly State?: string };
}

/** `swarmd/web:2@sha256:…` is `v2`. */
export function versionOf(image: string): string {
  return `v${/:(\w+)(?:@|$)/.exec(image)?.[1] ?? "?"}`;
}

export interface WatcherDeps {
  readonly lab: Lab;
  readonly board: Board;
  readonly onBackends: (backends: readonly Backend[]) => void;
}

export class Watcher {
  readonly #deps: WatcherDeps;
  readonly #seen = new Map<string, TaskRow>();
  readonly #hostOf = new Map<string, string>();
  #nodes: readonly NodeRow[] = [];
  #tasks: readonly TaskRow[] = [];
  #serviceName: string | null = null;
  #lastLeader: string | null = null;
  #told = "";

  constructor(deps: WatcherDeps) {
    this.#deps = deps;
  }

  /** Every task of the service there has been since it is followed, as last seen. */
  get seen(): ReadonlyMap<string, TaskRow> {
    return this.#seen;
  }

  get updateState(): string {
    return this.#deps.board.service?.update?.state ?? "";
  }

  follow(service: string): void {
    this.#serviceName = service;
  }

  /** Name of the host that leads as far as known now; null while none does. */
  leader(): string | null {
    const node = this.#nodes.find(one => one.ManagerStatus?.Leader === true);
    return node?.Description?.Hostname ?? null;
  }

  /** Ready, and reachable if it is a manager. */
  isWhole(host: string): boolean {
    const node = this.#nodes.find(one => one.Description?.Hostname === host);
    if (node?.Status?.State !== "ready") return false;
    const { ManagerStatus: manager = null } = node;
    return manager === null || manager.Reachability === "reachable";
  }

  /** Tasks that are wanted and run; of one version, if asked. */
  running(version?: string): TaskRow[] {
    return this.#tasks.filter(
      task =>
        task.DesiredState === "running" &&
        task.Status.State === "running" &&
        (version === undefined || versionOf(task.Spec.ContainerSpec.Image) === version),
    );
  }

  hostOf(task: TaskRow | undefined): string {
    return this.#hostOf.get(task?.NodeID ?? "") ?? "";
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#look();
      await sleep(EVERY_MS);
    }
  }

  async #look(): Promise<void> {
    const socket = await this.#readNodes();
    if (socket === null) return;
    const service = this.#serviceName;
    if (service === null) return;
    const filters = encodeURIComponent(JSON.stringify({ service: [service] }));
    const [tasks, row] = await Promise.all([
      this.#get<readonly TaskRow[]>(socket, `/tasks?filters=${filters}`),
      this.#get<ServiceRow>(socket, `/services/${service}`),
    ]);
    if (tasks === null || row === null) return;
    this.#tasks = tasks;
    for (const task of tasks) this.#seen.set(task.ID, task);
    this.#showService(row);
    this.#tellBackends();
  }

  /** Answers with the socket of the manager that knew. */
  async #readNodes(): Promise<string | null> {
    const managers = this.#managersInTurn();
    for (const host of managers) {
      const nodes = await this.#get<readonly NodeRow[]>(host.socketPath, "/nodes");
      if (nodes === null) continue;
      this.#nodes = nodes;
      for (const { ID, Description } of nodes) this.#hostOf.set(ID, Description?.Hostname ?? "");
      this.#showHosts();
      this.#noteLeader();
      return host.socketPath;
    }
    return null;
  }

  /** Managers with nothing done to them first. */
  #managersInTurn(): LabHost[] {
    const { lab, board } = this.#deps;
    const managers = lab.hosts().filter(host => host.role === "manager");
    return managers.filter(host => !board.faults.has(host.name));
  }

  async #get<T>(socket: string, path: string): Promise<T | null> {
    const options = { timeoutMs: ANSWER_TIMEOUT_MS };
    const answer = await request(socket, "GET", `${API}${path}`, undefined, options).catch(
      () => null, // Another manager is asked, now or at the next look.
    );
    return answer?.status === 200 ? (answer.body as T) : null;
  }

  #noteLeader(): void {
    const leader = this.leader();
    if (leader === null || leader === this.#lastLeader) return;
    if (this.#lastLeader !== null) this.#deps.board.say(`${leader} leads now`, "result");
    this.#lastLeader = leader;
  }

  #showHosts(): void {
    const { lab, board } = this.#deps;
    board.hosts = lab.hosts().map(host => {
      const node = this.#nodes.find(one => one.Description?.Hostname === host.name);
      return hostRow(host, node, board.faults.get(host.name));
    });
  }

  #showService(row: ServiceRow): void {
    const { board } = this.#deps;
    const image = row.Spec.TaskTemplate.ContainerSpec.Image.replace(/@.*/, "");
    const state = row.UpdateStatus?.State;
    board.tasks = this.#chips();
    board.service = {
      image,
      running: this.running().filter(task => !this.#isOff(this.hostOf(task))).length,
      replicas: row.Spec.Mode.Replicated?.Replicas ?? 0,
      update: state === undefined ? null : { state, done: this.#updated(image, state, row) },
    };
  }

  /** Once complete it stays so, whatever is lost afterwards. */
  #updated(image: string, state: string, row: ServiceRow): number {
    if (state === "completed") return row.Spec.Mode.Replicated?.Replicas ?? 0;
    return this.running(versionOf(image)).length;
  }

  #chips(): TaskChip[] {
    const chips = this.#tasks.flatMap((task): TaskChip[] => {
      const phase = phaseOf(task);
      if (phase === null) return [];
      const version = versionOf(task.Spec.ContainerSpec.Image);
      const host = this.hostOf(task);
      return [{ host, slot: task.Slot, version, phase: this.#isOff(host) ? "lost" : phase }];
    });
    return chips.sort((a, b) => a.slot - b.slot);
  }

  #isOff(host: string): boolean {
    return this.#deps.board.faults.get(host) === NO_POWER;
  }

  /** A load balancer's choice: what runs, on nodes that are up. */
  #tellBackends(): void {
    const { lab, onBackends } = this.#deps;
    const addrs = new Map(lab.hosts().map(host => [host.name, host.addr]));
    const ready = new Set(
      this.#nodes.filter(node => node.Status?.State === "ready").map(node => node.ID),
    );
    const backends = this.running().flatMap((task): Backend[] => {
      const port = task.Status.PortStatus?.Ports?.[0]?.PublishedPort ?? 0;
      const addr = addrs.get(this.hostOf(task));
      const usable = port > 0 && addr !== undefined && ready.has(task.NodeID ?? "");
      return usable ? [{ id: task.ID, addr, port }] : [];
    });
    const text = JSON.stringify(backends);
    if (text === this.#told) return;
    this.#told = text;
    onBackends(backends);
  }
}

const STARTING = new Set([
  "new",
  "pending",
  "assigned",
  "accepted",
  "preparing",
  "ready",
  "starting",
]);

function phaseOf(task: TaskRow): TaskChip["phase"] | null {
  const { State: state, Timestamp: at } = task.Status;
  if (task.DesiredState === "running" || task.DesiredState === "ready") {
    if (state === "running") return "running";
    if (STARTING.has(state)) return "starting";
  } else if (state === "running") return "stopping";
  const isFresh = Date.now() - Date.parse(at) < SHOW_FAILED_MS;
  return (state === "failed" || state === "rejected") && isFresh ? "failed" : null;
}

function hostRow(host: LabHost, node: NodeRow | undefined, fault: string | undefined): HostRow {
  const base = { name: host.name, addr: host.addr };
  if (node === undefined) {
    return { ...base, role: "", state: fault ?? "in no cluster", mood: fault ? "bad" : "dim" };
  }
  const manager = node.ManagerStatus ?? null;
  const role = manager?.Leader === true && fault === undefined ? "leader" : node.Spec.Role;
  if (fault !== undefined) return { ...base, role, state: fault, mood: "bad" };
  const { state, mood } = stateOf(node);
  return { ...base, role, state, mood };
}

function stateOf(node: NodeRow): { readonly state: string; readonly mood: Mood } {
  const state = node.Status?.State ?? "unknown";
  const reachability = node.ManagerStatus?.Reachability ?? "reachable";
  if (state !== "ready") return { state, mood: state === "down" ? "bad" : "busy" };
  return reachability === "reachable"
    ? { state, mood: "good" }
    : { state: reachability, mood: "busy" };
}

import type { Commit, RowEvent } from "../model/change.ts";
import type { Config, Member, Network, Node, Secret, Service } from "../model/rows.ts";
import { hostnameOf } from "../model/rows.ts";
import { replicasOf } from "../model/service-spec.ts";
import type { StateView } from "../model/view.ts";
import type { StateStore } from "../state/ports.ts";

/** Docker keeps as many for `since`. */
const MAX_KEPT_EVENTS = 256;

/** Docker's event message with scope "swarm". */
export interface SwarmEvent {
  readonly type: "node" | "service" | "secret" | "config" | "network";
  readonly action: "create" | "update" | "remove";
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** The leader's clock at the commit, so the same on every manager. */
  readonly timeMs: number;
}

/** The cluster's events as they are committed. */
export interface SwarmEventFeed {
  /** The last events, oldest first. */
  recent(): readonly SwarmEvent[];
  /** Called synchronously for each new event. Returns an unsubscribe. */
  subscribe(listener: (event: SwarmEvent) => void): () => void;
}

/** Makes Docker's events of commits (moby daemon/events.go): no events of tasks. */
export class SwarmEventLog implements SwarmEventFeed {
  readonly #recent: SwarmEvent[] = [];
  readonly #listeners = new Set<(event: SwarmEvent) => void>();
  readonly #stop: () => void;
  readonly #store: StateStore;

  constructor(store: StateStore) {
    this.#store = store;
    this.#stop = store.onCommit(commit => this.#onCommit(commit));
  }

  recent(): readonly SwarmEvent[] {
    return this.#recent;
  }

  subscribe(listener: (event: SwarmEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#stop();
    this.#listeners.clear();
  }

  #onCommit(commit: Commit): void {
    for (const change of commit.events) {
      const event = toEvent(change, this.#store.view, commit.nowMs);
      if (event === null) continue;
      this.#recent.push(event);
      if (this.#recent.length > MAX_KEPT_EVENTS) this.#recent.shift();
      for (const listener of this.#listeners) listener(event);
    }
  }
}

type Attributes = Record<string, string>;

interface Described<Row> {
  readonly type: SwarmEvent["type"];
  readonly name: (row: Row) => string;
  /** Attributes of an update; null when nothing that is told has changed. */
  readonly changes: (before: Row, after: Row) => Attributes | null;
  /** A row that users no longer see. */
  readonly gone?: (row: Row) => boolean;
}

function describe<Row extends { readonly id: string }>(
  kind: Described<Row>,
  before: Row | null,
  after: Row | null,
  timeMs: number,
): SwarmEvent | null {
  const isGone = (row: Row | null): row is null => row === null || kind.gone?.(row) === true;
  const row = isGone(after) ? before : after;
  if (row === null || (isGone(before) && isGone(after))) return null;
  const base = { type: kind.type, id: row.id, timeMs };
  const attributes = { name: kind.name(row) };
  if (isGone(before)) return { ...base, action: "create", attributes };
  if (isGone(after)) return { ...base, action: "remove", attributes };
  const changes = kind.changes(before, after);
  if (changes === null) return null;
  return { ...base, action: "update", attributes: { ...attributes, ...changes } };
}

function toEvent(change: RowEvent, view: StateView, timeMs: number): SwarmEvent | null {
  switch (change.table) {
    case "nodes":
      return describe(nodesIn(view), change.before, change.after, timeMs);
    case "members":
      return change.after === null ? demoted(view, change.before, timeMs) : null;
    case "services":
      return describe(SERVICE, change.before, change.after, timeMs);
    case "secrets":
      return describe(SECRET, change.before, change.after, timeMs);
    case "configs":
      return describe(CONFIG, change.before, change.after, timeMs);
    case "networks":
      return describe(NETWORK, change.before, change.after, timeMs);
    default:
      return null;
  }
}

/** `name.old` and `name.new` where they differ. */
function difference(name: string, before: string, after: string): Attributes {
  return before === after ? {} : { [`${name}.old`]: before, [`${name}.new`]: after };
}

const nodeName = (node: Node): string => node.spec.Name || hostnameOf(node) || node.id;

/**
 * A demoted manager has the role of a worker when it has left the group (SwarmKit's `Node.Role`).
 * Docker's attributes `leader` and `reachability` are of fields that no stored node has.
 */
function nodesIn(view: StateView): Described<Node> {
  return {
    type: "node",
    name: nodeName,
    changes: (before, after) => {
      const isDemotion = before.spec.Role === "manager" && after.spec.Role === "worker";
      const told = {
        ...difference("availability", before.spec.Availability, after.spec.Availability),
        ...(isDemotion && isMember(view, after.id)
          ? {}
          : difference("role", before.spec.Role, after.spec.Role)),
        ...difference("state", before.status.state, after.status.state),
      };
      const specChanged = JSON.stringify(before.spec) !== JSON.stringify(after.spec);
      return specChanged || Object.keys(told).length > 0 ? told : null;
    },
  };
}

function isMember(view: StateView, nodeId: string): boolean {
  return [...view.table("members").all()].some(member => member.nodeId === nodeId);
}

/** The end of a demotion; a manager that left by itself or was removed has no other role. */
function demoted(view: StateView, member: Member | null, timeMs: number): SwarmEvent | null {
  const node = member === null ? undefined : view.table("nodes").get(member.nodeId);
  if (node === undefined || node.spec.Role === "manager") return null;
  const attributes = { name: nodeName(node), ...difference("role", "manager", "worker") };
  return { type: "node", action: "update", id: node.id, attributes, timeMs };
}

function imageOf(service: Service): string {
  return service.spec.TaskTemplate?.ContainerSpec?.Image ?? "";
}

function replicasText(service: Service): string {
  return service.spec.Mode?.Replicated === undefined ? "" : String(replicasOf(service.spec));
}

const SERVICE: Described<Service> = {
  type: "service",
  name: service => service.spec.Name ?? "",
  gone: service => service.pendingDelete,
  changes: (before, after) => {
    const told = {
      ...difference("image", imageOf(before), imageOf(after)),
      ...difference("replicas", replicasText(before), replicasText(after)),
      ...(after.updateStatus === null
        ? {}
        : difference("updatestate", before.updateStatus?.state ?? "", after.updateStatus.state)),
    };
    const isOther =
      before.specVersion !== after.specVersion ||
      JSON.stringify(before.endpoint) !== JSON.stringify(after.endpoint);
    return isOther || Object.keys(told).length > 0 ? dropEmpty(told) : null;
  },
};

/** An update that has begun has no old state to tell. */
function dropEmpty(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== ""));
}

const always = (): Attributes => ({});

const SECRET: Described<Secret> = {
  type: "secret",
  name: secret => secret.spec.Name,
  changes: always,
};

const CONFIG: Described<Config> = {
  type: "config",
  name: config => config.spec.Name,
  changes: always,
};

const NETWORK: Described<Network> = {
  type: "network",
  name: network => network.spec.Name,
  changes: always,
};

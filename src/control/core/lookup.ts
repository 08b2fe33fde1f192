import { SwarmError } from "../../base/errors.ts";
import type { Config, Network, Node, Secret, Service, Task } from "../../model/rows.ts";
import { hostnameOf } from "../../model/rows.ts";
import type { StateView, TableView } from "../../model/view.ts";

interface Kind<Row> {
  readonly noun: string;
  readonly table: (view: StateView) => TableView<Row>;
  readonly name: (row: Row) => string;
  /** Rows that the API does not show. */
  readonly hidden?: (row: Row) => boolean;
}

const SERVICES: Kind<Service> = {
  noun: "service",
  table: view => view.table("services"),
  name: service => service.spec.Name ?? "",
  hidden: service => service.pendingDelete,
};

const NODES: Kind<Node> = {
  noun: "node",
  table: view => view.table("nodes"),
  name: hostnameOf,
};

const TASKS: Kind<Task> = {
  noun: "task",
  table: view => view.table("tasks"),
  name: taskName,
};

const SECRETS: Kind<Secret> = {
  noun: "secret",
  table: view => view.table("secrets"),
  name: secret => secret.spec.Name,
};

const CONFIGS: Kind<Config> = {
  noun: "config",
  table: view => view.table("configs"),
  name: config => config.spec.Name,
};

const NETWORKS: Kind<Network> = {
  noun: "network",
  table: view => view.table("networks"),
  name: network => network.spec.Name,
};

/** `service.slot.id`, or `service.node.id` for a task of a global service (SwarmKit naming). */
export function taskName(task: Task): string {
  const place = task.slot === 0 && task.nodeId !== "" ? task.nodeId : String(task.slot);
  return `${task.serviceName}.${place}.${task.id}`;
}

interface Matches<Row extends { readonly id: string }> {
  readonly named: Row[];
  readonly prefixed: Row[];
}

function scan<Row extends { readonly id: string }>(
  view: StateView,
  kind: Kind<Row>,
  ref: string,
): Matches<Row> {
  const found: Matches<Row> = { named: [], prefixed: [] };
  for (const row of kind.table(view).all()) {
    if (kind.hidden?.(row) === true) continue;
    if (kind.name(row) === ref) found.named.push(row);
    else if (row.id.startsWith(ref)) found.prefixed.push(row);
  }
  return found;
}

/** Full id, then exact name, then unique prefix of an id (moby daemon/cluster/helpers.go). */
function find<Row extends { readonly id: string }>(
  view: StateView,
  kind: Kind<Row>,
  ref: string,
): Row {
  const exact = kind.table(view).get(ref);
  if (exact !== undefined && kind.hidden?.(exact) !== true) return exact;
  const { named, prefixed } = ref === "" ? { named: [], prefixed: [] } : scan(view, kind, ref);
  const matches = named.length > 0 ? named : prefixed;
  const [row] = matches;
  if (row === undefined) throw new SwarmError("not_found", `${kind.noun} ${ref} not found`);
  if (matches.length > 1) {
    const text = `${kind.noun} ${ref} is ambiguous (${matches.length} matches found)`;
    throw new SwarmError("invalid_argument", text);
  }
  return row;
}

export function findService(view: StateView, ref: string): Service {
  const service = view.serviceByName(ref);
  // The index takes names that differ in case for one, as names of new services are.
  if (service?.spec.Name === ref && !service.pendingDelete) {
    const byId = view.table("services").get(ref);
    if (byId === undefined || byId.pendingDelete) return service;
  }
  return find(view, SERVICES, ref);
}

export const findNode = (view: StateView, ref: string): Node => find(view, NODES, ref);
export const findTask = (view: StateView, ref: string): Task => find(view, TASKS, ref);
export const findSecret = (view: StateView, ref: string): Secret => find(view, SECRETS, ref);
export const findConfig = (view: StateView, ref: string): Config => find(view, CONFIGS, ref);
export const findNetwork = (view: StateView, ref: string): Network => find(view, NETWORKS, ref);

/** Services that the API shows. */
export function* visibleServices(view: StateView): Iterable<Service> {
  for (const service of view.table("services").all()) if (!service.pendingDelete) yield service;
}

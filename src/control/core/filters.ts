import { SwarmError } from "../../base/errors.ts";
import { hostnameOf, type Node, type Service, type Task } from "../../model/rows.ts";
import { modeKind } from "../../model/service-spec.ts";
import { TASK_STATES } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { findNode, findService, taskName } from "./lookup.ts";

type Filters = Readonly<Record<string, readonly string[]>>;
export type Test<Row> = (row: Row) => boolean;

type LabelMap = Readonly<Record<string, string>> | undefined;

const SERVICE_FILTERS = ["name", "id", "label", "mode", "runtime"];
const NODE_FILTERS = ["name", "id", "label", "node.label", "role", "membership"];
const SECRET_FILTERS = ["names", "name", "id", "label"];
const CONFIG_FILTERS = ["name", "id", "label"];
const TASK_FILTERS = [
  "name",
  "id",
  "label",
  "service",
  "node",
  "desired-state",
  "_up-to-date",
  "runtime",
];

/** Refuses filters that the resource does not have, in Docker's words. */
export function acceptFilters(filters: Filters, accepted: readonly string[]): void {
  for (const name of Object.keys(filters)) {
    if (!accepted.includes(name)) {
      throw new SwarmError("invalid_argument", `Invalid filter '${name}'`);
    }
  }
}

export function valuesOf(filters: Filters, name: string): readonly string[] {
  return Object.hasOwn(filters, name) ? (filters[name] ?? []) : [];
}

/** No value means no condition; else one of them must begin the text. */
export function hasPrefix(text: string, prefixes: readonly string[]): boolean {
  return prefixes.length === 0 || prefixes.some(prefix => text.startsWith(prefix));
}

/** Every label asked for must be there: `key` with any value, `key=value` with that one. */
export function hasLabels(labels: LabelMap, wanted: readonly string[]): boolean {
  return wanted.every(text => {
    const [key, value] = splitLabel(text);
    if (labels === undefined || !Object.hasOwn(labels, key)) return false;
    return value === "" || labels[key] === value;
  });
}

export function splitLabel(text: string): readonly [string, string] {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

export function serviceTest(filters: Filters): Test<Service> {
  acceptFilters(filters, SERVICE_FILTERS);
  const names = valuesOf(filters, "name");
  const ids = valuesOf(filters, "id");
  const labels = valuesOf(filters, "label");
  const modes = valuesOf(filters, "mode");
  const runtimes = valuesOf(filters, "runtime");
  return service =>
    hasPrefix(service.spec.Name ?? "", names) &&
    hasPrefix(service.id, ids) &&
    hasLabels(service.spec.Labels, labels) &&
    (modes.length === 0 || modes.includes(modeKind(service.spec))) &&
    hasPrefix(service.spec.TaskTemplate?.Runtime ?? "container", runtimes);
}

export function nodeTest(filters: Filters): Test<Node> {
  acceptFilters(filters, NODE_FILTERS);
  const names = valuesOf(filters, "name");
  const ids = valuesOf(filters, "id");
  const engineLabels = valuesOf(filters, "label");
  const labels = valuesOf(filters, "node.label");
  const roles = oneOf("role", valuesOf(filters, "role"), ["worker", "manager"]);
  const memberships = oneOf("membership", valuesOf(filters, "membership"), ["pending", "accepted"]);
  return node =>
    hasPrefix(hostnameOf(node), names) &&
    hasPrefix(node.id, ids) &&
    hasLabels(node.description?.engineLabels, engineLabels) &&
    hasLabels(node.spec.Labels, labels) &&
    (roles.length === 0 || roles.includes(node.spec.Role)) &&
    (memberships.length === 0 || memberships.includes("accepted"));
}

export interface TaskFilter {
  /** Full ids; null = every service. */
  readonly serviceIds: readonly string[] | null;
  readonly nodeIds: readonly string[] | null;
  readonly upToDate: boolean;
  readonly test: (task: Task, labels: LabelMap, runtime: string) => boolean;
}

/** Services and nodes may be named; what does not exist is an error, as Docker has it. */
export function taskFilter(view: StateView, filters: Filters): TaskFilter {
  acceptFilters(filters, TASK_FILTERS);
  const services = valuesOf(filters, "service").map(ref => findService(view, ref).id);
  const nodes = valuesOf(filters, "node").map(ref => findNode(view, ref).id);
  const names = valuesOf(filters, "name");
  const ids = valuesOf(filters, "id");
  const labels = valuesOf(filters, "label");
  const asked = valuesOf(filters, "runtime");
  // Places of plain containers on networks are no tasks to a user who does not name them.
  const runtimes = asked.length > 0 ? asked : ["container", "plugin"];
  const states = oneOf("desired-state", valuesOf(filters, "desired-state"), TASK_STATES);
  return {
    serviceIds: services.length === 0 ? null : services,
    nodeIds: nodes.length === 0 ? null : nodes,
    upToDate: valuesOf(filters, "_up-to-date").length > 0,
    test: (task, taskLabels, runtime) =>
      (names.length === 0 || hasPrefix(taskName(task), names)) &&
      hasPrefix(task.id, ids) &&
      hasLabels(taskLabels, labels) &&
      hasPrefix(runtime, runtimes) &&
      (states.length === 0 || states.includes(task.desiredState) || isAccepted(task, states)),
  };
}

/** `desired-state=accepted` shows tasks that wait for their restart delay. */
function isAccepted(task: Task, states: readonly string[]): boolean {
  return task.desiredState === "ready" && states.includes("accepted");
}

interface Labelled {
  readonly id: string;
  readonly spec: { readonly Name: string; readonly Labels?: LabelMap };
}

function labelledTest(filters: Filters, accepted: readonly string[]): Test<Labelled> {
  acceptFilters(filters, accepted);
  const exact = valuesOf(filters, "names");
  const names = valuesOf(filters, "name");
  const ids = valuesOf(filters, "id");
  const labels = valuesOf(filters, "label");
  return row =>
    (exact.length === 0 || exact.includes(row.spec.Name)) &&
    hasPrefix(row.spec.Name, names) &&
    hasPrefix(row.id, ids) &&
    hasLabels(row.spec.Labels, labels);
}

export const secretTest = (filters: Filters): Test<Labelled> =>
  labelledTest(filters, SECRET_FILTERS);
export const configTest = (filters: Filters): Test<Labelled> =>
  labelledTest(filters, CONFIG_FILTERS);

/** The values in lower case; empty ones are ignored, unknown ones refused. */
function oneOf(
  name: string,
  values: readonly string[],
  known: readonly string[],
): readonly string[] {
  return values
    .filter(value => value !== "")
    .map(value => {
      const lower = value.toLowerCase();
      if (known.includes(lower)) return lower;
      // A plain error to moby, which answers it with 500.
      throw new SwarmError("invalid_argument", `Invalid ${name} filter: '${value}'`, { http: 500 });
    });
}

import { isSwarmError } from "../../base/errors.ts";
import type { Node } from "../../model/rows.ts";
import type { Mount, PlatformSpec, ServiceSpec, TaskSpec } from "../../model/service-spec.ts";
import { type Constraint, compileConstraint, labelReader, parseConstraints } from "./constraint.ts";
import { type GenericDemand, genericPool } from "./generic.ts";

/** The label by which a service chooses how the scheduler orders nodes. */
export const STRATEGY_LABEL = "swarmd.placement.strategy";
export const STRATEGIES = ["spread", "binpack", "random"] as const;
export type Strategy = (typeof STRATEGIES)[number];

export interface PluginDemand {
  readonly type: "Volume" | "Log";
  readonly name: string;
}

/** All that a spec asks of a node, read once per spec version. */
export interface Demand {
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  readonly generic: GenericDemand;
  /** "8080/tcp": ports published in host mode. */
  readonly hostPorts: readonly string[];
  readonly plugins: readonly PluginDemand[];
  /** Null when the stored text does not parse; then no node matches. */
  readonly constraints: readonly Constraint[] | null;
  /** The constraints as tests. */
  readonly meets: readonly ((node: Node) => boolean)[];
  readonly platforms: readonly PlatformSpec[];
  /** 0 = no limit. */
  readonly maxReplicas: number;
  /** What each spread preference reads of a node, outermost first; unknown ones are left out. */
  readonly preferences: readonly ((node: Node) => string)[];
  readonly clusterVolumes: boolean;
  readonly strategy: Strategy;
}

/** Reads what a service's tasks ask of their nodes. Only reservations count, never limits. */
export function demandOf(spec: ServiceSpec): Demand {
  const task = spec.TaskTemplate ?? {};
  const reservations = task.Resources?.Reservations;
  const placement = task.Placement;
  const constraints = constraintsOf(placement?.Constraints ?? []);
  return {
    nanoCpus: reservations?.NanoCPUs ?? 0,
    memoryBytes: reservations?.MemoryBytes ?? 0,
    generic: genericDemand(task),
    hostPorts: hostPortsOf(spec),
    plugins: pluginDemand(task),
    constraints,
    meets: constraints === null ? [() => false] : constraints.map(compileConstraint),
    platforms: placement?.Platforms ?? [],
    maxReplicas: placement?.MaxReplicas ?? 0,
    preferences: preferencesOf(task),
    clusterVolumes: mountsOf(task).some(mount => mount.Type === "cluster"),
    strategy: strategyOf(spec),
  };
}

/** Of a task whose spec is no longer stored. */
export const NO_DEMAND: Demand = demandOf({});

/** The key of a host-mode port on a node. */
export function hostPortKey(port: number, protocol: string | undefined): string {
  return `${port}/${protocol ?? "tcp"}`;
}

function hostPortsOf(spec: ServiceSpec): readonly string[] {
  return (spec.EndpointSpec?.Ports ?? [])
    .filter(port => port.PublishMode === "host" && (port.PublishedPort ?? 0) !== 0)
    .map(port => hostPortKey(port.PublishedPort ?? 0, port.Protocol));
}

function genericDemand(task: TaskSpec): GenericDemand {
  const wanted = genericPool(task.Resources?.Reservations?.GenericResources ?? []);
  return new Map(
    [...wanted].map(([kind, { named, discrete }]) => [kind, { count: discrete, named }]),
  );
}

function mountsOf(task: TaskSpec): readonly Mount[] {
  return task.ContainerSpec?.Mounts ?? [];
}

function pluginDemand(task: TaskSpec): readonly PluginDemand[] {
  const plugins: PluginDemand[] = [];
  for (const mount of mountsOf(task)) {
    const name = mount.VolumeOptions?.DriverConfig?.Name ?? "";
    if (mount.Type === "volume" && name !== "" && name !== "local") {
      plugins.push({ type: "Volume", name });
    }
  }
  const log = task.LogDriver?.Name ?? "";
  if (log !== "" && log !== "none") plugins.push({ type: "Log", name: log });
  return plugins;
}

function constraintsOf(expressions: readonly string[]): readonly Constraint[] | null {
  try {
    return parseConstraints(expressions);
  } catch (error) {
    if (isSwarmError(error, "invalid_argument")) return null;
    throw error;
  }
}

function preferencesOf(task: TaskSpec): Demand["preferences"] {
  return (task.Placement?.Preferences ?? []).flatMap(preference => {
    const read = labelReader(preference.Spread?.SpreadDescriptor ?? "");
    return read === null ? [] : [read];
  });
}

function strategyOf(spec: ServiceSpec): Strategy {
  const label = spec.Labels?.[STRATEGY_LABEL];
  return STRATEGIES.find(strategy => strategy === label) ?? "spread";
}

/** Remembers the demand of each spec value; specs are frozen, so a value never goes stale. */
export class DemandCache {
  readonly #demands = new WeakMap<ServiceSpec, Demand>();

  of(spec: ServiceSpec): Demand {
    const known = this.#demands.get(spec);
    if (known !== undefined) return known;
    const demand = demandOf(spec);
    this.#demands.set(spec, demand);
    return demand;
  }
}

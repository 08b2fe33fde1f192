import type { NodeDescription } from "../../model/rows.ts";
import type { PlatformSpec } from "../../model/service-spec.ts";
import type { Demand, PluginDemand } from "./demand.ts";
import { hasGeneric } from "./generic.ts";
import { type NodeInfo, serviceTasks } from "./node-info.ts";

/** One reason for which a node cannot take a task. */
export interface Filter {
  readonly name: string;
  /** Whether the demand has anything for this filter to check. */
  readonly applies: (demand: Demand) => boolean;
  readonly accepts: (info: NodeInfo, demand: Demand, serviceId: string) => boolean;
  /** Swarm mode's words for `count` nodes that were refused. */
  readonly phrase: (count: number) => string;
}

function onNodes(what: string): (count: number) => string {
  return count => `${what} on ${count === 1 ? "1 node" : `${count} nodes`}`;
}

/** In swarm mode's order: a node is counted under the first filter that refuses it. */
export const FILTERS: readonly Filter[] = [
  {
    name: "ready",
    applies: () => true,
    accepts: ({ node }) => node.status.state === "ready" && node.spec.Availability === "active",
    phrase: count => `${count === 1 ? "1 node" : `${count} nodes`} not available for new tasks`,
  },
  {
    name: "resources",
    applies: demand =>
      demand.nanoCpus !== 0 || demand.memoryBytes !== 0 || demand.generic.size !== 0,
    accepts: hasResources,
    phrase: onNodes("insufficient resources"),
  },
  {
    name: "plugins",
    applies: demand => demand.plugins.length > 0,
    accepts: ({ node }, demand) =>
      demand.plugins.every(plugin => hasPlugin(node.description, plugin)),
    phrase: onNodes("missing plugin"),
  },
  {
    name: "constraints",
    applies: demand => demand.meets.length > 0,
    accepts: ({ node }, demand) => demand.meets.every(meets => meets(node)),
    phrase: onNodes("scheduling constraints not satisfied"),
  },
  {
    name: "platform",
    applies: demand => demand.platforms.length > 0,
    accepts: ({ node }, demand) =>
      demand.platforms.some(platform => isPlatform(node.description, platform)),
    phrase: onNodes("unsupported platform"),
  },
  {
    name: "host ports",
    applies: demand => demand.hostPorts.length > 0,
    accepts: (info, demand) => !demand.hostPorts.some(port => info.usedPorts?.has(port)),
    phrase: onNodes("host-mode port already in use"),
  },
  {
    name: "max replicas",
    applies: demand => demand.maxReplicas > 0,
    accepts: (info, demand, serviceId) => serviceTasks(info, serviceId) < demand.maxReplicas,
    phrase: () => "max replicas per node limit exceed",
  },
  {
    name: "cluster volumes",
    applies: demand => demand.clusterVolumes,
    accepts: () => false,
    phrase: onNodes("cannot fulfill requested CSI volume mounts"),
  },
];

/** The filters that a demand needs. */
export function filtersFor(demand: Demand): readonly Filter[] {
  return FILTERS.filter(filter => filter.applies(demand));
}

/** The first of the filters that refuses the node; null when it can take a task. */
export function refusedBy(
  filters: readonly Filter[],
  info: NodeInfo,
  demand: Demand,
  serviceId: string,
): Filter | null {
  for (const filter of filters) {
    if (!filter.accepts(info, demand, serviceId)) return filter;
  }
  return null;
}

function hasResources(info: NodeInfo, demand: Demand): boolean {
  if (demand.nanoCpus !== 0 && demand.nanoCpus > info.freeNanoCpus) return false;
  if (demand.memoryBytes !== 0 && demand.memoryBytes > info.freeMemoryBytes) return false;
  return hasGeneric(info.generic, demand.generic);
}

/** A node that lists no log drivers at all does not report them; it is not refused for that. */
export function hasPlugin(description: NodeDescription | null, wanted: PluginDemand): boolean {
  if (description === null) return true;
  const ofType = description.plugins.filter(plugin => plugin.type === wanted.type);
  if (wanted.type === "Log" && ofType.length === 0) return true;
  return ofType.some(({ name }) => name === wanted.name || name === `${wanted.name}:latest`);
}

const ARCHITECTURE_ALIASES: ReadonlyMap<string, string> = new Map([
  ["x86_64", "amd64"],
  ["aarch64", "arm64"],
]);

function architecture(name: string): string {
  return ARCHITECTURE_ALIASES.get(name) ?? name;
}

function isPlatform(description: NodeDescription | null, wanted: PlatformSpec): boolean {
  if (description === null) return false;
  const wantedArchitecture = architecture(wanted.Architecture ?? "");
  const wantedOs = wanted.OS ?? "";
  return (
    (wantedArchitecture === "" || wantedArchitecture === architecture(description.architecture)) &&
    (wantedOs === "" || wantedOs === description.os)
  );
}

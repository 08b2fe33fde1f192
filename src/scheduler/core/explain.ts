import { formatBytes, formatCpus } from "../../model/resources.ts";
import type { Constraint } from "./constraint.ts";
import { matchesConstraints } from "./constraint.ts";
import type { Demand } from "./demand.ts";
import { type Filter, hasPlugin } from "./filters.ts";
import { genericAvailable, hasNamed } from "./generic.ts";
import type { NodeInfo } from "./node-info.ts";

/** Why a task has no node: swarm mode's own sentence, and the numbers behind it. */
export interface Explanation {
  /** "insufficient resources on 2 nodes; 1 node not available for new tasks"; may be empty. */
  readonly phrase: string;
  /** "64 GiB memory asked, at most 12.3 GiB free on w2"; may be empty. */
  readonly detail: string;
}

/** Names given per filter before the rest is left out. */
const NAMES_MAX = 3;

/** Nodes by the filter that refuses them, in order of id; most refusals first in the words. */
export function explain(
  refused: ReadonlyMap<Filter, readonly NodeInfo[]>,
  demand: Demand,
): Explanation {
  const ranked = [...refused]
    .filter(([, infos]) => infos.length > 0)
    .sort(([, a], [, b]) => b.length - a.length);
  return {
    phrase: ranked.map(([filter, infos]) => filter.phrase(infos.length)).join("; "),
    detail: ranked
      .map(([filter, infos]) => DETAILS.get(filter.name)?.(infos, demand) ?? "")
      .filter(text => text !== "")
      .join("; "),
  };
}

/** The text of a task that the scheduler may put anywhere. Swarm mode's text is its beginning. */
export function noSuitableNode({ phrase, detail }: Explanation): string {
  const text = phrase === "" ? "no suitable node" : `no suitable node (${phrase})`;
  return detail === "" ? text : `${text}: ${detail}`;
}

/** The text of a task whose node was chosen beforehand (global services). */
export function nodeUnsuitable({ phrase, detail }: Explanation): string {
  return detail === "" ? phrase : `${phrase}: ${detail}`;
}

type Detail = (infos: readonly NodeInfo[], demand: Demand) => string;

/** By name of filter; the ready filter's own phrase says it all. */
const DETAILS: ReadonlyMap<string, Detail> = new Map([
  ["resources", resourceDetail],
  ["plugins", pluginDetail],
  ["constraints", constraintDetail],
  ["platform", platformDetail],
  ["host ports", portDetail],
  ["max replicas", replicasDetail],
]);

interface Dimension {
  readonly asked: number;
  readonly what: string;
  readonly free: (info: NodeInfo) => number;
  readonly format: (amount: number) => string;
}

function dimensionsOf(demand: Demand): readonly Dimension[] {
  const dimensions: Dimension[] = [
    {
      asked: demand.memoryBytes,
      what: "memory",
      free: info => info.freeMemoryBytes,
      format: formatBytes,
    },
    { asked: demand.nanoCpus, what: "", free: info => info.freeNanoCpus, format: formatCpus },
  ];
  for (const [kind, wish] of demand.generic) {
    const free = (info: NodeInfo): number => genericAvailable(info.generic, kind, wish);
    dimensions.push({ asked: wish.count, what: kind, free, format: String });
    for (const name of wish.named) {
      const has = (info: NodeInfo): number => (hasNamed(info.generic, kind, name) ? 1 : 0);
      dimensions.push({ asked: 1, what: `${kind}=${name}`, free: has, format: String });
    }
  }
  return dimensions.filter(({ asked }) => asked > 0);
}

/** An over-reserved node has nothing free, not less than nothing. */
function freeOn(dimension: Dimension, info: NodeInfo): number {
  return Math.max(0, dimension.free(info));
}

function resourceDetail(infos: readonly NodeInfo[], demand: Demand): string {
  const dimensions = dimensionsOf(demand);
  const short = dimensions.flatMap(dimension => {
    const best = bestOf(infos, info => freeOn(dimension, info));
    const free = freeOn(dimension, best);
    if (dimension.asked <= free) return [];
    const asked = amount(dimension, dimension.asked);
    return [`${asked} asked, at most ${dimension.format(free)} free on ${nodeName(best)}`];
  });
  return short.length > 0 ? short.join("; ") : togetherDetail(infos, dimensions);
}

/** Each amount alone is free somewhere, but no node has all of them. */
function togetherDetail(infos: readonly NodeInfo[], dimensions: readonly Dimension[]): string {
  const best = bestOf(infos, info =>
    Math.min(...dimensions.map(dimension => freeOn(dimension, info) / dimension.asked)),
  );
  const list = (of: (dimension: Dimension) => number) =>
    dimensions.map(dimension => amount(dimension, of(dimension))).join(" and ");
  const free = list(dimension => freeOn(dimension, best));
  return `${list(({ asked }) => asked)} asked together, ${nodeName(best)} has ${free} free`;
}

function amount(dimension: Dimension, value: number): string {
  return `${dimension.format(value)} ${dimension.what}`.trimEnd();
}

/** The first of the infos with the highest score; infos are in order of id. */
function bestOf(infos: readonly NodeInfo[], score: (info: NodeInfo) => number): NodeInfo {
  return infos.reduce((best, info) => (score(info) > score(best) ? info : best));
}

function nodeName(info: NodeInfo): string {
  return info.node.description?.hostname ?? info.node.id;
}

function pluginDetail(infos: readonly NodeInfo[], demand: Demand): string {
  return demand.plugins
    .filter(plugin => infos.some(({ node }) => !hasPlugin(node.description, plugin)))
    .slice(0, NAMES_MAX)
    .map(({ type, name }) => `${type === "Log" ? "log driver" : "volume driver"} ${name} not found`)
    .join("; ");
}

function constraintDetail(infos: readonly NodeInfo[], demand: Demand): string {
  const constraints = demand.constraints ?? [];
  const unmet = constraints.filter(
    constraint => !infos.some(({ node }) => matchesConstraints([constraint], node)),
  );
  if (unmet.length > 0) {
    return `none of them has ${unmet.slice(0, NAMES_MAX).map(constraintText).join(", ")}`;
  }
  return constraints.length > 1 ? `none of them has all ${constraints.length} constraints` : "";
}

function constraintText({ key, operator, value }: Constraint): string {
  return `${key}${operator}${value}`;
}

function platformDetail(_infos: readonly NodeInfo[], demand: Demand): string {
  const platforms = demand.platforms
    .slice(0, NAMES_MAX)
    .map(({ OS: os, Architecture: arch }) => `${os ?? "any"}/${arch ?? "any"}`);
  return `the image is for ${platforms.join(", ")}`;
}

function portDetail(infos: readonly NodeInfo[], demand: Demand): string {
  const ports = demand.hostPorts.filter(port => infos.some(info => info.usedPorts?.has(port)));
  return `${ports.length === 1 ? "port" : "ports"} ${ports.slice(0, NAMES_MAX).join(", ")}`;
}

function replicasDetail(infos: readonly NodeInfo[], demand: Demand): string {
  const nodes = infos.length === 1 ? "1 node" : `${infos.length} nodes`;
  return `limit of ${demand.maxReplicas} reached on ${nodes}`;
}

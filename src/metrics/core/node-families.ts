import type { LoopHealth } from "../../base/loop-health.ts";
import { counter, type Family, family, gauge } from "./exposition.ts";

export interface OverlayFacts {
  readonly networks: number;
  /** Of this node's tasks and containers. */
  readonly endpoints: number;
  readonly changes: number;
  readonly failures: number;
  readonly audits: number;
  readonly repairs: number;
}

export interface ProcessFacts {
  readonly residentBytes: number;
  readonly heapUsedBytes: number;
  readonly cpuSeconds: number;
  readonly startedAtSeconds: number;
}

export interface NodeFacts {
  readonly version: string;
  /** Empty in no cluster. */
  readonly nodeId: string;
  readonly clusterId: string;
  readonly isManager: boolean;
  /** A manager serves this node's session. */
  readonly isServed: boolean;
  /** The local Docker Engine answers. */
  readonly hasEngine: boolean;
  /** Null without overlay networks. */
  readonly overlay: OverlayFacts | null;
  readonly loop: LoopHealth;
  readonly process: ProcessFacts;
}

const MS_PER_SECOND = 1_000;

function overlayFamilies(counts: OverlayFacts): Family[] {
  const { networks, endpoints, changes, failures, audits, repairs } = counts;
  return [
    counter("swarmd_overlay_changes_total", "Changes that were programmed.", changes),
    counter("swarmd_overlay_failures_total", "Changes that failed, to be tried again.", failures),
    gauge("swarmd_overlay_networks", "Overlay networks programmed on this node.", networks),
    gauge("swarmd_overlay_endpoints", "Tasks and containers of this node on them.", endpoints),
    counter("swarmd_overlay_audits_total", "Looks at what is programmed.", audits),
    counter("swarmd_overlay_repairs_total", "Looks that found damage, which was mended.", repairs),
  ];
}

function loopFamilies({ meanMs, p99Ms, maxMs, stalls, longestStallMs }: LoopHealth): Family[] {
  const delays = { mean: meanMs, p99: p99Ms, max: maxMs, longest: longestStallMs };
  return [
    family(
      "gauge",
      "swarmd_event_loop_delay_seconds",
      "Delay of the event loop over the last minute or two; longest: since the start.",
      Object.entries(delays).map(([stat, ms]) => ({
        labels: { stat },
        value: ms / MS_PER_SECOND,
      })),
    ),
    counter("swarmd_event_loop_stalls_total", "Delays of the event loop over 100 ms.", stalls),
  ];
}

export function nodeFamilies(facts: NodeFacts): Family[] {
  const { nodeId, clusterId, process } = facts;
  const member =
    nodeId === ""
      ? []
      : [
          gauge("swarm_node_info", "Information related to the swarm.", 1, {
            swarm_id: clusterId,
            node_id: nodeId,
          }),
          gauge(
            "swarm_node_manager",
            "Whether this node is a manager or not.",
            facts.isManager ? 1 : 0,
          ),
          gauge(
            "swarmd_node_served",
            "Whether a manager serves this node.",
            facts.isServed ? 1 : 0,
          ),
        ];
  return [
    gauge("swarmd_build_info", "The program.", 1, { version: facts.version }),
    gauge("swarmd_engine_up", "Whether the Docker Engine answers.", facts.hasEngine ? 1 : 0),
    ...member,
    ...(facts.overlay === null ? [] : overlayFamilies(facts.overlay)),
    ...loopFamilies(facts.loop),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", process.residentBytes),
    gauge("swarmd_heap_used_bytes", "Memory in use by objects.", process.heapUsedBytes),
    counter("process_cpu_seconds_total", "Total user and system CPU time.", process.cpuSeconds),
    gauge("process_start_time_seconds", "Start time since unix epoch.", process.startedAtSeconds),
  ];
}

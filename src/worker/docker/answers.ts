import type { NodeDescription } from "../../model/rows.ts";
import type { GenericResourceSpec, PortConfig } from "../../model/service-spec.ts";
import { CLUSTER_LABEL, TASK_LABEL } from "../core/container-config.ts";
import {
  ABSENT_CONTAINER,
  type ContainerHealth,
  type ContainerPhase,
  type ContainerView,
  type FoundContainer,
} from "../core/container-view.ts";
import { parseTimestampNs } from "../core/log-frames.ts";

/** The parts of the Engine's answers that are read (Docker API v1.41), and what they mean. */
export interface InspectAnswer {
  readonly Id: string;
  readonly State: {
    readonly Status: string;
    readonly Pid: number;
    readonly ExitCode: number;
    readonly OOMKilled: boolean;
    readonly Error: string;
    readonly FinishedAt: string;
    readonly Health?: { readonly Status: string };
  };
  readonly Config: {
    readonly Labels: Readonly<Record<string, string>> | null;
    readonly Tty: boolean;
  };
  readonly NetworkSettings: {
    readonly Ports?: Readonly<Record<string, readonly PortBinding[] | null>>;
  };
}

interface PortBinding {
  readonly HostIp?: string;
  readonly HostPort?: string;
}

const PHASES: ReadonlyMap<string, ContainerPhase> = new Map([
  ["created", "created"],
  ["running", "running"],
  ["paused", "running"],
  ["restarting", "running"],
  ["removing", "removing"],
  ["exited", "exited"],
  ["dead", "exited"],
]);

const HEALTH: ReadonlyMap<string, ContainerHealth> = new Map([
  ["starting", "starting"],
  ["healthy", "healthy"],
  ["unhealthy", "unhealthy"],
]);

const NS_PER_MS = 1_000_000n;

export function containerView(answer: InspectAnswer): ContainerView {
  const { State: state } = answer;
  return {
    ...ABSENT_CONTAINER,
    phase: PHASES.get(state.Status) ?? "exited",
    id: answer.Id,
    health: HEALTH.get(state.Health?.Status ?? "") ?? "none",
    pid: state.Pid,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
    error: state.Error,
    finishedAtMs: epochMs(state.FinishedAt),
    ports: boundPorts(answer.NetworkSettings.Ports ?? {}),
  };
}

/** 0 for the Engine's "never" (the year 1). */
function epochMs(text: string): number {
  return Math.max(0, Number(BigInt(parseTimestampNs(text) ?? "0") / NS_PER_MS));
}

/** One a port, though the Engine binds IPv4 and IPv6 apart. */
function boundPorts(ports: NonNullable<InspectAnswer["NetworkSettings"]["Ports"]>): PortConfig[] {
  const bound = new Map<string, PortConfig>();
  for (const [key, bindings] of Object.entries(ports)) {
    const [target, protocol] = key.split("/");
    if (protocol !== "tcp" && protocol !== "udp" && protocol !== "sctp") continue;
    for (const { HostPort } of bindings ?? []) {
      bound.set(`${key}:${HostPort}`, {
        Protocol: protocol,
        TargetPort: Number(target),
        PublishedPort: Number(HostPort),
        PublishMode: "host",
      });
    }
  }
  return [...bound.values()];
}

/** Whether the container was made for this task by this cluster. */
export function belongsTo(
  labels: Readonly<Record<string, string>> | null | undefined,
  owner: { readonly clusterId: string; readonly taskId: string },
): boolean {
  return labels?.[CLUSTER_LABEL] === owner.clusterId && labels[TASK_LABEL] === owner.taskId;
}

/** One item of `GET /containers/json`. */
export interface ListItem {
  readonly Id: string;
  readonly Names: readonly string[] | null;
  readonly State: string;
  readonly Labels: Readonly<Record<string, string>> | null;
}

export function foundContainer(item: ListItem): FoundContainer {
  return {
    id: item.Id,
    name: (item.Names?.[0] ?? item.Id).replace(/^\//, ""),
    taskId: item.Labels?.[TASK_LABEL] ?? "",
    phase: PHASES.get(item.State) ?? "exited",
  };
}

/** `GET /info`. */
export interface InfoAnswer {
  readonly Name: string;
  readonly Architecture: string;
  readonly OSType: string;
  readonly NCPU: number;
  readonly MemTotal: number;
  readonly ServerVersion: string;
  readonly Labels: readonly string[] | null;
  readonly Plugins: Readonly<Record<string, readonly string[] | null>>;
  readonly GenericResources?: readonly GenericResourceSpec[] | null;
}

const NANO_CPUS = 1_000_000_000;

export function nodeDescription(info: InfoAnswer): NodeDescription {
  return {
    hostname: info.Name,
    architecture: info.Architecture,
    os: info.OSType,
    resources: {
      nanoCpus: info.NCPU * NANO_CPUS,
      memoryBytes: info.MemTotal,
      generic: info.GenericResources ?? [],
    },
    engineVersion: info.ServerVersion,
    engineLabels: Object.fromEntries((info.Labels ?? []).map(splitLabel)),
    plugins: pluginList(info.Plugins),
  };
}

function splitLabel(label: string): readonly [string, string] {
  const at = label.indexOf("=");
  return at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)];
}

/** Sorted by type and name, as `docker node inspect` shows them. */
function pluginList(plugins: InfoAnswer["Plugins"]): NodeDescription["plugins"] {
  const list = Object.entries(plugins).flatMap(([type, names]) =>
    (names ?? []).map(name => ({ type, name })),
  );
  return list.sort((a, b) => (`${a.type}/${a.name}` < `${b.type}/${b.name}` ? -1 : 1));
}

/** One message of `GET /events`. */
export interface EventAnswer {
  readonly Action?: string;
  readonly Actor?: {
    readonly ID?: string;
    readonly Attributes?: Readonly<Record<string, string>>;
  };
}

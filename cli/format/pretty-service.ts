import { modeKind, replicasOf, type UpdateConfig } from "../../src/model/service-spec.ts";
import type { CliContext } from "../context.ts";
import type { ApiService } from "../types.ts";
import { ago } from "./human.ts";

const NANO = 1e9;
const BYTES_PER_MIB = 1024 ** 2;

function duration(ns: number | undefined): string {
  const seconds = (ns ?? 0) / NANO;
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}m${Math.round((seconds - minutes * 60) * 1_000) / 1_000}s`;
}

function labels(title: string, values: Readonly<Record<string, string>> | undefined): string[] {
  const entries = Object.entries(values ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return entries.length === 0 ? [] : [title, ...entries.map(([key, value]) => ` ${key}=${value}`)];
}

function updateConfig(title: string, config: UpdateConfig | undefined): string[] {
  if (config === undefined) return [];
  const lines = [`${title}:`, ` Parallelism:\t${config.Parallelism ?? 1}`];
  if ((config.Delay ?? 0) > 0) lines.push(` Delay:\t\t${duration(config.Delay)}`);
  lines.push(` On failure:\t${config.FailureAction ?? "pause"}`);
  if ((config.Monitor ?? 0) > 0) lines.push(` Monitoring Period: ${duration(config.Monitor)}`);
  lines.push(` Max failure ratio: ${config.MaxFailureRatio ?? 0}`);
  lines.push(
    ` ${title === "UpdateConfig" ? "Update" : "Rollback"} order:      ${config.Order ?? "stop-first"}`,
  );
  return lines;
}

function resources(service: ApiService): string[] {
  const { Limits, Reservations } = service.Spec.TaskTemplate?.Resources ?? {};
  const lines: string[] = [];
  const section = (title: string, cpu?: number, memory?: number): void => {
    if ((cpu ?? 0) === 0 && (memory ?? 0) === 0) return;
    lines.push(` ${title}:`);
    if ((cpu ?? 0) > 0) lines.push(`  CPU:\t\t${(cpu ?? 0) / NANO}`);
    if ((memory ?? 0) > 0) lines.push(`  Memory:\t${(memory ?? 0) / BYTES_PER_MIB}MiB`);
  };
  section("Reservations", Reservations?.NanoCPUs, Reservations?.MemoryBytes);
  section("Limits", Limits?.NanoCPUs, Limits?.MemoryBytes);
  return lines.length === 0 ? [] : ["Resources:", ...lines];
}

function container(service: ApiService): string[] {
  const spec = service.Spec.TaskTemplate?.ContainerSpec ?? {};
  const lines = ["ContainerSpec:", ` Image:\t\t${spec.Image ?? ""}`];
  if ((spec.Command ?? []).length > 0) lines.push(` Command:\t${(spec.Command ?? []).join(" ")}`);
  if ((spec.Args ?? []).length > 0) lines.push(` Args:\t\t${(spec.Args ?? []).join(" ")} `);
  if ((spec.Env ?? []).length > 0) lines.push(` Env:\t\t${(spec.Env ?? []).join(" ")} `);
  if (spec.Dir !== undefined && spec.Dir !== "") lines.push(` Dir:\t\t${spec.Dir}`);
  if (spec.User !== undefined && spec.User !== "") lines.push(` User: ${spec.User}`);
  if (spec.Init === true) lines.push(` Init:\t\ttrue`);
  for (const mount of spec.Mounts ?? []) {
    lines.push(`Mounts:`, ` Target:\t${mount.Target ?? ""}`, `  Source:\t${mount.Source ?? ""}`);
    lines.push(`  ReadOnly:\t${mount.ReadOnly === true}`, `  Type:\t\t${mount.Type ?? "bind"}`);
  }
  return lines;
}

/** `service inspect --pretty`. */
export function prettyService(service: ApiService, context: CliContext): string {
  const { Spec } = service;
  const kind = modeKind(Spec);
  const names = {
    replicated: "Replicated",
    global: "Global",
    "replicated-job": "Replicated Job",
    "global-job": "Global Job",
  };
  const lines = ["", `ID:\t\t${service.ID}`, `Name:\t\t${Spec.Name ?? ""}`];
  lines.push(...labels("Labels:", Spec.Labels), `Service Mode:\t${names[kind]}`);
  if (kind === "replicated") lines.push(` Replicas:\t${replicasOf(Spec)}`);
  const status = service.UpdateStatus;
  if (status?.State !== undefined && status.State !== "") {
    lines.push("UpdateStatus:", ` State:\t\t${status.State}`);
    if (status.StartedAt !== undefined) {
      lines.push(` Started:\t${ago(context.nowMs(), status.StartedAt).toLowerCase()}`);
    }
    if (status.State === "completed" && status.CompletedAt !== undefined) {
      lines.push(` Completed:\t${ago(context.nowMs(), status.CompletedAt).toLowerCase()}`);
    }
    lines.push(` Message:\t${status.Message ?? ""}`);
  }
  const placement = Spec.TaskTemplate?.Placement;
  lines.push("Placement:");
  if ((placement?.Constraints ?? []).length > 0) {
    lines.push(` Constraints:\t[${(placement?.Constraints ?? []).join(" ")}]`);
  }
  if ((placement?.MaxReplicas ?? 0) > 0) {
    lines.push(` Max Replicas Per Node:   ${placement?.MaxReplicas}`);
  }
  lines.push(...updateConfig("UpdateConfig", Spec.UpdateConfig));
  lines.push(...updateConfig("RollbackConfig", Spec.RollbackConfig));
  lines.push(...container(service), ...resources(service));
  lines.push(`Endpoint Mode:\t${Spec.EndpointSpec?.Mode ?? "vip"}`);
  const ports = service.Endpoint?.Ports ?? [];
  if (ports.length > 0) {
    lines.push("Ports:");
    for (const port of ports) {
      lines.push(
        ` PublishedPort = ${port.PublishedPort ?? 0}`,
        `  Protocol = ${port.Protocol ?? "tcp"}`,
        `  TargetPort = ${port.TargetPort ?? 0}`,
        `  PublishMode = ${port.PublishMode ?? "ingress"}`,
      );
    }
  }
  return `${lines.join("\n")}\n`;
}

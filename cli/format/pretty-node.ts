import type { CliContext } from "../context.ts";
import type { ApiNode } from "../types.ts";
import { capitalize } from "./human.ts";

const BYTES_PER_GIB = 1024 ** 3;
const NANO = 1e9;

/** `node inspect --pretty`. */
export function prettyNode(node: ApiNode, _context: CliContext): string {
  const description = node.Description ?? {};
  const lines = [`ID:\t\t\t${node.ID}`];
  if (node.Spec.Name !== undefined && node.Spec.Name !== "")
    lines.push(`Name:\t\t\t${node.Spec.Name}`);
  const labels = Object.entries(node.Spec.Labels ?? {});
  if (labels.length > 0) {
    lines.push("Labels:", ...labels.map(([key, value]) => ` - ${key}=${value}`));
  }
  lines.push(
    `Hostname:              \t${description.Hostname ?? ""}`,
    `Joined at:             \t${node.CreatedAt}`,
    "Status:",
    ` State:\t\t\t${capitalize(node.Status.State)}`,
  );
  if (node.Status.Message !== undefined && node.Status.Message !== "") {
    lines.push(` Message:\t\t${node.Status.Message}`);
  }
  lines.push(
    ` Availability:         \t${capitalize(node.Spec.Availability)}`,
    ` Address:\t\t${node.Status.Addr ?? ""}`,
  );
  if (node.ManagerStatus !== undefined) {
    lines.push(
      "Manager Status:",
      ` Address:\t\t${node.ManagerStatus.Addr ?? ""}`,
      ` Raft Status:\t\t${capitalize(node.ManagerStatus.Reachability ?? "")}`,
      ` Leader:\t\t${node.ManagerStatus.Leader === true ? "Yes" : "No"}`,
    );
  }
  lines.push(
    "Platform:",
    ` Operating System:\t${description.Platform?.OS ?? ""}`,
    ` Architecture:\t\t${description.Platform?.Architecture ?? ""}`,
    "Resources:",
    ` CPUs:\t\t\t${(description.Resources?.NanoCPUs ?? 0) / NANO}`,
    ` Memory:\t\t${((description.Resources?.MemoryBytes ?? 0) / BYTES_PER_GIB).toFixed(3)}GiB`,
    `Engine Version:\t\t${description.Engine?.EngineVersion ?? ""}`,
  );
  return `${lines.join("\n")}\n`;
}

import { readFile } from "node:fs/promises";
import type { LabHost } from "../lab/lab.ts";
import type { HostMark } from "./core/history.ts";

/** What the daemons' own logs tell after a run. */

export interface SnapshotCounts {
  readonly taken: number;
  readonly received: number;
}

/** As the managers' logs tell. */
export async function snapshotCounts(managers: readonly LabHost[]): Promise<SnapshotCounts> {
  const logs = await Promise.all(managers.map(host => readFile(host.logPath, "utf8")));
  const count = (words: string): number =>
    logs.reduce((sum, log) => sum + log.split(`"${words}"`).length - 1, 0);
  return { taken: count("took a snapshot"), received: count("receiving a snapshot") };
}

interface LogLine {
  readonly time: string;
  readonly hostname?: string;
}

/** Each time a leader gave a node up. */
export function downMarks(managers: readonly LabHost[]): Promise<readonly HostMark[]> {
  return marks(managers, "node is down", (line, host) => line.hostname ?? host);
}

/** Each time a leader took a node up. */
export function sessionMarks(hosts: readonly LabHost[]): Promise<readonly HostMark[]> {
  return marks(hosts, "session open", (_line, host) => host);
}

async function marks(
  hosts: readonly LabHost[],
  words: string,
  hostOf: (line: LogLine, host: string) => string,
): Promise<readonly HostMark[]> {
  const found = await Promise.all(
    hosts.map(async host => {
      const log = await readFile(host.logPath, "utf8");
      const lines = log.split("\n").filter(line => line.includes(`"${words}"`));
      return lines.map(text => {
        const line = JSON.parse(text) as LogLine;
        return { host: hostOf(line, host.name), atMs: Date.parse(line.time) };
      });
    }),
  );
  return found.flat().sort((a, b) => a.atMs - b.atMs);
}

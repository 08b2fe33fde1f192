import { readFile } from "node:fs/promises";
import type { LabHost } from "../lab/lab.ts";
import type { DownMark } from "./core/history.ts";

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

const DOWN_WORDS = '"node is down"';

interface DownLine {
  readonly time: string;
  readonly hostname?: string;
}

/** Each time a leader gave a node up. */
export async function downMarks(managers: readonly LabHost[]): Promise<readonly DownMark[]> {
  const logs = await Promise.all(managers.map(host => readFile(host.logPath, "utf8")));
  return logs
    .flatMap(log => log.split("\n").filter(line => line.includes(DOWN_WORDS)))
    .map(line => JSON.parse(line) as DownLine)
    .map(({ time, hostname = "" }) => ({ host: hostname, atMs: Date.parse(time) }))
    .sort((a, b) => a.atMs - b.atMs);
}

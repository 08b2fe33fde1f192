import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Lab } from "../lab/lab.ts";
import { formatTimeline } from "./core/report.ts";
import type { RunResult } from "./run.ts";

/** What is kept of a run: its history as data, its timeline, and every host's logs. */
export async function keepRecords(dir: string, result: RunResult): Promise<void> {
  await mkdir(dir, { recursive: true });
  const { history, timeline, taskLog, violations } = result;
  const originMs = timeline[0]?.atMs ?? 0;
  const { requests, ...rest } = history;
  const lines = requests.map(request => JSON.stringify(request)).join("\n");
  await Promise.all([
    writeFile(join(dir, "requests.jsonl"), `${lines}\n`),
    writeFile(join(dir, "history.json"), `${JSON.stringify(rest, null, 1)}\n`),
    writeFile(join(dir, "violations.json"), `${JSON.stringify(violations, null, 1)}\n`),
    writeFile(join(dir, "timeline.txt"), formatTimeline(timeline, originMs)),
    writeFile(join(dir, "tasks.txt"), formatTimeline(taskLog, originMs)),
  ]);
}

export async function keepLogs(dir: string, lab: Lab): Promise<void> {
  for (const host of lab.hosts()) {
    const to = join(dir, host.name);
    await mkdir(to, { recursive: true });
    for (const [path, name] of [
      [host.logPath, "swarmd.log"],
      [host.engineLogPath, "dockerd.log"],
    ]) {
      if (path === undefined || name === undefined) continue;
      await cp(path, join(to, name), { force: true }).catch(() => undefined);
    }
  }
}

export async function dropRecords(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true });
}

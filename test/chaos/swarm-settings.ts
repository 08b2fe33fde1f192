import type { LabHost } from "../lab/lab.ts";
import { call } from "./api.ts";

/**
 * A run is short: with swarm mode's bounds its log would never be cut, and no manager would ever
 * have to start again from a snapshot.
 */
const SNAPSHOT_INTERVAL = 250;
const LOG_ENTRIES_FOR_SLOW_FOLLOWERS = 40;

interface SwarmAnswer {
  readonly Version: { readonly Index: number };
  readonly Spec: { readonly Raft: Readonly<Record<string, unknown>> };
}

export async function cutLogsOften([first]: readonly LabHost[]): Promise<void> {
  if (first === undefined) return;
  const swarm = (await call(first, "GET", "/swarm")).body as SwarmAnswer;
  const raft = {
    ...swarm.Spec.Raft,
    SnapshotInterval: SNAPSHOT_INTERVAL,
    LogEntriesForSlowFollowers: LOG_ENTRIES_FOR_SLOW_FOLLOWERS,
  };
  const spec = { ...swarm.Spec, Raft: raft };
  const path = `/swarm/update?version=${swarm.Version.Index}`;
  const { verdict, reply } = await call(first, "POST", path, spec);
  if (verdict.outcome !== "acknowledged") throw new Error(`POST ${path}: ${reply.text}`);
}

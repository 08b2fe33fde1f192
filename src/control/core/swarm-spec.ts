import type { SwarmSpec } from "../../model/rows.ts";
import type { SentSwarmSpec } from "../../model/validate-cluster.ts";

/** Fields for which 0 is a choice and not "not said" (pointers in Docker's types). */
const ZERO_COUNTS: ReadonlySet<string> = new Set([
  "ForceRotate",
  "KeepOldSnapshots",
  "TaskHistoryRetentionLimit",
]);

function isSaid(name: string, value: unknown): boolean {
  if (value === undefined || value === null || value === "") return false;
  return value !== 0 || ZERO_COUNTS.has(name);
}

function merge<Section extends object>(base: Section, sent: Partial<Section> | undefined): Section {
  const said = Object.entries(sent ?? {}).filter(([name, value]) => isSaid(name, value));
  return { ...base, ...Object.fromEntries(said) };
}

/**
 * Docker's reading of a SwarmSpec: a field that is absent, empty or 0 keeps what `base` has (moby
 * daemon/cluster/convert, MergeSwarmSpecToGRPC).
 */
export function mergeSwarmSpec(base: SwarmSpec, sent: SentSwarmSpec): SwarmSpec {
  return {
    Name: base.Name,
    Labels: { ...base.Labels, ...sent.Labels },
    Orchestration: merge(base.Orchestration, sent.Orchestration),
    Raft: merge(base.Raft, sent.Raft),
    Dispatcher: merge(base.Dispatcher, sent.Dispatcher),
    CAConfig: merge(base.CAConfig, sent.CAConfig),
    EncryptionConfig: merge(base.EncryptionConfig, sent.EncryptionConfig),
    TaskDefaults: merge(base.TaskDefaults, sent.TaskDefaults),
  };
}

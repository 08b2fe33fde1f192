import type { StateView } from "../model/view.ts";
import type { LogLimits } from "../raft/driver/options.ts";

/** The bounds of the Raft log as the cluster's spec has them; null before the cluster is known. */
export function logLimitsOf(view: StateView): LogLimits | null {
  const [cluster] = view.table("cluster").all();
  if (cluster === undefined) return null;
  const { SnapshotInterval, LogEntriesForSlowFollowers } = cluster.spec.Raft;
  return {
    // Docker's 0 takes none for their number; a log that grows too long is still cut.
    snapshotEntries: SnapshotInterval === 0 ? Number.POSITIVE_INFINITY : SnapshotInterval,
    logEntriesForSlowFollowers: LogEntriesForSlowFollowers,
  };
}

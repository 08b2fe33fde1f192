import t from "tap";
import { logLimitsOf } from "../../src/daemon/log-limits.ts";
import { DEFAULT_SWARM_SPEC } from "../../src/model/defaults.ts";
import type { StateView } from "../../src/model/view.ts";

/** A view of nothing but the cluster's row. */
function viewOf(raft: Partial<typeof DEFAULT_SWARM_SPEC.Raft> | null): StateView {
  const row = { spec: { ...DEFAULT_SWARM_SPEC, Raft: { ...DEFAULT_SWARM_SPEC.Raft, ...raft } } };
  return { table: () => ({ all: () => (raft === null ? [] : [row]) }) } as never;
}

t.test("bounds of the log", async t => {
  t.equal(logLimitsOf(viewOf(null)), null, "no cluster is known yet");
  t.same(logLimitsOf(viewOf({})), { snapshotEntries: 10_000, logEntriesForSlowFollowers: 500 });
  t.same(logLimitsOf(viewOf({ SnapshotInterval: 300, LogEntriesForSlowFollowers: 0 })), {
    snapshotEntries: 300,
    logEntriesForSlowFollowers: 0,
  });
  const never = logLimitsOf(viewOf({ SnapshotInterval: 0 }));
  t.equal(never?.snapshotEntries, Number.POSITIVE_INFINITY);
});

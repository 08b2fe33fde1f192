import t from "tap";
import { OWN_RAFT_DIR, runEtcdRaft } from "../golden/etcd-raft.ts";

t.test("etcd/raft's suites", async t => {
  for (const { file, total, passed, skipped, failures } of runEtcdRaft()) {
    t.same(failures, [], file);
    const skips = [...skipped.values()].reduce((sum, count) => sum + count, 0);
    t.equal(passed + skips, total, `${file}: every directive passed or was skipped with a reason`);
  }
});

t.test("own scripts", async t => {
  const results = runEtcdRaft(OWN_RAFT_DIR);
  t.ok(results.length > 0);
  for (const { file, total, passed, failures } of results) {
    t.same(failures, [], file);
    t.equal(passed, total, file);
  }
});

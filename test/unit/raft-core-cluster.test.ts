import t from "tap";
import { bytes, TestCluster } from "../support/raft-cluster.ts";

t.test("three nodes elect, replicate, apply in order", async t => {
  const cluster = new TestCluster(3);
  cluster.tickUntil("a leader", () => cluster.leader !== undefined);
  const leader = cluster.mustLead();
  for (const value of ["a", "b", "c"]) {
    t.match(leader.core.propose([bytes(value)]), { ok: true, term: leader.status.term });
  }
  cluster.settle();
  for (const node of cluster.nodes.values()) t.same(node.values(), ["a", "b", "c"]);
});

t.test("a follower refuses proposals", async t => {
  const cluster = new TestCluster(3);
  cluster.elect(1);
  t.same(cluster.node(2).core.propose([bytes("x")]), { ok: false, reason: "not-leader" });
});

t.test("the majority goes on without the leader, which catches up later", async t => {
  const cluster = new TestCluster(3);
  const old = cluster.elect(1);
  old.core.propose([bytes("before")]);
  cluster.settle();
  cluster.isolate(1);
  old.core.propose([bytes("lost")]);
  cluster.tickUntil("a new leader", () => cluster.mustLead() !== old);
  cluster.mustLead().core.propose([bytes("after")]);
  cluster.tick();
  t.same(old.values(), ["before"], "nothing commits in the minority");
  cluster.heal();
  cluster.tickUntil("catching up", () => old.values().includes("after"));
  t.same(old.values(), ["before", "after"]);
  t.equal(old.status.role, "follower");
});

t.test("a crashed node comes back with what it had acknowledged", async t => {
  const cluster = new TestCluster(3);
  cluster.elect(1).core.propose([bytes("a")]);
  cluster.settle();
  for (const node of cluster.nodes.values()) node.crash();
  cluster.tickUntil("a leader", () => cluster.leader !== undefined);
  cluster.mustLead().core.propose([bytes("b")]);
  cluster.settle();
  for (const node of cluster.nodes.values()) t.same(node.values(), ["a", "b"]);
});

t.test("a node far behind gets a snapshot and then the log", async t => {
  const cluster = new TestCluster(3);
  const leader = cluster.elect(1);
  cluster.isolate(3);
  for (let i = 0; i < 20; i += 1) leader.core.propose([bytes(`v${i}`)]);
  cluster.settle();
  leader.compact(2);
  leader.core.propose([bytes("last")]);
  cluster.settle();
  cluster.heal();
  cluster.tickUntil("catching up", () => cluster.node(3).values().length === 21);
  t.same(cluster.node(3).values(), leader.values());
  t.ok(cluster.node(3).disk.snapshot, "by a snapshot");
});

import { join } from "node:path";
import t from "tap";
import { movedState } from "../../src/daemon/move.ts";
import { type NodeState, NodeStateFile } from "../../src/daemon/node-state.ts";
import { eventually } from "../support/eventually.ts";
import { GrpcNode } from "../support/raft-grpc-node.ts";

const never = new AbortController().signal;

const INTERFACES = {
  lo: [{ address: "127.0.0.1", internal: true }],
  eth0: [{ address: "10.0.0.5", internal: false }],
};

function state(fields: Partial<NodeState>): NodeState {
  return {
    format: 1,
    listenAddr: "0.0.0.0:2377",
    advertiseAddr: "10.0.0.4:2377",
    dataPathAddr: "",
    raftId: 9,
    raftJoined: true,
    managers: ["10.0.0.4:2377", "10.0.0.7:2377"],
    ...fields,
  };
}

t.test("when the advertised address follows the host", async t => {
  const asked = { setting: "eth0", asked: true };
  const configured = { setting: "eth0", asked: false };
  const found = { setting: "", asked: false };
  const cases: readonly [string, NodeState["advertised"] | null, string, string][] = [
    ["the setting is new", { setting: "", asked: true }, "10.0.0.9", "10.0.0.9:2377"],
    ["the setting has a port", asked, "10.0.0.9:2399", "10.0.0.9:2399"],
    ["init named it, the setting is as it was", asked, "eth0", "10.0.0.4:2377"],
    ["its interface has another address now", configured, "eth0", "10.0.0.5:2377"],
    ["nothing is known of how it came about", null, "eth0", "10.0.0.5:2377"],
    ["nothing is set and nothing known", null, "", "10.0.0.4:2377"],
    ["it was found, and is gone", found, "", "10.0.0.5:2377"],
    ["init named one that is no interface's", { setting: "", asked: true }, "", "10.0.0.4:2377"],
    ["the setting is gone", configured, "", "10.0.0.4:2377"],
  ];
  for (const [what, advertised, setting, expected] of cases) {
    const before = state(advertised === null || advertised === undefined ? {} : { advertised });
    const after = movedState(before, { advertiseAddr: setting }, INTERFACES);
    t.equal(after.advertiseAddr, expected, what);
    const again = movedState(after, { advertiseAddr: setting }, INTERFACES);
    t.equal(again, after, `${what}: settled`);
  }
  const here = state({ advertised: found, advertiseAddr: "10.0.0.5:2377" });
  t.equal(movedState(here, { advertiseAddr: "" }, INTERFACES), here);
  const two = { ...INTERFACES, eth1: [{ address: "10.1.0.5", internal: false }] };
  const unclear = state({ advertised: found });
  t.equal(movedState(unclear, { advertiseAddr: "" }, two), unclear, "two to choose from");
  t.throws(() => movedState(unclear, { advertiseAddr: "eth7" }, INTERFACES), {
    code: "invalid_argument",
  });
});

t.test("what goes with the address", async t => {
  const before = state({ listenAddr: "10.0.0.4:2377" });
  const after = movedState(before, { advertiseAddr: "10.0.0.5" }, INTERFACES);
  t.equal(after.listenAddr, "10.0.0.5:2377");
  t.same(after.managers, ["10.0.0.7:2377", "10.0.0.5:2377"]);
  const worker = state({ managers: ["10.0.0.7:2377"] });
  const moved = movedState(worker, { advertiseAddr: "10.0.0.5" }, INTERFACES);
  t.same(moved.managers, ["10.0.0.7:2377"]);
  t.equal(moved.listenAddr, "0.0.0.0:2377");
  const file = new NodeStateFile(join(t.testdir(), "node.json"));
  await Promise.all([file.save(before), file.save(worker), file.save(after)]);
  t.same(await file.load(), after, "saves that overlap are kept in order");
});

t.test("a member is followed to another address before the log says so", async t => {
  const dir = t.testdir();
  const first = await GrpcNode.start({ raftId: 1, start: "bootstrap", dir: `${dir}/1` });
  await eventually(() => first.leads, { what: "the first leads" });
  const second = await GrpcNode.start({ raftId: 2, start: "join", dir: `${dir}/2` });
  await first.driver.addMember(second.self, never);
  await eventually(() => first.driver.status().conf.voters.length === 2, { what: "two vote" });
  await second.stop();
  // Of two, both are needed: the address can be agreed on only if the leader follows at once.
  const back = await GrpcNode.start({ raftId: 2, start: "restart", dir: `${dir}/2` });
  t.not(back.self.addr, second.self.addr);
  await eventually(() => [first, back].some(node => node.leads), { what: "one leads" });
  const leader = first.leads ? first : back;
  await leader.driver.addMember(back.self, never);
  const row = leader.machine.members().find(({ raftId }) => raftId === 2);
  t.equal(row?.addr, back.self.addr);
  await leader.driver.propose(Buffer.from("on the new address"), never);
  await Promise.all([first.stop(), back.stop()]);
});

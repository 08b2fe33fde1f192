import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { IDLE_LEASE_MS, type LeaseRow, LocalLeases } from "../../src/overlay/leases.ts";
import { LocalState } from "../../src/overlay/local-state.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

interface World {
  readonly clock: VirtualClock;
  readonly state: LocalState;
  readonly leases: LocalLeases;
  readonly rows: LeaseRow[];
  readonly released: string[];
  readonly found: string[];
  /** Addresses that somebody else has by now. */
  readonly taken: Set<string>;
}

async function world(t: Test): Promise<World> {
  const dir = mkdtempSync(join(tmpdir(), "leases-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock();
  const state = await LocalState.open(dir);
  const [rows, released, found]: [LeaseRow[], string[], string[]] = [[], [], []];
  const taken = new Set<string>();
  const onFound = (networkId: string, what: string): void =>
    void found.push(`${networkId}: ${what}`);
  const deps = { state, rows: () => rows, onFound, clock, logger: silentLogger };
  const leases = new LocalLeases(deps);
  leases.source = {
    lease: async (networkId, { family, address }) => {
      if (taken.has(address ?? "")) throw new SwarmError("resource_exhausted", "is somebody's");
      const addr = address ?? (family === "ipv6" ? "fd00:4::7" : "10.4.0.7");
      const taskId = `row-${family}${address === undefined ? "" : "-again"}`;
      rows.push({ taskId, networkId, addr });
      return { taskId, address: `${addr}/${family === "ipv6" ? 64 : 24}` };
    },
    release: async taskId => {
      released.push(taskId);
      const at = rows.findIndex(row => row.taskId === taskId);
      if (at >= 0) rows.splice(at, 1);
    },
  };
  return { clock, state, leases, rows, released, found, taken };
}

/** Two looks, one long after the other. */
async function audits({ leases, clock }: World): Promise<void> {
  await leases.audit();
  clock.advance(IDLE_LEASE_MS);
  await leases.audit();
}

function join4({ state }: World): void {
  const place = { networkId: "net", addr: "10.4.0.7", addr6: "fd00:4::7" };
  const rest = { mac: "02:42:0a:04:00:07", device: "sw1", sandbox: "/var/run/docker/netns/a" };
  state.endpoints.set("e", { id: "e", ...place, ...rest });
}

t.test("addresses of both families are kept while a container has them", async t => {
  const w = await world(t);
  await w.leases.take("net", { family: "ipv4" });
  await w.leases.take("net", { family: "ipv6" });
  join4(w);
  await audits(w);
  t.same(w.released, []);
  w.state.endpoints.delete("e");
  await audits(w);
  t.same(w.released, ["row-ipv4", "row-ipv6"], "and go when it is gone without a word");
  t.same(w.found, []);
});

t.test("a row that nobody here has heard of is given back", async t => {
  const w = await world(t);
  w.rows.push({ taskId: "lost", networkId: "net", addr: "10.4.0.9" });
  await w.leases.audit();
  t.same(w.released, [], "its answer may be under way");
  w.clock.advance(IDLE_LEASE_MS - 1);
  await w.leases.audit();
  t.same(w.released, []);
  w.clock.advance(1);
  await w.leases.audit();
  t.same(w.released, ["lost"]);
  t.match(w.found, [
    /^net: 10\.4\.0\.9 was held for a container that is not here: it is given back/,
  ]);
});

t.test("a container whose row is gone gets another, or is reported", async t => {
  const w = await world(t);
  await w.leases.take("net", { family: "ipv4" });
  join4(w);
  w.rows.length = 0;
  await audits(w);
  t.same(w.rows, [{ taskId: "row-ipv4-again", networkId: "net", addr: "10.4.0.7" }]);
  t.same([...w.state.leases.values()], ["row-ipv4-again"]);
  t.match(w.found, [/no row held 10\.4\.0\.7 for its container: one does now/]);
  w.rows.length = 0;
  w.taken.add("10.4.0.7");
  await audits(w);
  t.match(w.found.at(-1), /no row holds 10\.4\.0\.7 for its container: is somebody's/);
  t.same(w.released, [], "what another has is not given away");
});

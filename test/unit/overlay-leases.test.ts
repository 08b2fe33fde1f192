import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { IDLE_LEASE_MS, LocalLeases } from "../../src/overlay/leases.ts";
import { LocalState } from "../../src/overlay/local-state.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

t.test("addresses of both families are kept while a container has them", async t => {
  const dir = mkdtempSync(join(tmpdir(), "leases-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock();
  const state = await LocalState.open(dir);
  const leases = new LocalLeases({ state, clock, logger: silentLogger });
  const released: string[] = [];
  leases.source = {
    lease: async (_networkId, { family }) => ({
      taskId: `row-${family}`,
      address: family === "ipv6" ? "fd00:4::7/64" : "10.4.0.7/24",
    }),
    release: async taskId => void released.push(taskId),
  };
  await leases.take("net", { family: "ipv4" });
  await leases.take("net", { family: "ipv6" });
  const place = { networkId: "net", addr: "10.4.0.7", addr6: "fd00:4::7" };
  const rest = { mac: "02:42:0a:04:00:07", device: "sw1", sandbox: "/var/run/docker/netns/a" };
  state.endpoints.set("e", { id: "e", ...place, ...rest });
  const audits = async (): Promise<void> => {
    await leases.audit();
    await clock.advance(IDLE_LEASE_MS);
    await leases.audit();
  };
  await audits();
  t.same(released, []);
  state.endpoints.delete("e");
  await audits();
  t.same(released, ["row-ipv4", "row-ipv6"], "and go when it is gone without a word");
});

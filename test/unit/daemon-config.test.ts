import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { resolveAdvertiseAddr, resolveListenAddr } from "../../src/daemon/addresses.ts";
import { loadConfig } from "../../src/daemon/config.ts";
import { lockDataDir } from "../../src/daemon/data-dir.ts";
import { NodeStateFile } from "../../src/daemon/node-state.ts";

function scratch(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-unit-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

t.test("configuration: flags win over environment, file and defaults", async t => {
  const path = join(scratch(t), "swarmd.yaml");
  writeFileSync(path, "data-dir: /from/file\nlog-level: warn\nraft-tick-ms: 50\n");
  const config = loadConfig({
    flags: { "data-dir": "/from/flag" },
    env: { SWARMD_DATA_DIR: "/from/env", SWARMD_LOG_LEVEL: "debug" },
    file: { path, required: true },
  });
  t.equal(config.dataDir, "/from/flag");
  t.equal(config.logLevel, "debug");
  t.equal(config.raftTickMs, 50);
  t.equal(config.socket, "/run/swarmd/swarmd.sock");
});

t.test(
  "configuration: addresses are looked at when the daemon starts, not at the first join",
  async t => {
    const load = (addr: string) =>
      loadConfig({
        flags: { "listen-addr": addr, "advertise-addr": addr },
        env: {},
        file: { path: "/nonexistent/swarmd.yaml", required: false },
      }).advertiseAddr;
    for (const good of [
      "",
      "10.0.0.1",
      "10.0.0.1:2377",
      "eth0",
      "eth0:4000",
      "::1",
      "[fe80::1]:1",
    ]) {
      t.equal(load(good), good);
    }
    const bad = [
      "x:99999999",
      "300.1.1.1",
      "10.0.0.1:0",
      "eth0:",
      "2377",
      "[10.0.0.1]:1",
      "a:b:c",
      "eth0:x",
    ];
    for (const addr of bad) {
      t.throws(
        () => load(addr),
        /--listen-addr takes an IP .*\n.*--advertise-addr takes an IP/,
        addr,
      );
    }
  },
);

t.test("configuration: every fault is named at once", async t => {
  const path = join(scratch(t), "swarmd.yaml");
  writeFileSync(path, "data-dri: /x\nlog-level: loud\n");
  try {
    loadConfig({
      flags: { "raft-tick-ms": "1", socket: "relative" },
      env: {},
      file: { path, required: true },
    });
    t.fail("accepted");
  } catch (error) {
    const text = String(error);
    for (const part of [
      "data-dri",
      "log-level",
      "raft-tick-ms",
      "--socket takes an absolute path",
    ]) {
      t.match(text, part);
    }
  }
  const missing = { path: "/nonexistent/swarmd.yaml", required: true };
  t.throws(() => loadConfig({ flags: {}, env: {}, file: missing }), /ENOENT/);
  const optional = loadConfig({ flags: {}, env: {}, file: { ...missing, required: false } });
  t.equal(optional.listenAddr, "0.0.0.0:2377");
});

const INTERFACES = {
  lo: [{ address: "127.0.0.1", internal: true }],
  eth0: [
    { address: "10.0.0.5", internal: false },
    { address: "fe80::1", internal: false },
  ],
  docker0: [{ address: "172.17.0.1", internal: false }],
};

t.test("addresses", async t => {
  t.equal(resolveListenAddr("", INTERFACES), "0.0.0.0:2377");
  t.equal(resolveListenAddr("eth0:4000", INTERFACES), "10.0.0.5:4000");
  t.throws(() => resolveListenAddr("nope:1", INTERFACES), /listen address must be an IP address/);
  t.equal(resolveAdvertiseAddr("", "0.0.0.0:2377", INTERFACES), "10.0.0.5:2377");
  t.equal(resolveAdvertiseAddr("eth0", "0.0.0.0:9", INTERFACES), "10.0.0.5:9");
  t.equal(resolveAdvertiseAddr("192.0.2.1:5", "0.0.0.0:9", INTERFACES), "192.0.2.1:5");
  t.throws(() => resolveAdvertiseAddr("0.0.0.0", "0.0.0.0:2377", INTERFACES), /non-zero IP/);
  t.throws(
    () => resolveAdvertiseAddr("nosuchif0", "0.0.0.0:2377", INTERFACES),
    /advertise address/,
  );
  const two = { ...INTERFACES, eth1: [{ address: "10.1.0.5", internal: false }] };
  t.throws(
    () => resolveAdvertiseAddr("", "0.0.0.0:2377", two),
    /10.0.0.5 on eth0 and 10.1.0.5 on eth1/,
  );
});

t.test("the data directory has one owner", async t => {
  const dir = join(scratch(t), "data");
  const lock = await lockDataDir(dir);
  await t.rejects(lockDataDir(dir), {
    code: "failed_precondition",
    message: new RegExp(`another swarmd \\(pid ${process.pid}\\) uses the data directory`),
  });
  await lock.release();
  const again = await lockDataDir(dir);
  await again.release();
});

t.test("node state survives, and damage is refused", async t => {
  const path = join(scratch(t), "node.json");
  const file = new NodeStateFile(path);
  t.equal(await file.load(), null);
  const state = {
    format: 1 as const,
    listenAddr: "0.0.0.0:2377",
    advertiseAddr: "10.0.0.5:2377",
    dataPathAddr: "",
    raftId: 7,
    raftJoined: true,
    managers: ["10.0.0.5:2377"],
  };
  await file.save(state);
  t.same(await file.load(), state);
  for (const text of ["", "{", "[]", '{"format":2}', '{"format":1,"raftId":"x"}']) {
    writeFileSync(path, text);
    await t.rejects(file.load(), { code: "data_loss" }, text);
  }
  await file.remove();
  t.equal(await file.load(), null);
});

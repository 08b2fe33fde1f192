import fc from "fast-check";
import t from "tap";
import { countFlag, listFlag, parseArgs, usage, VERBS } from "../lab/args.ts";
import { clusterFault, type NodeView } from "../lab/cluster.ts";
import { UsageError } from "../lab/errors.ts";
import { hostsFile } from "../lab/network.ts";
import {
  blockedPairs,
  hostPaths,
  hostScope,
  labTag,
  MAX_MANAGERS,
  MAX_WORKERS,
  planHost,
  planHosts,
  socketPathFault,
  underlayName,
} from "../lab/plan.ts";
import { tar } from "../lab/tar.ts";

/** IFNAMSIZ less its closing zero. */
const MAX_INTERFACE_NAME = 15;

t.test("arguments", async t => {
  t.test("become a command", async t => {
    t.same(parseArgs(["exec", "m1", "--", "ip", "-o", "addr"]), {
      verb: "exec",
      hosts: ["m1"],
      flags: {},
      rest: ["ip", "-o", "addr"],
    });
    t.same(parseArgs(["partition", "m1", "w2", "--one-way"]).flags, { "one-way": true });
    t.same(parseArgs(["logs", "-f", "m1", "-n", "20"]).flags, { follow: true, lines: "20" });
    const up = parseArgs(["up", "--managers=5", "--engine-arg", "-D", "--engine-arg=-l=debug"]);
    t.equal(countFlag(up.flags, "managers", 3), 5);
    t.equal(countFlag(up.flags, "workers", 2), 2);
    t.same(listFlag(up.flags, "engine-arg"), ["-D", "-l=debug"]);
    t.same(listFlag(up.flags, "daemon-arg"), []);
  });

  const refused: readonly (readonly [args: string, message: RegExp])[] = [
    ["", /no verb/],
    ["fly", /unknown verb "fly"/],
    ["constructor", /unknown verb/],
    ["kill", /kill takes HOST, 0 given/],
    ["kill m1 m2", /kill takes HOST, 2 given/],
    ["down m1", /down takes no host/],
    ["partition m1", /takes A and B, 1 given/],
    ["kill --now m1", /kill has no flag --now/],
    ["kill m1 -- ls", /takes no "--"/],
    ["exec m1", /needs a command/],
    ["exec m1 --", /needs a command/],
    ["exec m1 ls", /2 given/],
    ["up --managers", /--managers needs a value/],
    ["up --managers 0", /whole number from 1 to 9, not "0"/],
    ["up --managers -3", /not "-3"/],
    ["up --workers 2.5", /not "2.5"/],
    ["up --workers NaN", /not "NaN"/],
    ["up --workers 101", /from 0 to 100/],
    ["up --bare=yes", /--bare takes no value/],
  ];
  t.test("that are wrong are refused with the reason", async t => {
    for (const [args, message] of refused) {
      const argv = args.split(" ").filter(word => word !== "");
      t.throws(() => parseArgs(argv), { message, name: "UsageError" }, args);
    }
  });

  t.test("never end in anything but a command or a usage error", async () => {
    const words = ["--", "m1", "w1", "--bare", "--lines", "-n", "-f", "=", "", "--managers=x"];
    const word = fc.oneof(fc.constantFrom(...Object.keys(VERBS), ...words), fc.string());
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), argv => {
        try {
          return Object.hasOwn(VERBS, parseArgs(argv).verb);
        } catch (error) {
          return error instanceof UsageError;
        }
      }),
    );
  });

  t.test("are all in the usage", async t => {
    for (const verb of Object.keys(VERBS)) t.match(usage(), new RegExp(`^  ${verb}\\b`, "m"));
  });
});

t.test("addresses and names", async t => {
  const all = planHosts(MAX_MANAGERS, MAX_WORKERS);

  t.test("are fixed by the host's name", async t => {
    t.match(planHost("m1"), {
      addr: "10.77.0.1",
      addr6: "fd77::01",
      role: "manager",
      mac: "02:77:00:00:00:01",
    });
    t.match(planHost("w2"), { addr: "10.77.0.102", role: "worker", mac: "02:77:00:00:00:66" });
    t.same(
      all.map(host => planHost(host.name)),
      all,
    );
  });

  t.test("are unique and fit the kernel's limits", async t => {
    for (const key of ["name", "addr", "mac"] as const) {
      t.equal(new Set(all.map(host => host[key])).size, all.length, key);
    }
    t.ok(all.every(host => host.name.length <= MAX_INTERFACE_NAME));
    t.ok(all.every(host => host.index > 0 && host.index < 254));
  });

  t.test("of other hosts do not exist", async t => {
    for (const name of ["", "m", "m0", "x1", "m01", "m1 ", "w1000", "../m1"]) {
      t.throws(() => planHost(name), RangeError, name);
    }
  });

  t.test("differ from checkout to checkout", async t => {
    t.not(labTag("/a/.lab"), labTag("/b/.lab"));
    t.match(underlayName("/a/.lab"), /^swarmd-lab-[0-9a-f]{6}-net$/);
    t.equal(hostScope("/a/.lab", "m1"), `swarmd-lab-${labTag("/a/.lab")}-m1`);
    t.ok(all.every(host => hostScope("/a/.lab", host.name) !== underlayName("/a/.lab")));
  });

  t.test("of sockets that the kernel would refuse are told", async t => {
    t.equal(socketPathFault("/work/checkout/.lab"), null);
    t.match(socketPathFault(`/${"x".repeat(100)}/.lab`), /may have 107/);
    t.equal(hostPaths("/a/.lab", "m1").socket, "/a/.lab/m1/swarmd.sock");
  });

  t.test("are known to the hosts", async t => {
    t.equal(hostsFile(1, 1), "127.0.0.1 localhost\n10.77.0.1 m1\n10.77.0.101 w1\n");
  });
});

t.test("a partition is one direction or two", async t => {
  t.same(blockedPairs("m1", "m2", true), ['"m1" . "m2"']);
  t.same(blockedPairs("m1", "m2", false), ['"m1" . "m2"', '"m2" . "m1"']);
});

t.test("a cluster is whole when every host is a ready node in its role", async t => {
  const hosts = [planHost("m1"), planHost("w1")];
  const m1: NodeView = {
    ID: "a",
    Description: { Hostname: "m1" },
    Status: { State: "ready" },
    ManagerStatus: { Reachability: "reachable", Leader: true },
  };
  const w1: NodeView = { ID: "b", Description: { Hostname: "w1" }, Status: { State: "ready" } };
  t.equal(clusterFault([m1, w1], hosts), null);
  t.match(clusterFault([m1], hosts), /w1 is not in the cluster/);
  t.match(clusterFault([m1, { ...w1, Status: { State: "down" } }], hosts), /w1 is down/);
  t.match(clusterFault([{ ...m1, ManagerStatus: null }, w1], hosts), /m1 is no manager/);
  const lost = { ...m1, ManagerStatus: { Reachability: "unreachable" } };
  t.match(clusterFault([lost, w1], hosts), /manager m1 is unreachable/);
  t.match(clusterFault([m1, w1, { ...w1, ID: "c" }], hosts), /3 nodes for 2 hosts/);
});

t.test("an archive holds what was put in, padded to blocks", async t => {
  const content = Buffer.from("hello");
  const archive = tar([{ path: "a/b", kind: "file", mode: 0o755, content }]);
  t.equal(archive.length, 512 + 512 + 1024);
  t.equal(archive.toString("latin1", 0, 3), "a/b");
  t.equal(archive.toString("latin1", 100, 107), "0000755");
  t.equal(archive.toString("latin1", 124, 135), "00000000005");
  t.equal(archive.toString("latin1", 257, 265), "ustar\u000000");
  t.equal(archive.toString("latin1", 512, 517), "hello");
  t.throws(() => tar([{ path: "x".repeat(101), kind: "file", mode: 0 }]), /name too long/);
});

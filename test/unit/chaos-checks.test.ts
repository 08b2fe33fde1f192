import t from "tap";
import { checkContainers, explainEnds, scaleDownBudget } from "../chaos/core/check-containers.ts";
import { COPIES_RULE, checkCopies } from "../chaos/core/check-copies.ts";
import {
  checkQuorumLoss,
  checkReads,
  checkWrites,
  PROMPT_MS,
  PROMPT_RULE,
  READ_RULE,
  WRITE_RULE,
} from "../chaos/core/check-writes.ts";
import {
  ContainerLog,
  GENERATION_LABEL,
  SERVICE_LABEL,
  TASK_LABEL,
} from "../chaos/core/container-log.ts";
import { LOST_AFTER_MS, merged, silences, withoutQuorum } from "../chaos/core/disturbances.ts";
import type { ContainerRecord, RequestRecord, Value } from "../chaos/core/history.ts";
import { idleElections, longestGaps, summary } from "../chaos/core/report.ts";
import {
  container,
  fault,
  history,
  read,
  SHAPE,
  stopped,
  write,
} from "../support/chaos-history.ts";

const CREATED = write("service/app", "w1", { action: "create", shape: SHAPE });

/** Rules broken by these requests and this final state. */
function broken(requests: readonly RequestRecord[], final: Readonly<Record<string, Value>>) {
  const state = { via: "m2", values: new Map(Object.entries(final)) };
  const run = history({ requests });
  const found = [...checkReads(run), ...checkWrites(run, state)];
  return found.map(({ rule, text }) => ({ rule, text }));
}

t.test("acknowledged writes stay", async t => {
  const later = { startMs: 2_000 };
  const unknown = { ...later, outcome: "unknown" } as const;
  const refused = { ...later, outcome: "refused" } as const;

  await t.test("what was granted is there", async t => {
    t.same(broken([CREATED], { "service/app": "w1" }), []);
    t.match(broken([CREATED], {}), [{ rule: WRITE_RULE, text: /app is absent at m2.*"w1"/ }]);
    const updated = [CREATED, write("service/app", "w2", later)];
    t.same(broken(updated, { "service/app": "w2" }), []);
    t.match(broken(updated, { "service/app": "w1" }), [{ rule: WRITE_RULE }], "an update is lost");
  });

  await t.test("what was removed is gone", async t => {
    const removed = [CREATED, write("service/app", null, later)];
    t.same(broken(removed, {}), []);
    t.match(broken(removed, { "service/app": "w1" }), [{ rule: WRITE_RULE }], "it came back");
  });

  await t.test("what was refused never was", async t => {
    const created = write("secret/s", "w1", { ...refused, action: "create" });
    t.same(broken([created], {}), []);
    t.match(broken([created], { "secret/s": "w1" }), [{ rule: WRITE_RULE }]);
    const updated = [CREATED, write("service/app", "w2", refused)];
    t.match(broken(updated, { "service/app": "w2" }), [{ rule: WRITE_RULE }]);
  });

  await t.test("what is unknown may be so or so, and nothing else", async t => {
    const updated = [CREATED, write("service/app", "w2", unknown)];
    t.same(broken(updated, { "service/app": "w1" }), []);
    t.same(broken(updated, { "service/app": "w2" }), []);
    t.match(broken(updated, { "service/app": "w3" }), [{ rule: WRITE_RULE }]);
    t.match(broken(updated, {}), [{ rule: WRITE_RULE }]);
  });

  await t.test("an unknown update cannot come about after a granted one", async t => {
    const updated = [
      CREATED,
      write("service/app", "w2", unknown),
      write("service/app", "w3", { startMs: 3_000 }),
    ];
    t.same(broken(updated, { "service/app": "w3" }), []);
    t.match(broken(updated, { "service/app": "w2" }), [{ rule: WRITE_RULE }]);
  });

  await t.test("an unknown removal can", async t => {
    const writes = [
      CREATED,
      write("service/app", null, unknown),
      write("service/app", "w3", { startMs: 3_000 }),
    ];
    t.same(broken(writes, { "service/app": "w3" }), []);
    t.same(broken(writes, {}), []);
  });

  await t.test("of two updates of one version one is granted", async t => {
    const one = write("service/app", "w2", { startMs: 2_000, base: 7 });
    const two = write("service/app", "w3", { startMs: 2_000, base: 7 });
    const final = { "service/app": "w3" };
    t.match(broken([CREATED, one, two], final), [{ rule: WRITE_RULE, text: /app version 7/ }]);
    t.same(broken([CREATED, { ...one, outcome: "unknown" }, two], final), []);
    t.same(broken([CREATED, one, { ...two, base: 8 }], final), []);
  });

  await t.test("an object that nobody asked for is one too many", async t => {
    t.match(broken([], { "config/x": "w9" }), [{ rule: WRITE_RULE, text: /only be absent/ }]);
  });

  await t.test("a read that shows an unknown write settles it", async t => {
    const seen = [
      CREATED,
      write("service/app", "w2", unknown),
      read("service/app", "w2", { startMs: 3_000 }),
    ];
    t.same(broken(seen, { "service/app": "w2" }), []);
    t.match(broken(seen, { "service/app": "w1" }), [{ rule: WRITE_RULE }]);
  });
});

t.test("reads are linearizable", async t => {
  const updated = [CREATED, write("service/app", "w2", { startMs: 2_000 })];
  const after = (value: Value | undefined) => [
    ...updated,
    read("service/app", value, { startMs: 3_000, via: "m3" }),
  ];
  const final = { "service/app": "w2" };
  t.same(broken(after("w2"), final), []);
  t.same(broken(after(undefined), final), [], "no answer says nothing");
  t.match(broken(after("w1"), final), [{ rule: READ_RULE, text: /through m3 gave "w1"/ }]);
  t.match(broken(after(null), final), [{ rule: READ_RULE, text: /gave absent/ }]);
});

const LOSS = fault(
  "quorum-loss",
  [
    { kind: "kill", host: "m1" },
    { kind: "cut", host: "m2" },
  ],
  10_000,
  20_000,
);

t.test("a minority refuses promptly", async t => {
  const rules = (requests: readonly RequestRecord[]) =>
    checkQuorumLoss(history({ requests, faults: [LOSS] })).map(one => `${one.rule}: ${one.text}`);
  const inside = { startMs: 11_000, endMs: 16_000, via: "m3" };
  const refused = { ...inside, outcome: "refused" } as const;
  t.same(rules([write("config/p", "w1", refused)]), []);
  t.match(rules([write("config/p", "w1", inside)]), [/^G8.*was granted though/]);
  t.match(rules([read("config/p", "w1", inside)]), [/^G8.*was granted though/]);
  t.same(rules([write("config/p", "w1", { ...inside, endMs: 20_500 })]), [], "after the heal");
  t.same(rules([write("config/p", "w1", { ...inside, startMs: 9_000 })]), [], "from before");
  const slow = { ...refused, endMs: inside.startMs + PROMPT_MS + 1 };
  t.match(rules([write("config/p", "w1", slow)]), [/answered after 12001 ms/]);
  t.match(rules([write("config/p", "w1", { ...slow, via: "m2" })]), [/answered/], "cut off, awake");
  t.same(rules([write("config/p", "w1", { ...slow, via: "m1" })]), [], "a killed one cannot");
  const busy = { requests: [write("config/p", "w1", slow)], faults: [LOSS] };
  const lag = (atMs: number) => history({ ...busy, lags: [{ atMs, lateMs: 1_500 }] });
  t.same(checkQuorumLoss(lag(12_000)), [], "the machine stood still");
  t.equal(checkQuorumLoss(lag(1_000)).length, 1, "before that");
  t.ok(PROMPT_RULE.startsWith("G8"));
});

t.test("when there is no quorum", async t => {
  const managers = ["m1", "m2", "m3"];
  t.same(withoutQuorum(managers, [LOSS]).at(0), { fromMs: 10_000, toMs: 20_000 });
  const first = fault("leader-kill", [{ kind: "kill", host: "m1" }], 0, 10_000);
  const second = fault("follower-cut", [{ kind: "cut", host: "m2" }], 4_000, 20_000);
  t.same(withoutQuorum(managers, [first, second]), [{ fromMs: 4_000, toMs: 10_000 }]);
  t.same(withoutQuorum(managers, [first]), []);
  const again = fault("leader-pause", [{ kind: "pause", host: "m1" }], 4_000, 20_000);
  t.same(withoutQuorum(managers, [first, again]), [], "the same manager twice");
  const worker = fault("worker-cut", [{ kind: "cut", host: "w1" }], 4_000, 20_000);
  t.same(withoutQuorum(managers, [first, worker]), []);
});

function causes(
  containers: readonly ContainerRecord[],
  given: Parameters<typeof history>[0] = {},
): readonly (string | null)[] {
  const run = history({ requests: [CREATED], ...given, containers });
  const ends = explainEnds(run);
  const unexplained = ends.filter(end => end.cause === null).length;
  t.equal(checkContainers(run).length, unexplained, "each one is a violation");
  return ends.map(end => end.cause);
}

t.test("ends of containers", async t => {
  await t.test("a stop that nobody asked for is found", async t => {
    t.same(causes([container({ end: stopped(30_000) })]), [null]);
    const [violation] = checkContainers(
      history({ requests: [CREATED], containers: [container({ end: stopped(30_000) })] }),
    );
    t.match(violation, { rule: /^G4/, text: /service app.* on w1 was stopped, exit code 0/ });
    t.same(causes([container()]), [], "one that runs needs no reason");
  });

  await t.test("a leader's death explains nothing", async t => {
    const faults = [fault("leader-kill", [{ kind: "kill", host: "m1" }], 20_000, 40_000)];
    t.same(causes([container({ end: stopped(30_000) })], { faults }), [null]);
  });

  await t.test("removal", async t => {
    const removal = write("service/app", null, { startMs: 29_000 });
    const end = stopped(30_000);
    t.same(causes([container({ end })], { requests: [CREATED, removal] }), ["service removed"]);
    const early = container({ end: stopped(20_000) });
    t.same(causes([early], { requests: [CREATED, removal] }), [null], "stopped before");
    const refused = { ...removal, outcome: "refused" } as const;
    t.same(causes([container({ end })], { requests: [CREATED, refused] }), [null]);
    const unknown = { ...removal, outcome: "unknown" } as const;
    t.same(causes([container({ end })], { requests: [CREATED, unknown] }), ["service removed"]);
    const other = { ...removal, key: "service/other" };
    t.same(causes([container({ end })], { requests: [CREATED, other] }), [null]);
  });

  await t.test("update", async t => {
    const shape = { ...SHAPE, generation: 2 };
    const update = write("service/app", "w2", { startMs: 29_000, shape });
    const requests = [CREATED, update];
    t.same(causes([container({ end: stopped(30_000) })], { requests }), ["service updated"]);
    const fresh = container({ end: stopped(30_000), generation: 2 });
    t.same(causes([fresh], { requests }), [null], "one of the new generation");
    const relabel = write("service/app", "w3", { startMs: 29_000, shape: SHAPE });
    const relabelled = { requests: [CREATED, relabel] };
    t.same(causes([container({ end: stopped(30_000) })], relabelled), [null], "only a label");
  });

  await t.test("scaling down explains as many as were given up", async t => {
    const shape = { ...SHAPE, replicas: 1 };
    const scale = write("service/app", "w2", { startMs: 29_000, shape });
    const requests = [CREATED, scale];
    const one = container({ end: stopped(30_000) });
    const two = container({ end: stopped(31_000) });
    t.same(causes([one], { requests }), ["service scaled down"]);
    t.same(causes([one, two], { requests }), ["service scaled down", null]);
    t.same(causes([container({ end: stopped(20_000) })], { requests }), [null], "before it");
    const up = write("service/app", "w3", { startMs: 29_500, shape: { ...SHAPE, replicas: 4 } });
    t.same(causes([one, two], { requests: [CREATED, up] }), [null, null], "scaling up");
  });

  await t.test("the budget of scaling counts what may have been", async t => {
    const to = (replicas: number, outcome: "acknowledged" | "unknown") =>
      write("service/app", "w", { shape: { ...SHAPE, replicas }, outcome });
    t.equal(scaleDownBudget([to(4, "acknowledged"), to(1, "acknowledged")]), 3);
    t.equal(scaleDownBudget([to(1, "acknowledged"), to(4, "unknown"), to(2, "acknowledged")]), 2);
    t.equal(scaleDownBudget([to(1, "acknowledged"), to(4, "acknowledged")]), 0);
  });

  await t.test("the host's Engine or power", async t => {
    const off = fault("worker-poweroff", [{ kind: "poweroff", host: "w1" }], 29_000, 32_000);
    const unseen = { fromMs: 28_000, toMs: 33_000, exitCode: null, asked: false };
    t.same(causes([container({ end: unseen })], { faults: [off] }), ["engine or host down"]);
    const elsewhere = container({ host: "w2", end: unseen });
    t.same(causes([elsewhere], { faults: [off] }), [null], "another host");
    const late = container({ end: stopped(60_000) });
    t.same(causes([late], { faults: [off] }), [null], "long after");
    const engine = fault(
      "worker-engine-restart",
      [{ kind: "engine-restart", host: "w1" }],
      29_000,
      32_000,
    );
    t.same(causes([container({ end: stopped(29_500) })], { faults: [engine] }), [
      "engine or host down",
    ]);
  });

  await t.test("a node out of reach for its grace is replaced, then stopped", async t => {
    const lost = (toMs: number, downMs = 30_000) => ({
      faults: [fault("worker-cut", [{ kind: "cut", host: "w1" }], 20_000, toMs)],
      downs: [{ host: "w1", atMs: downMs }],
    });
    const end = stopped(41_000);
    t.same(causes([container({ end })], lost(40_000)), ["node lost"]);
    t.same(causes([container({ end })], { ...lost(40_000), downs: [] }), [null], "never given up");
    t.same(causes([container({ end })], { ...lost(40_000), faults: [] }), [null], "for nothing");
    t.same(causes([container({ end })], lost(24_000, 24_000)), [null], "too short");
    t.same(causes([container({ end })], lost(40_000, 22_000)), [null], "given up too early");
    t.same(causes([container({ end })], lost(40_000, 42_000)), [null], "stopped before");
    const other = container({ host: "w2", end });
    t.same(causes([other], lost(40_000)), [null], "another node");
    const fresh = container({ startedMs: 47_000, end: stopped(48_000) });
    t.same(causes([fresh], lost(40_000)), [null], "started after it was back");
    const late = container({ end: stopped(200_000) });
    t.same(causes([late], lost(40_000)), [null], "long after it was back");
  });

  await t.test("a drained node", async t => {
    const drain = write("node/w1", "w8", { startMs: 20_000, availability: "drain" });
    const active = write("node/w1", "w9", { startMs: 30_000, availability: "active" });
    const requests = [CREATED, drain, active];
    t.same(causes([container({ end: stopped(21_000) })], { requests }), ["node drained"]);
    t.same(causes([container({ end: stopped(19_000) })], { requests }), [null], "before");
    t.same(causes([container({ end: stopped(90_000) })], { requests }), [null], "long after");
    const other = container({ host: "w2", end: stopped(21_000) });
    t.same(causes([other], { requests }), [null], "another node");
    const refused = [CREATED, { ...drain, outcome: "refused" } as const];
    t.same(causes([container({ end: stopped(21_000) })], { requests: refused }), [null]);
    const open = [CREATED, drain, { ...active, outcome: "unknown" } as const];
    t.same(causes([container({ end: stopped(90_000) })], { requests: open }), ["node drained"]);
  });

  await t.test("its own end, for a service that is meant to end", async t => {
    const mortal = { ...CREATED, shape: { ...SHAPE, mode: "mortal" } } as const;
    const itself = { fromMs: 30_000, toMs: 30_000, exitCode: 3, asked: false };
    t.same(causes([container({ end: itself })], { requests: [mortal] }), ["ended by itself"]);
    t.same(causes([container({ end: stopped(30_000) })], { requests: [mortal] }), [null]);
    t.same(causes([container({ end: itself })]), [null], "no other service does that");
  });
});

t.test("copies of one slot", async t => {
  const one = (startedMs: number, endMs: number | null, given: Partial<ContainerRecord> = {}) =>
    container({
      name: `app.1.${startedMs}`,
      startedMs,
      end: endMs === null ? null : stopped(endMs),
      ...given,
    });
  const copies = (
    containers: readonly ContainerRecord[],
    given: Parameters<typeof history>[0] = {},
  ) => checkCopies(history({ requests: [CREATED], ...given, containers })).map(one => one.rule);
  const first = one(10_000, 30_000);

  t.same(copies([first, one(30_100, null, { host: "w2" })]), [], "one after the other");
  t.same(copies([first, one(25_000, null, { host: "w2" })]), [COPIES_RULE]);
  t.same(copies([one(10_000, null), one(25_000, null)]), [COPIES_RULE], "for good");
  t.same(copies([first, one(25_000, null, { name: "app.2.x" })]), [], "another slot");

  const lost = (toMs: number, downMs = 22_000) => ({
    faults: [fault("worker-cut", [{ kind: "cut", host: "w1" }], 12_000, toMs)],
    downs: [{ host: "w1", atMs: downMs }],
  });
  const elsewhere = one(25_000, null, { host: "w2" });
  t.same(copies([first, elsewhere], lost(29_000)), [], "its node was lost");
  t.same(copies([first, elsewhere], lost(15_000)), [COPIES_RULE], "not long enough");
  t.same(copies([first, elsewhere], lost(29_000, 26_000)), [COPIES_RULE], "replaced too early");

  const rebooted = one(31_000, 33_000);
  const since = one(32_000, null, { host: "w2" });
  t.same(copies([rebooted, since], lost(29_000)), [], "started before it was told");
  t.same(copies([rebooted, since], { ...lost(29_000), downs: [] }), [COPIES_RULE]);

  const stays = one(10_000, null, { host: "w2" });
  const back = one(30_000, 31_000);
  t.same(copies([stays, back], lost(29_000)), [], "told late that it is not wanted");
  t.same(copies([stays, back], lost(15_000)), [COPIES_RULE]);
  t.same(copies([stays, one(30_000, null)], lost(29_000)), [COPIES_RULE], "for good");

  const updated = one(25_000, null, { generation: 2 });
  const startFirst = { ...CREATED, shape: { ...SHAPE, order: "start-first" } } as const;
  t.same(copies([first, updated]), [COPIES_RULE], "stop-first");
  t.same(copies([first, updated], { requests: [startFirst] }), [], "start-first");
  t.same(copies([first, elsewhere], { requests: [startFirst] }), [COPIES_RULE], "no update");

  const down = write("service/app", "w2", { startMs: 20_000, shape: { ...SHAPE, replicas: 0 } });
  t.same(copies([first, one(25_000, null)], { requests: [CREATED, down] }), [], "given up");
  const late = { ...down, startMs: 26_000 };
  t.same(copies([first, one(25_000, null)], { requests: [CREATED, late] }), [COPIES_RULE]);

  const off = fault("worker-poweroff", [{ kind: "poweroff", host: "w1" }], 12_000, 28_000);
  t.same(copies([first, one(15_000, null)], { faults: [off] }), [], "it told of its end late");
});

t.test("who was out of reach", async t => {
  const cut = fault("worker-cut", [{ kind: "cut", host: "w1" }], 10_000, 13_000);
  const pause = fault("worker-pause", [{ kind: "pause", host: "w1" }], 15_000, 20_000);
  const both = history({ faults: [cut, pause] });
  t.same(silences("w1", both), [{ fromMs: 10_000, toMs: 20_000 }], "as one");
  t.same(silences("w2", both), []);

  const parted = fault(
    "partition",
    [{ kind: "partition", host: "m1", other: "w1", oneWay: true }],
    10_000,
    10_000 + LOST_AFTER_MS,
  );
  const faults = [parted];
  t.equal(silences("w1", history({ faults })).length, 1, "from the leader");
  t.equal(silences("m1", history({ faults })).length, 0, "the leader hears itself");
  const m2 = [{ atMs: 0, host: "m2", term: 2 }];
  t.same(silences("w1", history({ faults, leaders: m2 })), [], "from a follower");
  const changed = [...m2, { atMs: 12_000, host: "m1", term: 3 }];
  t.equal(silences("w1", history({ faults, leaders: changed })).length, 1);

  const kill = fault("worker-kill", [{ kind: "kill", host: "w1" }], 10_000, 12_000);
  const back = (atMs: number) =>
    silences("w1", history({ faults: [kill], sessions: [{ host: "w1", atMs }] })).at(0)?.toMs;
  t.equal(back(14_500), 14_500, "until it is taken up again");
  t.equal(back(11_000), 42_000, "not by a session of before");
  t.equal(back(90_000), 42_000, "and not for ever");
  t.same(
    merged(
      [
        { fromMs: 5, toMs: 6 },
        { fromMs: 1, toMs: 2 },
        { fromMs: 1, toMs: 4 },
      ],
      0,
    ),
    [
      { fromMs: 1, toMs: 4 },
      { fromMs: 5, toMs: 6 },
    ],
  );
});

t.test("containers from an Engine's words", async t => {
  const labels = { [TASK_LABEL]: "t1", [SERVICE_LABEL]: "app", [GENERATION_LABEL]: "4" };
  const started = (log: ContainerLog, host = "w1") =>
    log.event(host, {
      action: "start",
      containerId: "c1",
      attributes: { ...labels, name: "app.1.t1" },
      atMs: 100,
    });
  const said = (action: string, atMs: number, attributes = {}) => ({
    action,
    containerId: "c1",
    attributes,
    atMs,
  });
  const inspected = { id: "c1", name: "app.1.t1", labels, running: true, startedMs: 100 };
  const alive = { ...inspected, finishedMs: 0, exitCode: 0 };
  const times = { heardMs: 500, fromMs: 900, toMs: 1_000 };

  await t.test("a stop", async t => {
    const log = new ContainerLog();
    started(log);
    t.match(log.records, [{ host: "w1", service: "app", generation: 4, end: null }]);
    log.event("w1", said("kill", 190));
    log.event("w1", said("die", 200, { exitCode: "137" }));
    log.event("w1", said("destroy", 300));
    t.match(log.records, [{ end: { fromMs: 200, toMs: 200, exitCode: 137, asked: true } }]);
  });

  await t.test("an end by itself, and none of others", async t => {
    const log = new ContainerLog();
    started(log);
    log.event("w2", said("die", 150));
    t.match(log.records, [{ end: null }], "the same id elsewhere is another");
    log.event("w1", said("die", 200, { exitCode: "3" }));
    t.match(log.records, [{ end: { exitCode: 3, asked: false } }]);
    log.event("w1", { ...said("start", 1), attributes: { name: "not a task" }, containerId: "x" });
    t.equal(log.records.length, 1);
  });

  await t.test("an end that nobody saw", async t => {
    const log = new ContainerLog();
    started(log);
    log.snapshot("w1", [alive], times);
    t.match(log.records, [{ end: null }]);
    log.snapshot("w1", [{ ...alive, running: false, finishedMs: 700, exitCode: 255 }], times);
    t.match(log.records, [{ end: { fromMs: 700, toMs: 700, exitCode: 255 } }]);
    const gone = new ContainerLog();
    started(gone);
    gone.snapshot("w2", [], times);
    t.match(gone.records, [{ end: null }], "another host's list says nothing");
    gone.snapshot("w1", [], times);
    t.match(gone.records, [{ end: { fromMs: 500, toMs: 1_000, exitCode: null } }]);
    const young = new ContainerLog();
    started(young);
    young.snapshot("w1", [], { heardMs: 50, fromMs: 90, toMs: 110 });
    t.match(young.records, [{ end: null }], "it started after the list was asked for");
  });

  await t.test("a start that nobody saw", async t => {
    const log = new ContainerLog();
    log.snapshot("w1", [alive, { ...alive, id: "c2", running: false, startedMs: 0 }], times);
    t.match(log.records, [{ id: "c1", taskId: "t1", startedMs: 100, end: null }]);
    t.equal(log.records.length, 1, "one that never started does not count");
  });
});

t.test("leaders that came without a fault", async t => {
  const kill = fault("leader-kill", [{ kind: "kill", host: "m1" }], 2_500, 5_000);
  const cut = fault("worker-cut", [{ kind: "cut", host: "w1" }], 20_000, 30_000);
  const led = (atMs: number) => [...history().leaders, { atMs, host: "m2", term: 3 }];
  t.equal(idleElections(history({ faults: [kill, cut], leaders: led(3_000) })), 0);
  t.equal(idleElections(history({ faults: [kill, cut], leaders: led(25_000) })), 1);
});

t.test("summary", async t => {
  const acks = [1_000, 2_000, 9_000, 10_000].map(endMs => write("config/p", "w", { endMs }));
  const kill = fault("leader-kill", [{ kind: "kill", host: "m1" }], 2_500, 5_000);
  const late = fault("leader-cut", [{ kind: "cut", host: "m1" }], 9_200, 9_400);
  const run = history({
    requests: [...acks, write("config/p", "w", { outcome: "refused", endMs: 5_000 })],
    faults: [kill, late],
    containers: [container({ end: stopped(30_000) }), container()],
  });
  t.same(
    [...longestGaps(run)],
    [
      ["leader-kill", 7_000],
      ["leader-cut", 1_000],
    ],
  );
  const loss = fault("quorum-loss", [{ kind: "kill", host: "m1" }], 3_000, 8_000);
  const worse = longestGaps(history({ ...run, faults: [...run.faults, loss] }));
  t.equal(worse.get("quorum-loss"), 7_000);
  t.not(worse.get("leader-kill"), 7_000);
  const facts = { seed: 9, faultMs: 60_000, convergeMs: 4_200, finalServices: 5 };
  const text = summary(run, { ...facts, snapshots: { taken: 12, received: 3 } });
  t.match(text, /snapshots: 12 taken, 3 received/);
  t.match(text, /seed 9, 60\.0 s of faults/);
  t.match(text, /leader-kill +1 +7\.0 s/);
  t.match(text, /writes: 4 granted, 1 refused, 0 unknown/);
  t.match(text, /containers: 2 started, 1 run at the end/);
  t.match(text, /UNEXPLAINED +1/);
  t.match(text, /leaders: 1, 0 of them without a fault/);
  t.match(text, /came to rest after 4\.2 s with 5 services/);
});

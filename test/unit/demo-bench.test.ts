import t from "tap";
import { alignedTable, tableOf } from "../bench/cluster/report.ts";
import { quantile } from "../bench/cluster/samples.ts";
import { Board, NO_POWER, type TaskChip } from "../demo/board.ts";
import { type Census, countRestarts } from "../demo/census.ts";
import { frameOf } from "../demo/frame.ts";
import { explainFailures } from "../demo/results.ts";
import { ASCII, clip, fill, glyphsFor, paint, span, UNICODE, widthOf } from "../demo/text.ts";
import { type TaskRow, versionOf } from "../demo/watcher.ts";

function ms(...values: number[]): { unit: "ms"; values: number[] } {
  return { unit: "ms", values };
}

t.test("quantiles are samples, by nearest rank", async t => {
  t.equal(quantile([3, 1, 2], 0.5), 2);
  t.equal(quantile([4, 1, 3, 2], 0.5), 2);
  t.equal(quantile([1, 2, 3], 0.99), 3);
  t.equal(quantile([7], 0.99), 7);
  t.ok(Number.isNaN(quantile([], 0.5)));
});

t.test("the benchmark's table judges by aims and by the peer", async t => {
  const verdict = (own: number[], peer: number[] | null, row: string): string | undefined =>
    tableOf({ [row]: ms(...own) }, peer === null ? null : { [row]: ms(...peer) })[1]?.at(-1);
  t.equal(verdict([400, 450, 900], null, "leader SIGKILL to next write"), "met");
  t.equal(verdict([400, 501, 900], null, "leader SIGKILL to next write"), "MISSED", "the middle");
  t.equal(verdict([400, 450, 1_001], null, "leader SIGKILL to next write"), "MISSED", "the worst");
  t.equal(verdict([400], [399], "leader SIGKILL to next write"), "MISSED", "slower than the peer");
  t.equal(verdict([100], [200], "init, answered"), "met");
  t.equal(verdict([100], null, "init, answered"), "-", "nothing to judge by");
  t.same(tableOf({}, null).length, 1, "rows that nobody measured are left out");
  const text = alignedTable(
    tableOf({ "init, answered": ms(1_234) }, { "init, answered": ms(500, 700) }),
  );
  t.match(text, /init, answered +1\.23 s +500 ms \/ 700 ms \(2\) +0\.4 +below peer +MISSED/);
});

t.test("text fits its columns", async t => {
  const line = [span("abc", "good"), span("defg")];
  t.equal(widthOf(line), 7);
  t.equal(paint(clip(line, 7, UNICODE), false), "abcdefg");
  t.equal(paint(clip(line, 5, UNICODE), false), "abcd…");
  t.equal(paint(fill(line, 9, ASCII), false), "abcdefg  ");
  t.equal(paint([span("x", "bad"), span("y")], true), "\u001b[1;31mx\u001b[0my");
});

t.test("the terminal's locale decides what it is given", async t => {
  t.equal(glyphsFor({ LANG: "de_DE.UTF-8" }), UNICODE);
  t.equal(glyphsFor({}), UNICODE);
  t.equal(glyphsFor({ LANG: "C" }), ASCII);
  t.equal(glyphsFor({ LC_ALL: "C.utf8", LANG: "C" }), UNICODE);
  t.equal(glyphsFor({ LANG: "C.UTF-8", TERM: "linux" }), ASCII);
});

function busyBoard(): Board {
  const board = new Board();
  board.begin("update", "A rolling update.");
  board.hosts = ["m1", "m2", "m3", "w1", "w2"].map(name => {
    const role = name === "m1" ? "leader" : name.startsWith("m") ? "manager" : "worker";
    return { name, addr: "10.77.0.1", role, state: "ready", mood: "good" as const };
  });
  const phases = ["running", "starting", "stopping", "failed", "lost"] as const;
  board.tasks = Array.from({ length: 20 }, (_, i): TaskChip => {
    const phase = phases[i % phases.length] ?? "running";
    return { host: `m${1 + (i % 3)}`, slot: i, version: i < 9 ? "v1" : "v2", phase };
  });
  const update = { state: "updating", done: 4 };
  board.service = { image: "swarmd/web:2", running: 9, replicas: 10, update };
  board.traffic = {
    ...{ perSecond: 39.6, answered: 12_345, retried: 3, failed: 1 },
    ...{ shares: { v1: 10, v2: 30 }, history: [0, 10, 40, 40, 5] },
  };
  board.faults.set("w2", NO_POWER);
  for (let i = 0; i < 40; i++) board.say(`event ${i} ${"long ".repeat(i)}`, "fault");
  return board;
}

t.test("a frame fills the terminal exactly, whatever its size", async t => {
  for (const board of [new Board(), busyBoard()]) {
    for (const glyphs of [UNICODE, ASCII]) {
      for (const [columns, rows] of [
        [80, 24],
        [120, 40],
        [200, 60],
        [40, 10],
      ] as const) {
        const frame = frameOf(board, { columns, rows }, glyphs);
        t.equal(frame.length, rows, `${rows} rows`);
        t.ok(
          frame.every(line => widthOf(line) === Math.min(columns, 120)),
          `${columns} columns`,
        );
      }
    }
  }
  const text = frameOf(busyBoard(), { columns: 80, rows: 24 }, ASCII)
    .map(line => paint(line, false))
    .join("\n");
  t.match(text, /v hosts {2}v cluster {2}v deploy {2}v scale {2}> update {2}\. power off/);
  t.match(text, /m1 +leader +ready +\* 0 v1 {3}x 3 v1/);
  t.match(text, /update +####+\.+ {2}4\/10 {2}updating/);
  t.match(text, /40\/s {2}12345 answered, of them 3 at a second try {2}1 failed/);
  t.match(text, /v1 25% {2}v2 75%/);
  t.match(text, /event 39/, "the latest event is in view");
});

function task(id: string, slot: number, version: 1 | 2, desired = "running"): TaskRow {
  return {
    ID: id,
    Slot: slot,
    NodeID: `node-of-${id}`,
    DesiredState: desired,
    Spec: { ContainerSpec: { Image: `swarmd/web:${version}` } },
    Status: { State: "running", Timestamp: "2024-01-01T00:00:00Z" },
  };
}

function census(entries: readonly [string, string, string][]): Census {
  return new Map(
    entries.map(([taskId, version, startedAt]) => [
      `container-of-${taskId}`,
      { taskId, version, startedAt },
    ]),
  );
}

t.test("restarts are told from an update's own replacements", async t => {
  const tasks = (...rows: TaskRow[]): Map<string, TaskRow> => new Map(rows.map(r => [r.ID, r]));
  const before = census([
    ["a1", "v1", "t0"],
    ["b2", "v2", "t1"],
  ]);
  const known = tasks(task("a1", 1, 1), task("a2", 1, 2), task("b2", 2, 2));
  const calm = census([
    ["a2", "v2", "t2"],
    ["b2", "v2", "t1"],
  ]);
  t.equal(countRestarts(before, calm, known, "v2"), 0, "the update replaced what was old");
  const again = census([
    ["a2", "v2", "t2"],
    ["b2", "v2", "t9"],
  ]);
  t.equal(countRestarts(before, again, known, "v2"), 1, "started again in place");
  const moved = census([
    ["a2", "v2", "t2"],
    ["b3", "v2", "t3"],
  ]);
  const more = tasks(...known.values(), task("b3", 2, 2));
  t.equal(countRestarts(before, moved, more, "v2"), 1, "a second task of the slot, counted once");
  t.equal(versionOf("swarmd/web:2@sha256:00"), "v2");
});

t.test("a try that failed is explained by what became of task and host", async t => {
  const tasks = new Map([
    ["gone", task("gone", 1, 1, "shutdown")],
    ["dark", task("dark", 2, 1)],
    ["fine", task("fine", 3, 1)],
  ]);
  const causes = explainFailures(
    [
      { backend: "gone", why: "refused", atMs: 5 },
      { backend: "gone", why: "refused", atMs: 6 },
      { backend: "dark", why: "no answer", atMs: 15 },
      { backend: "fine", why: "no answer", atMs: 15 },
    ],
    {
      tasks,
      hostOf: row => (row?.ID === "dark" ? "w2" : "w1"),
      outages: [{ host: "w2", fromMs: 10, toMs: 20 }],
    },
  );
  t.same(
    [...causes],
    [
      ["refused: the task was being stopped by the update", 2],
      ["no answer: w2 had no power", 1],
      ["no answer: the task ran and should have answered", 1],
    ],
  );
});

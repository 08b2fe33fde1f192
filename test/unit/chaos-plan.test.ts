import t from "tap";
import { SeededRng } from "../../src/base/rng.ts";
import { DEFAULT_SEED, parseChaosArgs } from "../chaos/args.ts";
import {
  type Fault,
  FaultBag,
  MAX_ACTIVE_FAULTS,
  MAX_QUORUM_LOSS_MS,
  QUORUM_LOSS_EVERY_MS,
  type Situation,
  touched,
} from "../chaos/core/fault-plan.ts";
import { FAULT_KINDS, type FaultKind } from "../chaos/core/history.ts";
import { judge } from "../chaos/core/outcome.ts";
import {
  type Intent,
  type KnownObject,
  MAX_REPLICAS_TOTAL,
  MAX_SERVICES,
  MAX_SMALL_OBJECTS,
  nextIntent,
} from "../chaos/core/workload.ts";
import { SHAPE } from "../support/chaos-history.ts";

const MANAGERS = ["m1", "m2", "m3"];
const WORKERS = ["w1", "w2"];

function situation(given: Partial<Situation> = {}): Situation {
  return {
    nowMs: 1_000_000,
    managers: MANAGERS,
    workers: WORKERS,
    leader: "m2",
    active: [],
    recovering: [],
    quorumBackMs: null,
    ...given,
  };
}

/** Plays the bag's faults on a made-up clock; calls `look` whenever one was added. */
function play(seed: number, rounds: number, look: (active: readonly Fault[]) => void): Fault[] {
  const rng = new SeededRng(seed);
  const bag = new FaultBag(rng);
  const all: Fault[] = [];
  let active: { fault: Fault; untilMs: number }[] = [];
  let quorumBackMs: number | null = null;
  for (let nowMs = 0; nowMs < rounds * 1_000; nowMs += 1_000) {
    for (const { fault, untilMs } of active) {
      if (untilMs <= nowMs && fault.kind === "quorum-loss") quorumBackMs = untilMs;
    }
    active = active.filter(({ untilMs }) => untilMs > nowMs);
    const leader = MANAGERS[rng.uint32() % 3] ?? null;
    const faults = active.map(one => one.fault);
    const fault = bag.next(situation({ nowMs, leader, active: faults, quorumBackMs }));
    if (fault === null) continue;
    active.push({ fault, untilMs: nowMs + fault.holdMs });
    all.push(fault);
    look(active.map(one => one.fault));
  }
  return all;
}

/** What is broken at once and should not be. */
function tooMuch(active: readonly Fault[]): readonly string[] {
  const hit = [...touched(active)];
  const managers = hit.filter(host => MANAGERS.includes(host));
  const workers = hit.filter(host => WORKERS.includes(host));
  const loss = active.some(fault => fault.kind === "quorum-loss");
  // A pair of managers that cannot talk costs one of them, not both.
  const pair = active.some(fault => fault.blows.some(blow => blow.kind === "partition"));
  const allowed = loss ? 3 : pair ? 2 : 1;
  return [
    ...(managers.length > allowed ? [`managers ${managers.join(" ")}`] : []),
    ...(workers.length > 1 ? [`workers ${workers.join(" ")}`] : []),
    ...(active.length > MAX_ACTIVE_FAULTS ? [`${active.length} faults`] : []),
  ];
}

t.test("faults", async t => {
  await t.test("the same seed gives the same faults, another one others", async t => {
    const ignore = (): void => undefined;
    t.same(play(7, 200, ignore), play(7, 200, ignore));
    t.notSame(play(7, 200, ignore), play(8, 200, ignore));
  });

  await t.test("a run of three minutes meets nearly every kind", async t => {
    for (let seed = 0; seed < 20; seed++) {
      const kinds = new Set(play(seed, 180, () => undefined).map(fault => fault.kind));
      t.ok(kinds.size >= FAULT_KINDS.length - 3, `seed ${seed}: ${kinds.size} kinds`);
    }
  });

  await t.test("a quorum stays but for a bounded loss, and enough is enough", async t => {
    const faults: string[] = [];
    for (let seed = 0; seed < 20; seed++) {
      play(seed, 600, active => faults.push(...tooMuch(active).map(one => `${seed}: ${one}`)));
    }
    t.same(faults, []);
    const twice = {
      kind: "leader-kill",
      blows: [{ kind: "kill", host: "m1" }],
      holdMs: 1,
    } as const;
    const other = { ...twice, blows: [{ kind: "kill", host: "m2" }] } as const;
    t.same(tooMuch([twice, other]), ["managers m1 m2"]);
  });

  await t.test("a quorum is lost for a bounded time, and not again at once", async t => {
    for (let seed = 0; seed < 50; seed++) {
      const bag = new FaultBag(new SeededRng(seed));
      const soon = situation({ quorumBackMs: 1_000_000 - QUORUM_LOSS_EVERY_MS + 1 });
      for (let i = 0; i < FAULT_KINDS.length * 2; i++) {
        t.not(bag.next(soon)?.kind, "quorum-loss");
      }
    }
    const losses = play(1, 3_000, () => undefined).filter(one => one.kind === "quorum-loss");
    t.ok(losses.length > 3);
    for (const loss of losses) {
      t.ok(loss.holdMs <= MAX_QUORUM_LOSS_MS);
    }
    t.same([...new Set(losses.map(loss => touched([loss]).size))].sort(), [2, 3]);
  });

  await t.test("the leader's faults hit the leader, the follower's another", async t => {
    const seen = new Set<FaultKind>();
    for (let seed = 0; seed < 60; seed++) {
      const fault = new FaultBag(new SeededRng(seed)).next(situation());
      if (fault === null) continue;
      seen.add(fault.kind);
      const [host] = touched([fault]);
      if (fault.kind.startsWith("leader-")) t.equal(host, "m2");
      if (fault.kind.startsWith("follower-")) t.ok(host === "m1" || host === "m3", fault.kind);
      if (fault.kind.startsWith("worker-")) t.ok(WORKERS.includes(host ?? ""), fault.kind);
    }
    t.ok(seen.size > 10);
  });

  await t.test("while a manager is not back yet no other is touched", async t => {
    for (let seed = 0; seed < 30; seed++) {
      const fault = new FaultBag(new SeededRng(seed)).next(situation({ recovering: ["m3"] }));
      t.ok(fault?.kind.startsWith("worker-"), fault?.kind ?? "none");
    }
  });

  await t.test("without a known leader its faults wait", async t => {
    for (let seed = 0; seed < 30; seed++) {
      const fault = new FaultBag(new SeededRng(seed)).next(situation({ leader: null }));
      t.notOk(fault?.kind.startsWith("leader-"));
    }
  });
});

function known(kind: KnownObject["kind"], name: string, given: Partial<KnownObject> = {}) {
  const shape = kind === "service" ? SHAPE : null;
  const object: KnownObject = {
    ...{ key: `${kind}/${name}`, kind, name, id: `id-${name}`, exists: "yes", busy: false, shape },
    availability: "active",
    ...given,
  };
  return object;
}

function intents(objects: readonly KnownObject[], count = 300): readonly Intent[] {
  const rng = new SeededRng(5);
  return Array.from({ length: count }, () => nextIntent(rng, objects)).flatMap(one => one ?? []);
}

t.test("requests", async t => {
  await t.test("an empty cluster is filled", async t => {
    const kinds = new Set(intents([]).map(one => (one.do === "create" ? one.kind : one.do)));
    t.same([...kinds].sort(), ["config", "secret", "service"]);
  });

  await t.test("all that can be asked for is asked for", async t => {
    const services = ["a", "b", "c", "d"].map(name => known("service", name));
    const objects = [...services, known("secret", "s"), known("secret", "t"), known("node", "m1")];
    const open = known("config", "o", { exists: "maybe" });
    const done = new Set(intents([...objects, open]).map(one => one.do));
    const all = "create drain force image race relabel remove scale settle";
    t.equal([...done].sort().join(" "), all);
  });

  await t.test("bounds are kept", async t => {
    const many = Array.from({ length: MAX_SERVICES }, (_, i) => known("service", `s${i}`));
    const small = (["secret", "config"] as const).flatMap(kind =>
      Array.from({ length: MAX_SMALL_OBJECTS }, (_, i) => known(kind, `x${i}`)),
    );
    t.notOk(intents([...many, ...small]).some(one => one.do === "create"));
    const full = { ...SHAPE, replicas: MAX_REPLICAS_TOTAL };
    const grows = intents([known("service", "big", { shape: full })]).filter(
      one =>
        (one.do === "create" && one.kind === "service" && one.shape.replicas > 0) ||
        (one.do === "scale" && one.replicas > MAX_REPLICAS_TOTAL),
    );
    t.same(grows, []);
  });

  await t.test("what somebody works on is left alone", async t => {
    const busy = [known("service", "a", { busy: true }), known("node", "m1", { busy: true })];
    t.ok(intents(busy).every(one => one.do === "create"));
  });

  await t.test("one node is drained at a time, and comes back", async t => {
    const drained = known("node", "m1", { availability: "drain" });
    const done = new Set(intents([drained, known("node", "m2")]).map(one => one.do));
    t.ok(done.has("activate"));
    t.notOk(done.has("drain"));
    const busy = new Set(intents([{ ...drained, busy: true }, known("node", "m2")]).map(i => i.do));
    t.notOk(busy.has("drain"));
  });

  await t.test("global and mortal services are not scaled", async t => {
    const shapes = [
      { ...SHAPE, mode: "global", replicas: 0 },
      { ...SHAPE, mode: "mortal", replicas: 1 },
    ] as const;
    for (const shape of shapes) {
      t.notOk(intents([known("service", "a", { shape })]).some(one => one.do === "scale"));
    }
  });
});

t.test("answers", async t => {
  const answer = (status: number, text: string) => judge({ kind: "answer", status, text });
  const outOfSequence = "rpc error: code = Unknown desc = update out of sequence";
  const leaderless = "rpc error: code = Unknown desc = The swarm does not have a leader. It's …";
  const unknown =
    "The leader was lost before it answered, so whether the change was made is not known.";
  t.match(answer(201, "{}"), { outcome: "acknowledged", odd: null });
  t.match(answer(404, "no such service"), { outcome: "refused", odd: null });
  t.match(answer(500, outOfSequence), { outcome: "refused", odd: null });
  t.match(answer(503, leaderless), { outcome: "refused", odd: null });
  t.match(answer(503, unknown), { outcome: "unknown", odd: null });
  t.match(answer(503, `${leaderless} ${unknown}`), { outcome: "unknown", odd: null });
  t.match(answer(500, "context deadline exceeded"), { outcome: "unknown", odd: null });
  t.match(answer(500, "internal error"), { outcome: "unknown", odd: "500 internal error" });
  t.match(judge({ kind: "lost", text: "socket hang up" }), { outcome: "unknown", odd: null });
  t.match(judge({ kind: "unreachable", text: "ENOENT" }), { outcome: "refused", odd: null });
});

t.test("command line", async t => {
  t.same(parseChaosArgs([]), { minutes: 3, seed: DEFAULT_SEED, keep: false });
  t.same(parseChaosArgs(["--minutes", "0.5", "--seed", "42", "--keep"]), {
    minutes: 0.5,
    seed: 42,
    keep: true,
  });
  t.throws(() => parseChaosArgs(["--minutes", "0"]), /--minutes takes/);
  t.throws(() => parseChaosArgs(["--minutes"]), /--minutes takes/);
  t.throws(() => parseChaosArgs(["--seed", "-1"]), /--seed takes/);
  t.throws(() => parseChaosArgs(["--seed", "1.5"]), /--seed takes/);
  t.throws(() => parseChaosArgs(["--fast"]), /unknown argument "--fast"/);
});

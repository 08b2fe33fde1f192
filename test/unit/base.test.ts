import t from "tap";
import { BoundedQueue, newDeferred, TaskGroup, withSignal } from "../../src/base/async.ts";
import { Backoff } from "../../src/base/backoff.ts";
import { sleep } from "../../src/base/clock.ts";
import { assert, isSwarmError, SwarmError, toSwarmError } from "../../src/base/errors.ts";
import { ID_LENGTH, isId, newOrderedId, RngIdSource } from "../../src/base/ids.ts";
import { randomInt, SeededRng } from "../../src/base/rng.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

t.test("bounded queue", async t => {
  await t.test("keeps order, refuses when full, ends after close", async t => {
    const queue = new BoundedQueue<number>({ maxItems: 2 });
    t.ok(queue.push(1));
    t.ok(queue.push(2));
    t.notOk(queue.push(3), "full");
    queue.close();
    t.notOk(queue.push(4), "closed");
    const seen: number[] = [];
    for await (const item of queue) seen.push(item);
    t.same(seen, [1, 2]);
  });
  await t.test("throws its error after the queued items", async t => {
    const queue = new BoundedQueue<number>({ maxItems: 2 });
    queue.push(1);
    queue.close(new SwarmError("unavailable", "gone"));
    const iterator = queue[Symbol.asyncIterator]();
    t.same(await iterator.next(), { value: 1, done: false });
    await t.rejects(iterator.next(), { code: "unavailable" });
  });
  await t.test("wakes a waiting reader", async t => {
    const queue = new BoundedQueue<string>({ maxItems: 1 });
    const next = queue[Symbol.asyncIterator]().next();
    queue.push("late");
    t.same(await next, { value: "late", done: false });
  });
});

t.test("task group", async t => {
  await t.test("a failure aborts the others and comes out of close and done", async t => {
    const group = new TaskGroup();
    let otherEnded = false;
    group.start("other", signal =>
      withSignal(new Promise<void>(() => undefined), signal).finally(() => {
        otherEnded = true;
      }),
    );
    group.start("bad", async () => {
      throw new SwarmError("internal", "broken");
    });
    await t.rejects(group.done, { message: "broken" });
    await t.rejects(group.close(), { message: "broken" });
    t.ok(otherEnded);
  });
  await t.test("close without failure resolves, and follows its parent", async t => {
    const parent = new AbortController();
    const group = new TaskGroup(parent.signal);
    const started = newDeferred<void>();
    group.start("waits", async signal => {
      started.resolve();
      await withSignal(new Promise<void>(() => undefined), signal);
    });
    await started.promise;
    parent.abort(new Error("stop"));
    t.ok(group.signal.aborted);
    await group.close();
  });
});

t.test("sleep on a virtual clock", async t => {
  const clock = new VirtualClock();
  let done = false;
  const slept = sleep(clock, 100).then(() => {
    done = true;
  });
  clock.advance(99);
  await Promise.resolve();
  t.notOk(done);
  clock.advance(1);
  await slept;
  const controller = new AbortController();
  const cut = sleep(clock, 100, controller.signal);
  controller.abort(new Error("enough"));
  await t.rejects(cut, { message: "enough" });
  t.equal(clock.pending, 0, "an aborted sleep leaves no timer");
});

t.test("seeded randomness", async t => {
  const [a, b, c] = [new SeededRng(7), new SeededRng(7), new SeededRng(8)];
  const draw = (rng: SeededRng): number[] => Array.from({ length: 50 }, () => rng.uint32());
  const first = draw(a);
  t.same(first, draw(b), "one seed, one sequence");
  t.notSame(first, draw(c));
  const counts = new Array<number>(6).fill(0);
  for (let i = 0; i < 60_000; i += 1) {
    const k = randomInt(a, 6);
    counts[k] = (counts[k] ?? 0) + 1;
  }
  for (const count of counts) t.ok(count > 9_000 && count < 11_000, `fair: ${count}`);
  const ids = new RngIdSource(new SeededRng(1));
  const id = ids.newId();
  t.equal(id.length, ID_LENGTH);
  t.ok(isId(id));
  t.not(ids.newId(), id);
  const times = [0, 1_700_000_000_000, 1_700_000_000_001, 2_800_000_000_000];
  const ordered = times.map(atMs => newOrderedId(ids, atMs));
  t.ok(ordered.every(isId));
  t.same([...ordered].sort(), ordered, "in order of time");
  t.not(newOrderedId(ids, 0), newOrderedId(ids, 0));
});

t.test("backoff grows to its ceiling and starts again", async t => {
  const backoff = new Backoff({ baseMs: 100, maxMs: 1_000 }, new SeededRng(3));
  const delays = Array.from({ length: 8 }, () => backoff.nextMs());
  t.ok((delays[0] ?? 0) >= 50 && (delays[0] ?? 0) <= 100);
  t.ok(delays.slice(4).every(ms => ms >= 500 && ms <= 1_000));
  backoff.reset();
  t.ok(backoff.nextMs() <= 100);
});

t.test("errors", async t => {
  const foreign = toSwarmError(new Error("odd"), "unavailable");
  t.ok(isSwarmError(foreign, "unavailable"));
  t.notOk(isSwarmError(foreign, "internal"));
  t.equal(toSwarmError(foreign), foreign);
  t.equal(toSwarmError(Object.assign(new Error("x"), { name: "AbortError" })).code, "canceled");
  t.throws(() => assert(false, "must not be"), { message: "invariant broken: must not be" });
});

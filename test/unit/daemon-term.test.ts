import t from "tap";
import { aborted } from "../../src/base/async.ts";
import { InvariantError, SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { leadTerm, WORK_RETRY_MS } from "../../src/daemon/term.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { elapse, settle } from "../support/virtual-run.ts";

const NO_QUORUM = new SwarmError("unavailable", "no quorum of managers confirmed");

interface Term {
  readonly clock: VirtualClock;
  readonly end: AbortController;
  readonly starts: number[];
  handOvers: number;
  readonly led: Promise<void>;
}

/** A term whose work fails the first `failures` times. */
function begin(
  failures: number,
  handOver: (term: Term) => Promise<void>,
  failure: Error = NO_QUORUM,
): Term {
  const clock = new VirtualClock();
  const end = new AbortController();
  const starts: number[] = [];
  const beganMs = clock.monoMs();
  const term: Term = { clock, end, starts, handOvers: 0, led: Promise.resolve() };
  const led = leadTerm(end.signal, {
    work: async signal => {
      starts.push(clock.monoMs() - beganMs);
      if (starts.length <= failures) throw failure;
      await aborted(signal);
    },
    handOver: () => {
      term.handOvers += 1;
      return handOver(term);
    },
    clock,
    logger: silentLogger,
  });
  return Object.assign(term, { led });
}

t.test("a leader whose work failed, and that nobody follows up, starts it again", async t => {
  const term = begin(2, () => Promise.reject(new Error("nobody has caught up")));
  await elapse(term.clock, 10 * WORK_RETRY_MS);
  t.strictSame(term.starts, [0, WORK_RETRY_MS, 2 * WORK_RETRY_MS], "until it works");
  t.equal(term.handOvers, 2);
  term.end.abort();
  await term.led;
});

t.test("a leader that is followed up does nothing more", async t => {
  const term = begin(1, async ({ end }) => end.abort());
  await elapse(term.clock, 10 * WORK_RETRY_MS);
  await term.led;
  t.strictSame(term.starts, [0]);
});

t.test("one that still leads after a handover works on", async t => {
  const term = begin(1, () => Promise.resolve());
  await elapse(term.clock, 10 * WORK_RETRY_MS);
  t.equal(term.starts.length, 2);
  term.end.abort();
  await term.led;
});

t.test("a broken invariant is nobody's to take over", async t => {
  const term = begin(1, () => Promise.resolve(), new InvariantError("two owners"));
  await t.rejects(term.led, { message: /two owners/ });
  await settle();
  t.equal(term.handOvers, 0);
});

import fc from "fast-check";
import t from "tap";
import {
  isLinearizable,
  type Operation,
  REGISTER,
  type RegisterInput,
  type RegisterOutput,
} from "../support/linearizability.ts";

/** The checker that judges the simulator's clients is itself held against what is known. */

type Call = Operation<RegisterInput, RegisterOutput>;

const RUNS = 300;
const DONE = { done: true } as const;
const REFUSED = { done: false } as const;

function call(
  calledAt: number,
  returnedAt: number | undefined,
  input: RegisterInput,
  output?: RegisterOutput,
): Call {
  return { input, calledAt, returnedAt, output };
}

function read(calledAt: number, returnedAt: number, value: string | null): Call {
  return call(calledAt, returnedAt, { op: "read" }, { value });
}

function write(calledAt: number, returnedAt: number, value: string): Call {
  return call(calledAt, returnedAt, { op: "write", value }, DONE);
}

function create(calledAt: number, returnedAt: number, value: string): Call {
  return call(calledAt, returnedAt, { op: "create", value }, DONE);
}

/** The answer never came. */
function lost(calledAt: number, input: RegisterInput): Call {
  return call(calledAt, undefined, input);
}

function cas(calledAt: number, returnedAt: number, from: string, value: string): Call {
  return call(calledAt, returnedAt, { op: "cas", from, value }, DONE);
}

function isGood(history: readonly Call[]): boolean {
  return isLinearizable(REGISTER, history);
}

const GOOD: Readonly<Record<string, readonly Call[]>> = {
  "nothing at all": [],
  "a value is read after its write": [create(1, 2, "a"), write(3, 4, "b"), read(5, 6, "b")],
  "a read during a write sees the old value": [
    create(1, 2, "a"),
    write(3, 6, "b"),
    read(4, 5, "a"),
  ],
  "a read during a write sees the new value": [
    create(1, 2, "a"),
    write(3, 6, "b"),
    read(4, 5, "b"),
  ],
  "two writes at once end either way": [
    create(1, 2, "a"),
    write(3, 6, "b"),
    write(4, 5, "c"),
    read(7, 8, "b"),
    read(9, 10, "b"),
  ],
  "a write without an answer takes effect late": [
    create(1, 2, "a"),
    lost(3, { op: "write", value: "b" }),
    read(4, 5, "a"),
    read(6, 7, "b"),
  ],
  "a write without an answer never takes effect": [
    create(1, 2, "a"),
    lost(3, { op: "write", value: "b" }),
    read(4, 5, "a"),
    read(6, 7, "a"),
  ],
  "a create without an answer is why another is refused": [
    lost(1, { op: "create", value: "a" }),
    call(2, 3, { op: "create", value: "b" }, REFUSED),
    read(4, 5, "a"),
  ],
  "one of two exchanges from a value is refused": [
    create(1, 2, "a"),
    cas(3, 6, "a", "b"),
    call(4, 5, { op: "cas", from: "a", value: "c" }, REFUSED),
    read(7, 8, "b"),
  ],
  "what is deleted is gone": [
    create(1, 2, "a"),
    call(3, 4, { op: "delete" }, DONE),
    read(5, 6, null),
    create(7, 8, "b"),
    read(9, 10, "b"),
  ],
};

const BAD: Readonly<Record<string, readonly Call[]>> = {
  "a value nobody wrote": [create(1, 2, "a"), read(3, 4, "x")],
  "an acknowledged write is lost": [create(1, 2, "a"), write(3, 4, "b"), read(5, 6, "a")],
  "a value is read before its write began": [create(1, 2, "a"), read(3, 4, "b"), write(5, 6, "b")],
  "a read goes back behind an earlier one": [
    create(1, 2, "a"),
    write(3, 8, "b"),
    read(4, 5, "b"),
    read(6, 7, "a"),
  ],
  "two readers see two orders of the same writes": [
    create(1, 2, "a"),
    write(3, 12, "b"),
    write(4, 13, "c"),
    read(5, 6, "b"),
    read(7, 8, "c"),
    read(9, 10, "b"),
  ],
  "two exchanges from one value are both granted": [
    create(1, 2, "a"),
    cas(3, 6, "a", "b"),
    cas(4, 5, "a", "c"),
  ],
  "two creates are both granted": [create(1, 4, "a"), create(2, 3, "b")],
  "an unanswered write is seen, and then not": [
    create(1, 2, "a"),
    lost(3, { op: "write", value: "b" }),
    read(4, 5, "b"),
    read(6, 7, "a"),
  ],
  "an unanswered write is seen before it was asked for": [
    create(1, 2, "a"),
    read(3, 4, "b"),
    lost(5, { op: "write", value: "b" }),
  ],
  "a create is refused though nothing is there": [
    call(1, 2, { op: "create", value: "a" }, REFUSED),
  ],
  "a deleted value comes back": [
    create(1, 2, "a"),
    call(3, 4, { op: "delete" }, DONE),
    read(5, 6, "a"),
  ],
};

t.test("histories that a register can have", async t => {
  for (const [name, history] of Object.entries(GOOD)) t.ok(isGood(history), name);
});

t.test("histories that no register can have", async t => {
  for (const [name, history] of Object.entries(BAD)) t.notOk(isGood(history), name);
});

type Slot = readonly [what: number, waitMs: number, tookMs: number, at: number, from: number];

/** What a client asks for; values are unique. */
function inputOf([what, , , , from]: Slot, id: number): RegisterInput {
  const value = `v${id}`;
  const inputs: readonly RegisterInput[] = [
    { op: "read" },
    { op: "read" },
    { op: "write", value },
    { op: "write", value },
    { op: "cas", from: `v${from}`, value },
    { op: "create", value },
    { op: "delete" },
  ];
  return inputs[what % inputs.length] ?? { op: "read" };
}

const UNANSWERED = 7;
const NEVER_HAPPENED = 8;

/**
 * The history that a real register gives: each call takes effect at one moment between its ends, in
 * the order of these moments; some answers are lost, and of these some calls never get there.
 */
function realHistory(slots: readonly Slot[]): Call[] {
  let clock = 0;
  const calls = slots.map((slot, id) => {
    const [what, waitMs, tookMs, at] = slot;
    clock += waitMs;
    const effectAt = clock + (at % (tookMs + 1));
    return {
      input: inputOf(slot, id),
      calledAt: clock,
      returnedAt: clock + tookMs,
      effectAt,
      what,
    };
  });
  let state = REGISTER.initial;
  const outputs = new Map<object, RegisterOutput>();
  for (const one of [...calls].sort((a, b) => a.effectAt - b.effectAt)) {
    if (one.what === NEVER_HAPPENED) continue;
    const [next, output] = act(state, one.input);
    state = next;
    outputs.set(one, output);
  }
  return calls.flatMap(one => {
    const { input, calledAt, returnedAt, what } = one;
    const unanswered = what === UNANSWERED || what === NEVER_HAPPENED;
    if (unanswered) return input.op === "read" ? [] : [lost(calledAt, input)];
    return [call(calledAt, returnedAt, input, outputs.get(one))];
  });
}

/** A register as one would write it down, apart from the model under test. */
function act(state: string | null, input: RegisterInput): [string | null, RegisterOutput] {
  if (input.op === "read") return [state, { value: state }];
  if (input.op === "delete") return [null, DONE];
  if (input.op === "create") return state === null ? [input.value, DONE] : [state, REFUSED];
  if (input.op === "write") return [state === null ? null : input.value, DONE];
  return state === input.from ? [input.value, DONE] : [state, REFUSED];
}

function arbitrarySlots(maxLength: number): fc.Arbitrary<Slot[]> {
  const small = fc.nat({ max: 5 });
  const slot = fc.tuple(
    fc.nat({ max: 8 }),
    small,
    fc.nat({ max: 12 }),
    fc.nat({ max: 12 }),
    fc.nat({ max: maxLength }),
  );
  return fc.array(slot, { minLength: 1, maxLength });
}

/** By trying every order, with and without the calls that nobody answered. */
function isGoodByTrial(history: readonly Call[], state: string | null = null): boolean {
  const answered = history.filter(({ returnedAt }) => returnedAt !== undefined);
  if (answered.length === 0) return true;
  const firstEnd = Math.min(...answered.map(({ returnedAt = 0 }) => returnedAt));
  return history.some(one => {
    if (one.calledAt > firstEnd) return false;
    const [next, output] = act(state, one.input);
    const fits = one.output === undefined || JSON.stringify(output) === JSON.stringify(one.output);
    return (
      fits &&
      isGoodByTrial(
        history.filter(other => other !== one),
        next,
      )
    );
  });
}

t.test("what a real register did is found good", async t => {
  fc.assert(
    fc.property(arbitrarySlots(40), slots => isGood(realHistory(slots))),
    { numRuns: RUNS },
  );
  t.pass("all of them");
});

t.test("a value that was never written is found", async t => {
  let mutated = 0;
  fc.assert(
    fc.property(arbitrarySlots(40), fc.nat(), (slots, pick) => {
      const history = realHistory(slots);
      const reads = history.filter(({ input, output }) => input.op === "read" && output);
      const spoiled = reads[pick % Math.max(1, reads.length)];
      if (spoiled === undefined) return true;
      mutated += 1;
      const wrong = { ...spoiled, output: { value: "never" } };
      return !isGood(history.map(one => (one === spoiled ? wrong : one)));
    }),
    { numRuns: RUNS },
  );
  t.ok(mutated > RUNS / 3, `${mutated} histories had a read to spoil`);
});

/** Writes and reads of a register that exists: of these it is plain which value is out of date. */
function plainHistory(slots: readonly Slot[]): Call[] {
  const plain = slots.map(([what, ...rest]): Slot => [what % 4, ...rest]);
  return realHistory([[5, 1, 0, 0, 0], [0, 13, 0, 0, 0], ...plain]);
}

/** A value that was overwritten for certain before `at`: its write ended before that of another began. */
function staleValue(history: readonly Call[], at: number): string | null {
  const writes = history.filter(({ input }) => input.op === "write" || input.op === "create");
  for (const { input, returnedAt = 0 } of writes) {
    const over = writes.some(other => other.calledAt > returnedAt && (other.returnedAt ?? at) < at);
    if (over && "value" in input) return input.value;
  }
  return null;
}

t.test("a read of a value that was overwritten is found", async t => {
  let mutated = 0;
  fc.assert(
    fc.property(arbitrarySlots(40), slots => {
      const history = plainHistory(slots);
      const stale = history
        .filter(({ input }) => input.op === "read")
        .map(one => ({ one, value: staleValue(history, one.calledAt) }))
        .find(({ value }) => value !== null);
      if (stale === undefined) return true;
      mutated += 1;
      const wrong = { ...stale.one, output: { value: stale.value } };
      return isGood(history) && !isGood(history.map(one => (one === stale.one ? wrong : one)));
    }),
    { numRuns: RUNS },
  );
  t.ok(mutated > RUNS / 3, `${mutated} histories had a stale value to read`);
});

t.test("a lost write is found", async t => {
  fc.assert(
    fc.property(arbitrarySlots(20), slots => {
      const history = plainHistory(slots);
      const end = Math.max(...history.map(({ returnedAt = 0 }) => returnedAt));
      const before = history.findLast(({ input }) => input.op === "read")?.output;
      const lostOne = write(end + 1, end + 2, "lost");
      const after = call(end + 3, end + 4, { op: "read" }, before);
      return !isGood([...history, lostOne, after]);
    }),
    { numRuns: RUNS },
  );
  t.pass("every time");
});

t.test("small histories, right and wrong, are judged as by trying every order", async t => {
  const verdicts = { good: 0, bad: 0 };
  const spoil = fc.array(fc.tuple(fc.nat({ max: 6 }), fc.nat({ max: 6 })), { maxLength: 2 });
  fc.assert(
    fc.property(arbitrarySlots(7), spoil, (slots, spoils) => {
      const history = realHistory(slots);
      for (const [at, value] of spoils) {
        const one = history[at % history.length];
        if (one?.output === undefined) continue;
        const output = "value" in one.output ? { value: `v${value}` } : { done: !one.output.done };
        history[at % history.length] = { ...one, output };
      }
      const verdict = isGoodByTrial(history);
      verdicts[verdict ? "good" : "bad"] += 1;
      return isGood(history) === verdict;
    }),
    { numRuns: 5 * RUNS },
  );
  t.ok(Math.min(verdicts.good, verdicts.bad) > RUNS / 2, JSON.stringify(verdicts));
});

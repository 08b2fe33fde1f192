/**
 * Whether a history of concurrent calls could have come from an object that does one thing at a
 * time (Herlihy and Wing, 1990). The search is Wing and Gong's with Lowe's memory of visited
 * configurations, as in Knossos and porcupine.
 */
export interface Model<State, Input, Output> {
  readonly initial: State;
  /**
   * What `input` does to `state`, or null when it cannot have answered `output`. `output` undefined
   * means that nobody knows the answer: it is possible from every state.
   */
  step(state: State, input: Input, output: Output | undefined): { readonly state: State } | null;
  /** Equal states have equal keys. */
  key(state: State): string;
}

/** One call. A call whose answer never came may take effect at any time after it, or never. */
export interface Operation<Input, Output> {
  readonly input: Input;
  readonly calledAt: number;
  /** Undefined together with `output` when no answer came. */
  readonly returnedAt?: number | undefined;
  readonly output?: Output | undefined;
}

interface Node {
  readonly id: number;
  /** The matching return; null on a return itself. */
  readonly end: Node | null;
  before: Node | null;
  after: Node | null;
}

interface Frame<State> {
  readonly call: Node;
  readonly state: State;
}

interface Moment {
  readonly id: number;
  readonly at: number;
  readonly isReturn: boolean;
}

/** Calls and returns in order of time; at one moment calls come first: they overlap. */
function moments(history: readonly Operation<unknown, unknown>[]): Moment[] {
  const all = history.flatMap(({ calledAt, returnedAt = Number.POSITIVE_INFINITY }, id) => [
    { id, at: calledAt, isReturn: false },
    { id, at: returnedAt, isReturn: true },
  ]);
  return all.sort((a, b) => a.at - b.at || Number(a.isReturn) - Number(b.isReturn) || a.id - b.id);
}

function linked(history: readonly Operation<unknown, unknown>[]): Node {
  const head: Node = { id: -1, end: null, before: null, after: null };
  const ends = history.map((_, id): Node => ({ id, end: null, before: null, after: null }));
  let last = head;
  for (const { id, isReturn } of moments(history)) {
    const end = ends[id] ?? null;
    const node: Node = isReturn && end !== null ? end : { id, end, before: null, after: null };
    node.before = last;
    last.after = node;
    last = node;
  }
  return head;
}

function unlink(node: Node): void {
  if (node.before !== null) node.before.after = node.after;
  if (node.after !== null) node.after.before = node.before;
}

function relink(node: Node): void {
  if (node.before !== null) node.before.after = node;
  if (node.after !== null) node.after.before = node;
}

/** The calls taken to have happened, as a set that can be a key. */
class Taken {
  readonly #words: Int32Array;

  constructor(size: number) {
    this.#words = new Int32Array((size + 31) >> 5);
  }

  flip(id: number): void {
    this.#words[id >> 5] = (this.#words[id >> 5] ?? 0) ^ (1 << (id & 31));
  }

  get key(): string {
    return this.#words.join(",");
  }
}

/** Whether `history` is linearizable with respect to `model`. */
export function isLinearizable<State, Input, Output>(
  model: Model<State, Input, Output>,
  history: readonly Operation<Input, Output>[],
): boolean {
  const head = linked(history);
  const stack: Frame<State>[] = [];
  const seen = new Set<string>();
  const taken = new Taken(history.length);
  let { initial: state } = model;
  let at = head.after;
  while (head.after !== null) {
    if (at === null) return false;
    const operation = history[at.id];
    if (operation === undefined) return false;
    if (at.end !== null) {
      const next = model.step(state, operation.input, operation.output);
      taken.flip(at.id);
      const key = next === null ? "" : `${taken.key}/${model.key(next.state)}`;
      if (next !== null && !seen.has(key)) {
        seen.add(key);
        stack.push({ call: at, state });
        state = next.state;
        unlink(at);
        unlink(at.end);
        at = head.after;
      } else {
        taken.flip(at.id);
        at = at.after;
      }
      continue;
    }
    // A call that has returned was not taken: something taken before it was wrong.
    const frame = stack.pop();
    if (frame === undefined) return false;
    const { call } = frame;
    state = frame.state;
    taken.flip(call.id);
    if (call.end !== null) relink(call.end);
    relink(call);
    at = call.after;
  }
  return true;
}

/** A register that may be absent. Values are unique, so that each write can be told apart. */
export type RegisterInput =
  | { readonly op: "read" }
  | { readonly op: "create"; readonly value: string }
  | { readonly op: "write"; readonly value: string }
  | { readonly op: "delete" }
  | { readonly op: "cas"; readonly from: string; readonly value: string };

/** What a read saw (null: nothing there); for all else whether it was done. */
export type RegisterOutput = { readonly value: string | null } | { readonly done: boolean };

type Register = string | null;

function registerStep(state: Register, input: RegisterInput): [Register, RegisterOutput] {
  switch (input.op) {
    case "read":
      return [state, { value: state }];
    case "create":
      return state === null ? [input.value, { done: true }] : [state, { done: false }];
    case "write":
      return [state === null ? null : input.value, { done: true }];
    case "delete":
      return [null, { done: true }];
    case "cas":
      return state === input.from ? [input.value, { done: true }] : [state, { done: false }];
  }
}

function same(a: RegisterOutput, b: RegisterOutput): boolean {
  if ("value" in a) return "value" in b && a.value === b.value;
  return "done" in b && a.done === b.done;
}

export const REGISTER: Model<Register, RegisterInput, RegisterOutput> = {
  initial: null,
  step: (state, input, output) => {
    const [next, answer] = registerStep(state, input);
    return output === undefined || same(answer, output) ? { state: next } : null;
  },
  key: state => state ?? "",
};

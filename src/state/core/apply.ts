import type {
  Change,
  Commit,
  RowEvent,
  Transaction,
  TransactionResult,
} from "../../model/change.ts";
import type { RowMeta, TableName, Task, TaskStatus } from "../../model/rows.ts";
import { compareTaskStates, isTerminal } from "../../model/task-state.ts";
import { canonicalJson } from "./canonical.ts";
import { deepFreeze } from "./freeze.ts";
import type { StateTables } from "./tables.ts";

export interface ApplyOutcome {
  readonly result: TransactionResult;
  /** Null when nothing changed. */
  readonly commit: Commit | null;
}

type Refusal = Extract<TransactionResult, { ok: false }>;

interface Touched {
  readonly table: TableName;
  readonly id: string;
  readonly before: RowMeta | undefined;
}

function refuse(code: Refusal["code"], message: string): Refusal {
  return { ok: false, code, message };
}

function outOfSequence(): Refusal {
  return refuse("out_of_sequence", "update out of sequence");
}

/** A row on its way in: a copy of its own, which nobody has seen. */
type Fresh<Row> = { -readonly [Field in keyof Row]: Row[Field] };

/** The transaction in progress: writes go straight to the tables, and are undone if it fails. */
class Draft {
  readonly #state: StateTables;
  readonly #index: number;
  readonly #nowMs: number;
  readonly #touched: Touched[] = [];
  readonly #touchedIds = new Map<TableName, Set<string>>();

  constructor(state: StateTables, index: number, nowMs: number) {
    this.#state = state;
    this.#index = index;
    this.#nowMs = nowMs;
  }

  get(table: TableName, id: string): RowMeta | undefined {
    return this.#state.rows(table).get(id);
  }

  /** Stamps and stores `row`, with `fields` set, in place of `before`. One copy, as rows are many. */
  write(
    table: TableName,
    row: { readonly id: string },
    before: RowMeta | undefined,
    fields: object = {},
  ): Refusal | null {
    const after: Fresh<RowMeta> = {
      ...row,
      ...fields,
      id: row.id,
      version: this.#index,
      createdAtMs: before?.createdAtMs ?? this.#nowMs,
      updatedAtMs: this.#nowMs,
    };
    if (table === "tasks" && !this.#live(after as Task, before as Task | undefined)) {
      return outOfSequence();
    }
    const rows = this.#state.rows(table);
    if (!rows.admits(after)) return refuse("invalid_argument", `malformed row in ${table}`);
    const conflict = this.#state.nameConflict(table, after);
    if (conflict !== null) return refuse("already_exists", conflict);
    if (this.#state.freezesRows) deepFreeze(after);
    this.#touch(table, after.id, before);
    rows.put(after.id, after);
    return null;
  }

  remove(table: TableName, id: string): void {
    this.#touch(table, id, this.get(table, id));
    this.#state.rows(table).put(id, undefined);
  }

  rollBack(): void {
    for (const { table, id, before } of this.#touched) this.#state.rows(table).put(id, before);
  }

  events(): RowEvent[] {
    const events: RowEvent[] = [];
    for (const { table, id, before = null } of this.#touched) {
      const after = this.get(table, id) ?? null;
      if (before !== after) events.push({ table, id, before, after } as RowEvent);
    }
    return events;
  }

  /** Notes what a row was before the transaction, once. */
  #touch(table: TableName, id: string, before: RowMeta | undefined): void {
    let ids = this.#touchedIds.get(table);
    if (ids === undefined) {
      ids = new Set();
      this.#touchedIds.set(table, ids);
    }
    if (ids.has(id)) return;
    ids.add(id);
    this.#touched.push({ table, id, before });
  }

  /** Stamps a task's life; false when it would go back in it, observed or desired. */
  #live(after: Fresh<Task>, before: Task | undefined): boolean {
    const { desiredState, status } = after;
    if (before !== undefined) {
      if (compareTaskStates(desiredState, before.desiredState) < 0) return false;
      if (compareTaskStates(status.state, before.status.state) < 0) return false;
    }
    if (status.state === "running" && !after.runningSinceMs) after.runningSinceMs = this.#nowMs;
    if (isTerminal(status.state) && !after.endedAtMs) after.endedAtMs = this.#nowMs;
    return true;
  }
}

function checkVersion(row: RowMeta | undefined, what: string, ifVersion: number): Refusal | null {
  if (row === undefined) return refuse("not_found", `${what} not found`);
  return row.version === ifVersion ? null : outOfSequence();
}

function applyStatus(draft: Draft, id: string, status: TaskStatus): Refusal | null {
  const task = draft.get("tasks", id) as Task | undefined;
  if (task === undefined) return null;
  const order = compareTaskStates(status.state, task.status.state);
  if (order < 0) return null;
  if (order === 0 && canonicalJson(status) === canonicalJson(task.status)) return null;
  return draft.write("tasks", task, task, { status });
}

function applyChange(draft: Draft, change: Change): Refusal | null {
  if (change.op === "taskStatus") return applyStatus(draft, change.id, change.status);
  const { table } = change;
  const id = "row" in change ? change.row.id : change.id;
  const row = draft.get(table, id);
  if (change.op === "create") {
    if (row === undefined) return draft.write(table, change.row, undefined);
    return refuse("already_exists", `${table} ${id} already exists`);
  }
  if (change.ifVersion !== undefined) {
    const refusal = checkVersion(row, `${table} ${id}`, change.ifVersion);
    if (refusal !== null) return refusal;
  }
  if (row === undefined) return null;
  if (change.op === "update") return draft.write(table, change.row, row);
  if (change.op === "patch") return draft.write(table, row, row, change.fields);
  draft.remove(table, id);
  return null;
}

/**
 * Applies a committed transaction whole or not at all. Deterministic: reads nothing but the state
 * and the transaction. Total: every decoded transaction has an outcome. Changes that find nothing
 * to do (a patch of a row that has gone, a status that would go back) are skipped. A patch or an
 * update that would take a task back in its life is refused as out_of_sequence.
 */
export function applyTransaction(state: StateTables, tx: Transaction, index: number): ApplyOutcome {
  state.index = index;
  const draft = new Draft(state, index, tx.nowMs);
  for (const change of tx.changes) {
    const refusal = applyChange(draft, change);
    if (refusal === null) continue;
    draft.rollBack();
    return { result: refusal, commit: null };
  }
  state.nowMs = tx.nowMs;
  const events = draft.events();
  const commit = events.length === 0 ? null : { index, nowMs: tx.nowMs, events };
  return { result: { ok: true, index }, commit };
}

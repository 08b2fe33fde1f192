import { SwarmError } from "../../base/errors.ts";
import type { Change, Transaction } from "../../model/change.ts";
import { TABLE_NAMES } from "../../model/rows.ts";
import { TASK_STATES } from "../../model/task-state.ts";

/** Written into every entry; a manager that does not know it must not guess. */
export const TRANSACTION_FORMAT = 1;
/**
 * Bytes of one encoded transaction. Twice swarm mode's 1.5 MB (SwarmKit memory.go): here a service's
 * spec is written twice, as its present one and as a version, and what swarm mode takes must fit.
 */
export const MAX_TRANSACTION_BYTES = 3 * 1024 * 1024;
/** Changes in one transaction (SwarmKit MaxChangesPerTransaction). */
export const MAX_CHANGES_PER_TRANSACTION = 200;

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();
const TABLES: ReadonlySet<string> = new Set(TABLE_NAMES);
const STATES: ReadonlySet<string> = new Set(TASK_STATES);

/** Throws invalid_argument when the transaction is larger than an entry may be. */
export function encodeTransaction(tx: Transaction): Uint8Array {
  if (tx.changes.length > MAX_CHANGES_PER_TRANSACTION) {
    throw new SwarmError(
      "invalid_argument",
      `a transaction of ${tx.changes.length} changes is above ${MAX_CHANGES_PER_TRANSACTION}: split it`,
    );
  }
  const text = JSON.stringify({ v: TRANSACTION_FORMAT, nowMs: tx.nowMs, changes: tx.changes });
  const bytes = ENCODER.encode(text);
  if (bytes.length > MAX_TRANSACTION_BYTES) {
    throw new SwarmError(
      "invalid_argument",
      `the change takes ${bytes.length} bytes in the log, more than the ${MAX_TRANSACTION_BYTES} of ` +
        "one entry: make its spec smaller (each version of a service's spec is kept)",
    );
  }
  return bytes;
}

export type DecodedTransaction =
  | { readonly ok: true; readonly tx: Transaction }
  | { readonly ok: false; readonly message: string };

/**
 * Total, and the same on every manager of one version. Throws SwarmError data_loss only for an
 * entry of a later format: going on would let the managers' states drift apart.
 */
export function decodeTransaction(bytes: Uint8Array): DecodedTransaction {
  let value: unknown;
  try {
    value = JSON.parse(DECODER.decode(bytes));
  } catch {
    return { ok: false, message: "the entry is not a transaction" };
  }
  if (!isRecord(value)) return { ok: false, message: "the entry is not a transaction" };
  if (typeof value["v"] === "number" && value["v"] > TRANSACTION_FORMAT) {
    throw new SwarmError(
      "data_loss",
      `the log holds transactions of format ${value["v"]}, ` +
        `this swarmd knows ${TRANSACTION_FORMAT}: upgrade it`,
    );
  }
  return isTransaction(value)
    ? { ok: true, tx: value }
    : { ok: false, message: "malformed change" };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTransaction(
  value: Record<string, unknown>,
): value is Record<string, unknown> & Transaction {
  const { nowMs, changes } = value;
  return Number.isFinite(nowMs) && Array.isArray(changes) && changes.every(isChange);
}

function isName(value: unknown): boolean {
  return typeof value === "string" && value !== "" && value !== "__proto__";
}

function isVersion(value: unknown): boolean {
  return Number.isSafeInteger(value);
}

function isStatus(value: unknown): boolean {
  return isRecord(value) && typeof value["state"] === "string" && STATES.has(value["state"]);
}

/** The fields that `apply` itself reads of a task, when they are there. */
function isTaskPart(fields: Record<string, unknown>): boolean {
  const { status, desiredState } = fields;
  if (status !== undefined && !isStatus(status)) return false;
  return desiredState === undefined || STATES.has(String(desiredState));
}

function isRow(table: unknown, row: unknown, whole: boolean): boolean {
  if (!isRecord(row) || (whole && !isName(row["id"]))) return false;
  if (table !== "tasks") return true;
  const complete = row["status"] !== undefined && row["desiredState"] !== undefined;
  return isTaskPart(row) && (complete || !whole);
}

type ChangeCheck = (change: Record<string, unknown>) => boolean;

function hasTable(change: Record<string, unknown>): boolean {
  return typeof change["table"] === "string" && TABLES.has(change["table"]);
}

function hasOptionalVersion(change: Record<string, unknown>): boolean {
  return change["ifVersion"] === undefined || isVersion(change["ifVersion"]);
}

const CHANGE_CHECKS: { readonly [Op in Change["op"]]: ChangeCheck } = {
  create: change => hasTable(change) && isRow(change["table"], change["row"], true),
  update: change =>
    hasTable(change) &&
    isRow(change["table"], change["row"], true) &&
    isVersion(change["ifVersion"]),
  patch: change =>
    hasTable(change) &&
    isName(change["id"]) &&
    isRow(change["table"], change["fields"], false) &&
    hasOptionalVersion(change),
  delete: change => hasTable(change) && isName(change["id"]) && hasOptionalVersion(change),
  taskStatus: change => isName(change["id"]) && isStatus(change["status"]),
};

const CHECKS: ReadonlyMap<unknown, ChangeCheck> = new Map(Object.entries(CHANGE_CHECKS));

function isChange(value: unknown): boolean {
  return isRecord(value) && (CHECKS.get(value["op"])?.(value) ?? false);
}

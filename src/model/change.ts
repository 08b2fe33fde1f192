import type { TableName, Tables, TaskStatus } from "./rows.ts";

type RowFields<T extends TableName> = Omit<Tables[T], "version" | "createdAtMs" | "updatedAtMs">;

/**
 * One change of the replicated state. A transaction is a list of them, applied whole or not at all.
 *
 * - `create`: fails with already_exists when the id is taken.
 * - `update`: replaces the row; fails with out_of_sequence when the row's version is not
 *   `ifVersion`.
 * - `patch`: sets top-level fields of a row and leaves the others, so that two owners of different
 *   fields (the orchestrator's `desiredState`, the dispatcher's `status`) never overwrite each
 *   other. With `ifVersion` it is checked as `update`. A patch of a row that has gone is skipped
 *   unless it has `ifVersion`.
 * - `delete`: with `ifVersion` checked; of a row that has gone, skipped.
 * - `taskStatus`: reports an observed state; ignored when it would go backwards.
 */
export type Change =
  | {
      [T in TableName]: { readonly op: "create"; readonly table: T; readonly row: RowFields<T> };
    }[TableName]
  | {
      [T in TableName]: {
        readonly op: "update";
        readonly table: T;
        readonly row: RowFields<T>;
        readonly ifVersion: number;
      };
    }[TableName]
  | {
      [T in TableName]: {
        readonly op: "patch";
        readonly table: T;
        readonly id: string;
        readonly fields: Partial<Omit<RowFields<T>, "id">>;
        readonly ifVersion?: number;
      };
    }[TableName]
  | {
      readonly op: "delete";
      readonly table: TableName;
      readonly id: string;
      readonly ifVersion?: number;
    }
  | { readonly op: "taskStatus"; readonly id: string; readonly status: TaskStatus };

/** What goes through the log: changes, and the leader's clock stamped into them. */
export interface Transaction {
  readonly nowMs: number;
  readonly changes: readonly Change[];
}

/** The outcome of a transaction at apply; the same on every manager. */
export type TransactionResult =
  | { readonly ok: true; readonly index: number }
  | {
      readonly ok: false;
      readonly code: "already_exists" | "out_of_sequence" | "not_found" | "invalid_argument";
      readonly message: string;
    };

/** A row as it was before and is after a transaction; null = absent. */
export type RowEvent = {
  [T in TableName]: {
    readonly table: T;
    readonly id: string;
    readonly before: Tables[T] | null;
    readonly after: Tables[T] | null;
  };
}[TableName];

/** One applied transaction that changed something: what watchers and the planner loop see. */
export interface Commit {
  readonly index: number;
  readonly nowMs: number;
  readonly events: readonly RowEvent[];
}

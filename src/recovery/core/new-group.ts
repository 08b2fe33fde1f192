import type { Node, RowMeta, TableName } from "../../model/rows.ts";
import { TABLE_NAMES } from "../../model/rows.ts";
import type { StateView } from "../../model/view.ts";
import type { StateImage } from "../../state/core/snapshot-codec.ts";

/**
 * At least this many indexes lie between the old group's log and the new one's (etcd's advice for
 * a restore: `--bump-revision 1000000000`): more than the lost part of any log.
 */
export const INDEX_JUMP = 1_000_000_000;

/** The manager that is the whole of a new Raft group. */
export interface Founder {
  readonly raftId: number;
  readonly nodeId: string;
  /** host:port of its cluster port. */
  readonly addr: string;
}

/**
 * Where a new group's log begins: above everything that any manager of the old group can have
 * written, so that no client sees a version go back. Two groups made of the same old state differ
 * too: the wall clock moves on faster (1,000 a second) than a log grows.
 */
export function firstIndexOfGroup(oldIndex: number, nowMs: number): number {
  return Math.max(oldIndex + INDEX_JUMP, Math.floor(nowMs));
}

type RowEdit = (row: RowMeta) => RowMeta | null;

/**
 * The state of the old group as the new group begins with it. All is kept but the membership: the
 * founder is the only member, and the other managers count as workers from now on, so that one that
 * comes back is told so by its certificate's renewal and can be promoted again. Every row carries
 * the new index as its version. `founder` also has a row among the nodes, or `founderRow` is it.
 */
export function imageOfNewGroup(
  view: StateView,
  group: { readonly index: number; readonly nowMs: number; readonly founder: Founder },
  founderRow: Node | null = null,
): StateImage {
  const { index, nowMs, founder } = group;
  const edits: Partial<Record<TableName, RowEdit>> = {
    members: () => null,
    nodes: row => nodeInNewGroup(row as Node, founder.nodeId),
  };
  const added: Partial<Record<TableName, RowMeta>> = {
    members: memberRow(founder, nowMs),
    ...(founderRow === null ? {} : { nodes: founderRow }),
  };
  const tables = TABLE_NAMES.map(name => {
    const edit = edits[name] ?? ((row: RowMeta) => row);
    const kept = [...view.table(name).all()].map(edit).filter(row => row !== null);
    const more = added[name];
    const rows = more === undefined ? kept : [...kept, more];
    return [name, rows.map(row => ({ ...row, version: index }))] as const;
  });
  return { index, nowMs, tables };
}

function nodeInNewGroup(node: Node, founderId: string): Node {
  const role = node.id === founderId ? "manager" : "worker";
  return node.spec.Role === role ? node : { ...node, spec: { ...node.spec, Role: role } };
}

function memberRow(founder: Founder, nowMs: number): RowMeta & Founder {
  const times = { createdAtMs: nowMs, updatedAtMs: nowMs };
  return { id: String(founder.raftId), version: 0, ...times, ...founder };
}

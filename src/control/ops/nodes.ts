import type { Change } from "../../model/change.ts";
import type { Node, NodeSpec, Task } from "../../model/rows.ts";
import { isTerminal } from "../../model/task-state.ts";
import { validateNodeSpec } from "../../model/validate-cluster.ts";
import type { StateView } from "../../model/view.ts";
import type { OperationContext } from "../context.ts";
import { outOfSequence, rpcError } from "../core/errors.ts";
import { nodeTest } from "../core/filters.ts";
import { findNode } from "../core/lookup.ts";
import type { ManagerInfo, OperationArgs, OperationResult } from "../operations.ts";
import { clusterOf, rootsOf } from "./swarm.ts";

/** Changes in one transaction when a removed node's tasks are given up. */
const MAX_ORPHANS_PER_SUBMIT = 200;

export function listNodes(
  ctx: OperationContext,
  args: OperationArgs<"node.list">,
): OperationResult<"node.list"> {
  const wanted = nodeTest(args.filters);
  const roots = rootsOf(clusterOf(ctx.view));
  return [...ctx.view.table("nodes").all()].filter(wanted).map(node => ({ node, ...roots }));
}

export function getNode(
  ctx: OperationContext,
  args: OperationArgs<"node.get">,
): OperationResult<"node.get"> {
  const node = findNode(ctx.view, args.ref);
  const roots = rootsOf(clusterOf(ctx.view));
  return { node, ...roots };
}

export function listManagers(ctx: OperationContext): OperationResult<"manager.list"> {
  return ctx.members.managers();
}

function managerOf(ctx: OperationContext, nodeId: string): ManagerInfo | null {
  return ctx.members.managers().find(manager => manager.nodeId === nodeId) ?? null;
}

export async function updateNode(
  ctx: OperationContext,
  args: OperationArgs<"node.update">,
): Promise<OperationResult<"node.update">> {
  const spec = validateNodeSpec(args.spec);
  await ctx.exclusive(["roles"], async () => {
    const node = findNode(ctx.view, args.ref);
    if (node.version !== args.version) throw outOfSequence();
    checkDemotion(ctx, node, spec);
    await ctx.submit([
      { op: "patch", table: "nodes", id: node.id, fields: { spec }, ifVersion: node.version },
    ]);
  });
  return {};
}

/** A manager may step down only if the others keep a quorum (SwarmKit controlapi UpdateNode). */
function checkDemotion(ctx: OperationContext, node: Node, next: NodeSpec): void {
  if (node.spec.Role !== "manager" || next.Role !== "worker") return;
  const managers = [...ctx.view.table("nodes").all()].filter(
    other => other.spec.Role === "manager",
  );
  if (managers.length === 1) {
    const text = "attempting to demote the last manager of the swarm";
    throw rpcError("failed_precondition", text);
  }
  // One that never got into the group, or has left it, is not counted on.
  if (managerOf(ctx, node.id) === null) return;
  const { voters, reachable, needed } = ctx.members.without(node.id);
  if (reachable >= needed) return;
  throw rpcError(
    "failed_precondition",
    "can't remove member from the raft: this would result in a loss of quorum: " +
      `${reachable} of the ${voters} other managers can be reached and ${needed} are needed`,
  );
}

export async function removeNode(
  ctx: OperationContext,
  args: OperationArgs<"node.remove">,
): Promise<OperationResult<"node.remove">> {
  await ctx.exclusive(["roles"], async () => {
    const node = findNode(ctx.view, args.ref);
    checkRemoval(ctx, node, args.force);
    const changes = nodeRemoval(ctx.view, node.id, ctx.nowMs);
    // The node goes last: a removal that stops half-way can be repeated.
    for (let at = 0; at < changes.length; at += MAX_ORPHANS_PER_SUBMIT) {
      await ctx.submit(changes.slice(at, at + MAX_ORPHANS_PER_SUBMIT));
    }
  });
  return {};
}

/** What makes the cluster forget a node. */
export function nodeRemoval(view: StateView, nodeId: string, nowMs: number): Change[] {
  const changes: Change[] = view.tasksOfNode(nodeId).flatMap(task => forgetTask(task, nowMs));
  changes.push({ op: "delete", table: "nodes", id: nodeId });
  return changes;
}

function checkRemoval(ctx: OperationContext, node: Node, force: boolean): void {
  if (node.spec.Role === "manager" || managerOf(ctx, node.id) !== null) {
    throw rpcError(
      "failed_precondition",
      `node ${node.id} is a cluster manager and is a member of the raft cluster. ` +
        "It must be demoted to worker before removal",
    );
  }
  if (!force && node.status.state === "ready") {
    throw rpcError("failed_precondition", `node ${node.id} is not down and can't be removed`);
  }
}

/** A plain container's place on a network has no history, and nobody else would take it away. */
function forgetTask(task: Task, nowMs: number): readonly Change[] {
  if (task.serviceId === "") return [{ op: "delete", table: "tasks", id: task.id }];
  return isTerminal(task.status.state) ? [] : [orphan(task, nowMs)];
}

/** Nobody will report on the task any more; its replacement need not wait for it. */
function orphan(task: Task, nowMs: number): Change {
  return {
    op: "taskStatus",
    id: task.id,
    status: {
      ...task.status,
      state: "orphaned",
      timestampMs: nowMs,
      message: "Task belonged to a node that has been deleted",
    },
  };
}

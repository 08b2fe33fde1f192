import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import { nodeRemoval } from "../control/ops/nodes.ts";
import type { Change } from "../model/change.ts";
import type { NodeSpec } from "../model/rows.ts";
import type { PeerInfo, RaftNode } from "../raft/ports.ts";
import type { CallContext } from "../rpc/call.ts";
import type { RpcClients } from "../rpc/clients.ts";
import {
  type JoinGroupRequest,
  type JoinGroupResponse,
  type LeaveGroupRequest,
  type LeaveGroupResponse,
  MembershipService,
} from "../rpc/gen/swarmd/v1/membership.ts";
import { RaftService } from "../rpc/gen/swarmd/v1/raft.ts";
import type { Handlers } from "../rpc/handlers.ts";
import type { Access } from "../rpc/ports.ts";
import type { StateStore } from "../state/ports.ts";
import { leaderAddrOf } from "./ca-backend.ts";

export const MEMBERSHIP_ACCESS: Readonly<Record<string, Access>> = {
  join: "manager",
  leave: "node",
};

/** A joiner waits for its admission: the leader may have another change under way. */
export const JOIN_CALL_TIMEOUT_MS = 15_000;
const DIAL_BACK_TIMEOUT_MS = 3_000;

export interface MembershipDeps {
  readonly clusterId: string;
  readonly clients: RpcClients;
  readonly raft: RaftNode;
  readonly store: StateStore;
  readonly clock: Clock;
}

/** Admission to and leave from the Raft group, at the leader. */
export function membershipHandlers(deps: MembershipDeps): Handlers<typeof MembershipService> {
  return {
    join: (request, context) => join(deps, request, context),
    leave: (request, context) => leave(deps, request, context),
  };
}

async function join(
  deps: MembershipDeps,
  request: JoinGroupRequest,
  context: CallContext,
): Promise<JoinGroupResponse> {
  const nodeId = callerOf(deps, context);
  const { raft, store } = deps;
  const node = store.view.table("nodes").get(nodeId);
  if (node === undefined || node.spec.Role !== "manager") {
    throw new SwarmError("permission_denied", `node ${nodeId} is no manager of this cluster`);
  }
  const peer = { raftId: request.raftId, nodeId, addr: request.addr };
  await dialBack(deps, peer, context.signal);
  const former = [...store.view.table("members").all()].filter(
    member => member.nodeId === nodeId && member.raftId !== request.raftId,
  );
  // A manager that lost its disk comes back under a new id; the old one must not be counted on.
  for (const member of former) await raft.removeMember(member.raftId, context.signal);
  await raft.addMember(peer, context.signal);
  return { members: [...store.view.table("members").all()].map(toGroupMember) };
}

/** A member that the others cannot reach would only count against the quorum. */
async function dialBack(deps: MembershipDeps, peer: PeerInfo, signal: AbortSignal): Promise<void> {
  const { clients, clusterId } = deps;
  const options = { nodeId: peer.nodeId, signal, timeoutMs: DIAL_BACK_TIMEOUT_MS };
  try {
    const request = { clusterId, snapshot: undefined };
    const answer = await clients.unary(RaftService.probe, peer.addr, request, options);
    if (answer.raftId !== peer.raftId) throw new Error("another member of the group answers there");
  } catch (error) {
    throw new SwarmError(
      "failed_precondition",
      "could not connect to prospective new cluster member using its advertised address: " +
        `${errorMessage(error)}. Check its --advertise-addr, and that the leader may reach it`,
      { addr: peer.addr },
      error,
    );
  }
}

async function leave(
  deps: MembershipDeps,
  request: LeaveGroupRequest,
  context: CallContext,
): Promise<LeaveGroupResponse> {
  const { raft, store, clock } = deps;
  const nodeId = callerOf(deps, context);
  for (const member of [...store.view.table("members").all()]) {
    if (member.nodeId === nodeId) await raft.removeMember(member.raftId, context.signal);
  }
  const node = store.view.table("nodes").get(nodeId);
  if (request.forget) {
    await store.submit(nodeRemoval(store.view, nodeId, clock.nowMs()), context.signal);
  } else if (node?.spec.Role === "manager") {
    // Otherwise it could not be removed from the list without being demoted first.
    const spec: NodeSpec = { ...node.spec, Role: "worker" };
    const change: Change = { op: "patch", table: "nodes", id: nodeId, fields: { spec } };
    await store.submit([change], context.signal);
  }
  return {};
}

function toGroupMember(member: {
  readonly raftId: number;
  readonly nodeId: string;
  readonly addr: string;
}): JoinGroupResponse["members"][number] {
  return { raftId: member.raftId, nodeId: member.nodeId, addr: member.addr };
}

/** The caller's node id. Throws not_leader, with the leader's address, anywhere but there. */
function callerOf(deps: MembershipDeps, context: CallContext): string {
  if (deps.raft.status().role !== "leader") {
    const leader = leaderAddrOf(deps.raft, deps.store.view);
    throw new SwarmError("not_leader", "this manager is not the leader", { leader });
  }
  if (context.peer === null) throw new SwarmError("unauthenticated", "no certificate");
  return context.peer.nodeId;
}

/** The client's side of `Join`, for `callLeader`. */
export function requestJoin(
  clients: RpcClients,
  addr: string,
  request: JoinGroupRequest,
  signal: AbortSignal,
): Promise<JoinGroupResponse> {
  const options = { signal, timeoutMs: JOIN_CALL_TIMEOUT_MS };
  return clients.unary(MembershipService.join, addr, request, options);
}

/** The client's side of `Leave`. */
export function requestLeave(
  clients: RpcClients,
  addr: string,
  request: LeaveGroupRequest,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<LeaveGroupResponse> {
  return clients.unary(MembershipService.leave, addr, request, options);
}

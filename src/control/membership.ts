import type { RaftNode } from "../raft/ports.ts";
import type { StateStore } from "../state/ports.ts";
import type { ManagerInfo, MembershipPort } from "./ports.ts";

/** The Raft group by node: the state's members against what Raft knows of them. */
export class MembershipView implements MembershipPort {
  readonly #raft: RaftNode;
  readonly #store: StateStore;

  constructor(raft: RaftNode, store: StateStore) {
    this.#raft = raft;
    this.#store = store;
  }

  managers(): readonly ManagerInfo[] {
    const { leaderId, conf } = this.#raft.status();
    return [...this.#store.view.table("members").all()].map(member => ({
      raftId: member.raftId,
      nodeId: member.nodeId,
      addr: member.addr,
      leader: member.raftId === leaderId,
      voter: conf.voters.includes(member.raftId),
      reachable: this.#raft.reachable(member.raftId),
    }));
  }

  /** SwarmKit's CanRemoveMember: the reachable rest must be a majority of the rest. */
  canRemove(nodeId: string): boolean {
    const managers = this.managers();
    const removed = managers.find(manager => manager.nodeId === nodeId);
    if (removed === undefined) return false;
    const rest = managers.filter(manager => manager.voter && manager.nodeId !== nodeId);
    const reachable = rest.filter(manager => manager.reachable).length;
    return reachable >= Math.floor(rest.length / 2) + 1;
  }
}

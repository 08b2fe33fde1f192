import type { RaftNode } from "../raft/ports.ts";
import type { StateStore } from "../state/ports.ts";
import type { ManagerInfo } from "./operations.ts";
import type { MembershipPort, RemainingManagers } from "./ports.ts";

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

  /** After SwarmKit's CanRemoveMember: the reachable rest must be a majority of the rest. */
  without(nodeId: string): RemainingManagers {
    const rest = this.managers().filter(manager => manager.voter && manager.nodeId !== nodeId);
    return {
      voters: rest.length,
      reachable: rest.filter(manager => manager.reachable).length,
      needed: Math.floor(rest.length / 2) + 1,
    };
  }
}

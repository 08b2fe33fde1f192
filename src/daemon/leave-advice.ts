import type { RaftNode } from "../raft/ports.ts";

/** What a manager is told that leaves without force, in Docker's words (moby daemon/cluster/swarm.go). */
export function removalAdvice(raft: RaftNode): string {
  const { conf } = raft.status();
  const head =
    "You are attempting to leave the swarm on a node that is participating as a manager. ";
  if (conf.voters.length <= 1) {
    return (
      `${head}Removing the last manager erases all current state of the swarm. Use \`--force\` to ` +
      "ignore this message. "
    );
  }
  const reachable = conf.voters.filter(id => raft.reachable(id)).length;
  const left = reachable - 1;
  const after = conf.voters.length - 1;
  if (left > Math.floor(after / 2)) {
    return `${head}Use \`--force\` to suppress this message. `;
  }
  return (
    `${head}Removing this node leaves ${left} managers out of ${conf.voters.length}. Without a Raft ` +
    "quorum your swarm will be inaccessible. The only way to restore a swarm that has lost consensus " +
    "is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message. "
  );
}

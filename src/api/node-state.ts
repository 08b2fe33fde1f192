import { SwarmError } from "../base/errors.ts";
import type { LocalNodeInfo } from "./ports.ts";

/** Docker's sentences (moby daemon/cluster/errors.go and errNoManager). */
export const NODE_STATE_TEXT = {
  inactive:
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to ' +
    "connect this node to swarm and try again.",
  worker:
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster " +
    "state. Please run this command on a manager node or promote the current node to a manager.",
  preparing:
    "This node is not a swarm manager. Manager is being prepared or has trouble connecting to " +
    "the cluster.",
  locked:
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use " +
    '"docker swarm unlock" to unlock it.',
  noSwarm: "This node is not part of a swarm",
  alreadyInSwarm:
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and ' +
    "join another one.",
  networkFromWorker:
    "Cannot create a multi-host network from a worker node. Please create the network from a " +
    "manager node.",
} as const;

/** Why this node cannot answer for the cluster: 503 with the sentence of its state. */
export function noManager(state: LocalNodeInfo): SwarmError {
  const unavailable = (text: string): SwarmError => new SwarmError("unavailable", text);
  if (state.localNodeState === "locked") return unavailable(NODE_STATE_TEXT.locked);
  if (state.localNodeState === "inactive") return unavailable(NODE_STATE_TEXT.inactive);
  if (state.localNodeState === "error" && !state.isManager) {
    return unavailable(NODE_STATE_TEXT.inactive);
  }
  return unavailable(state.isManager ? NODE_STATE_TEXT.preparing : NODE_STATE_TEXT.worker);
}

/** Value of the `Swarm` header of `/_ping`. */
export function swarmHeader(state: LocalNodeInfo): string {
  if (state.localNodeState !== "active") return state.localNodeState;
  return state.isManager ? "active/manager" : "active/worker";
}

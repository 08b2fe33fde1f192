/** What probes are told: whether this node does its part, and why not. */
export interface HealthFacts {
  readonly state: "inactive" | "pending" | "active" | "locked" | "error";
  /** What is wrong just now; empty when nothing is. */
  readonly problem: string;
  readonly isManager: boolean;
  /** Of a manager: a leader is known. */
  readonly hasLeader: boolean;
  /** A manager serves this node's session. */
  readonly isServed: boolean;
  /** The local Docker Engine answers. */
  readonly hasEngine: boolean;
}

export interface Health {
  readonly healthy: boolean;
  /**
   * Whether the local Engine answers. No part of a node's health in the swarm, which survives an
   * Engine's restart, but of its readiness.
   */
  readonly engine: boolean;
  readonly reasons: readonly string[];
}

const STATES: Readonly<Record<HealthFacts["state"], string>> = {
  active: "",
  error: "",
  inactive: "this node is in no swarm: use swarmd init or swarmd join",
  pending: "a change of this node's membership is under way",
  locked: "this manager is locked: use swarmd unlock",
};

export function healthOf(facts: HealthFacts): Health {
  const reasons: string[] = [];
  const say = (isSo: boolean, reason: string): void => {
    if (isSo) reasons.push(reason);
  };
  const isMember = facts.state === "active" || facts.state === "error";
  say(STATES[facts.state] !== "", STATES[facts.state]);
  say(facts.problem !== "", facts.problem);
  say(
    isMember && facts.isManager && !facts.hasLeader,
    "no leader is known: most managers are away, or an election is under way",
  );
  say(isMember && !facts.isServed, "no manager serves this node: it gets no tasks");
  return { healthy: reasons.length === 0, engine: facts.hasEngine, reasons };
}

/** Whether the node can do work now: it is healthy, and its Engine answers. */
export function readinessOf(health: Health): Health {
  if (health.engine) return health;
  const reasons = [...health.reasons, "the Docker Engine of this host does not answer"];
  return { ...health, healthy: false, reasons };
}

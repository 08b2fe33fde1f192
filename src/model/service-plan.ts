/** What a node would have of a service. */
export interface PlannedNode {
  readonly nodeId: string;
  readonly hostname: string;
  /** Tasks that stay as they are. */
  readonly kept: number;
  /** Tasks that would be started. */
  readonly added: number;
  /** Tasks that would be stopped. */
  readonly removed: number;
}

/** Tasks that would wait, all for the same reason. */
export interface PlannedWait {
  readonly tasks: number;
  /** In the words in which such a task would say it. */
  readonly reason: string;
  /** Host names where a task was meant for one node (global services); else empty. */
  readonly nodes: readonly string[];
}

/** What creating or updating a service would come to, with the nodes as they are. */
export interface ServicePlan {
  readonly service: string;
  /** Nodes that have tasks of it, or would; by host name. */
  readonly nodes: readonly PlannedNode[];
  readonly waiting: readonly PlannedWait[];
  /** An update that would not get through: tasks that wait keep it from the rest. */
  readonly unfinished: boolean;
}

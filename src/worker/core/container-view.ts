import type { PortConfig } from "../../model/service-spec.ts";

/** What the Engine says a container is doing; `absent` when it has none for the task. */
export type ContainerPhase =
  | "absent"
  /** Made, and never started (a start that failed leaves it here). */
  | "created"
  /** Its process lives; paused counts as running. */
  | "running"
  | "exited"
  /** The Engine is removing it. */
  | "removing";

/** `none` when the container has no healthcheck. */
export type ContainerHealth = "none" | "starting" | "healthy" | "unhealthy";

/** A task's container as last seen. */
export interface ContainerView {
  readonly phase: ContainerPhase;
  /** Empty when absent. */
  readonly id: string;
  readonly health: ContainerHealth;
  readonly pid: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** The Engine's own words on why it could not run; empty when all is well. */
  readonly error: string;
  /** Epoch ms; 0 = never. */
  readonly finishedAtMs: number;
  /** Host-mode ports as bound. */
  readonly ports: readonly PortConfig[];
}

export const ABSENT_CONTAINER: ContainerView = {
  phase: "absent",
  id: "",
  health: "none",
  pid: 0,
  exitCode: 0,
  oomKilled: false,
  error: "",
  finishedAtMs: 0,
  ports: [],
};

/** One container of this cluster as a listing shows it. */
export interface FoundContainer {
  readonly id: string;
  readonly name: string;
  readonly taskId: string;
  readonly phase: ContainerPhase;
}

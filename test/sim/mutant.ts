import type { Planner } from "../../src/orchestrator/core/planner.ts";
import type { Message, RaftConfig, RaftCoreApi } from "../../src/raft/core/types.ts";
import type { RaftNode, StateMachine } from "../../src/raft/ports.ts";
import type { RaftStorage } from "../../src/raft/storage/raft-storage.ts";
import type { DiskBugs } from "./disk.ts";
import type { SimProcess } from "./process.ts";

/**
 * A seeded bug: takes the place of a part of the production code from outside. Absent parts stay
 * as they are.
 */
export interface Bug {
  readonly disk?: DiskBugs;
  readonly config?: (config: RaftConfig) => RaftConfig;
  readonly core?: (core: RaftCoreApi, process: SimProcess) => RaftCoreApi;
  readonly storage?: (storage: RaftStorage) => RaftStorage;
  readonly machine?: (machine: StateMachine, process: SimProcess) => StateMachine;
  readonly raft?: (raft: RaftNode) => RaftNode;
  readonly send?: (message: Message) => readonly Message[];
  readonly planners?: (planners: readonly Planner[]) => readonly Planner[];
  /** Changes shared code for the time of the run; the result puts it back. */
  readonly patch?: () => () => void;
}

export const NO_BUG: Bug = {};

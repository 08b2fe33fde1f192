import type { StepKind } from "./core/task-machine.ts";
import { Semaphore } from "./semaphore.ts";

/** How many steps of a kind run at once on this node. */
export type StepSlots = Readonly<Record<StepKind, Semaphore>>;

/** More starts at once than this make each of them slower on a small machine, not all faster. */
export const START_SLOTS = 8;
const INSPECT_SLOTS = 16;
const PULL_SLOTS = 3;
/** A stop mostly waits for the process to end. */
const STOP_SLOTS = 128;
const REMOVE_SLOTS = 8;

export function newStepSlots(startSlots: number): StepSlots {
  const making = new Semaphore({ slots: startSlots });
  const stopping = new Semaphore({ slots: STOP_SLOTS });
  return {
    inspect: new Semaphore({ slots: INSPECT_SLOTS }),
    pull: new Semaphore({ slots: PULL_SLOTS }),
    create: making,
    start: making,
    stop: stopping,
    kill: stopping,
    remove: new Semaphore({ slots: REMOVE_SLOTS }),
  };
}

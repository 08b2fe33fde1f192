import { setImmediate as nextImmediate } from "node:timers/promises";

/** The production `DriverDeps.nextTurn`: I/O that is ready is handled first. */
export async function nextTurn(): Promise<void> {
  await nextImmediate();
}

import type { Client } from "./client.ts";
import { pause } from "./pause.ts";
import type { World } from "./world.ts";

const EVERY_MS = 300;

/**
 * Writes all the time through one manager, each write a label of one config: it shows when writes
 * are granted again, and reads its own object between any two writes.
 */
export async function pulse(
  name: string,
  client: Client,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  const object = world.add("config", `pulse-${name}`);
  // Only its pulse writes it.
  object.busy = true;
  await client.create(object, null);
  while (!signal.aborted) {
    const seen = await client.read(object);
    if (seen !== null && seen.value !== null) await client.relabel(object, seen);
    await pause(EVERY_MS, signal);
  }
}

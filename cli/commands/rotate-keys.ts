import type { MeshStatus } from "../../src/model/data-path-status.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";

const POLL_MS = 250;
/** A host that has not moved by then is cut off, or its ports are closed. */
const TIMEOUT_MS = 120_000;

/** `swarmd network rotate-keys`. */
export async function rotateKeys(
  context: CliContext,
  flags: { readonly detach?: boolean },
): Promise<void> {
  const client = context.client();
  const { generation } = await client.post<MeshStatus>("/swarmd/v1/mesh/rotate");
  if (flags.detach === true) {
    context.out(`generation ${generation} of the keys is on its way\n`);
    return;
  }
  const untilMs = context.nowMs() + TIMEOUT_MS;
  for (;;) {
    const status = await client.get<MeshStatus>("/swarmd/v1/mesh");
    if (status.generation > generation || status.settled) break;
    if (context.nowMs() >= untilMs || context.signal.aborted) {
      const waits = status.waitingFor.join(", ") || "the leader";
      throw new CliError(
        `generation ${generation} is not in use everywhere yet (waiting for ${waits}); the keys ` +
          "of before go on meanwhile. `swarmd network doctor` says what is blocked",
      );
    }
    await context.sleep(POLL_MS);
  }
  context.out(`every host uses generation ${generation} of the keys\n`);
}

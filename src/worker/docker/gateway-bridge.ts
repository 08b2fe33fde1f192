import { Backoff } from "../../base/backoff.ts";
import { type Clock, sleep } from "../../base/clock.ts";
import { errorMessage, isSwarmError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Rng } from "../../base/rng.ts";
import { withDeadline } from "../deadline.ts";
import type { DockerEngine, EngineCall } from "./engine.ts";

/** The bridge by which containers on overlay networks reach the outside (libnetwork's name). */
export const GATEWAY_BRIDGE = "docker_gwbridge";

const CALL_TIMEOUT_MS = 20_000;
const RETRY = { baseMs: 500, maxMs: 30_000 };

/** As libnetwork makes it: containers on it are not to reach each other there. */
const CREATE: EngineCall = {
  method: "POST",
  path: "/networks/create",
  body: {
    Name: GATEWAY_BRIDGE,
    Driver: "bridge",
    CheckDuplicate: true,
    Options: {
      "com.docker.network.bridge.enable_icc": "false",
      "com.docker.network.bridge.enable_ip_masquerade": "true",
      "com.docker.network.bridge.name": GATEWAY_BRIDGE,
    },
  },
};

/**
 * Makes the gateway bridge on an Engine that has none, as an Engine does that joins a swarm. One
 * that is there, made with options of the user's own, is left as it is. Tries until it is done.
 */
export async function ensureGatewayBridge(
  engine: DockerEngine,
  deps: { readonly clock: Clock; readonly rng: Rng; readonly logger: Logger },
  signal: AbortSignal,
): Promise<void> {
  const backoff = new Backoff(RETRY, deps.rng);
  while (!signal.aborted) {
    try {
      await withDeadline(deps.clock, "making docker_gwbridge", CALL_TIMEOUT_MS, signal, inner =>
        engine.call(CREATE, inner),
      );
      return;
    } catch (error) {
      if (signal.aborted || isSwarmError(error, "already_exists")) return;
      deps.logger.info("cannot make the gateway bridge yet", { error: errorMessage(error) });
    }
    await sleep(deps.clock, backoff.nextMs(), signal).catch(() => undefined);
  }
}

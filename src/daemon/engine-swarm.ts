import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { withDeadline } from "../worker/deadline.ts";
import { DockerEngine } from "../worker/docker/engine.ts";

/** An Engine that is slow to answer keeps nobody from joining. */
const ASK_TIMEOUT_MS = 2_000;
/** What `GET /swarm` says on an Engine that is a worker or a locked manager (Docker's words). */
const MEMBER_WORDS = [/Worker nodes can't be used/, /needs to be unlocked/, /has been locked/];

export interface EngineSwarmDeps {
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Throws failed_precondition when the host's Engine is in swarm mode itself: both would want the
 * ports 2377 and 4789, and tasks of the one would be strangers to the other. An Engine that does not
 * answer keeps nobody out.
 */
export async function refuseEngineInSwarm(
  engineSocket: string,
  signal: AbortSignal,
  deps: EngineSwarmDeps,
): Promise<void> {
  if (!(await isInSwarm(engineSocket, signal, deps))) return;
  throw new SwarmError(
    "failed_precondition",
    `the Docker Engine at ${engineSocket} is in swarm mode itself: take it out of its swarm first ` +
      `(docker -H unix://${engineSocket} swarm leave --force ends its services), or give swarmd ` +
      "another Engine (--docker-host)",
  );
}

async function isInSwarm(
  engineSocket: string,
  signal: AbortSignal,
  { clock, logger }: EngineSwarmDeps,
): Promise<boolean> {
  const engine = new DockerEngine({ socketPath: engineSocket }, { clock });
  const ask = (inner: AbortSignal): Promise<unknown> =>
    engine.call({ method: "GET", path: "/swarm" }, inner);
  try {
    await withDeadline(
      clock,
      "asking the Docker Engine for its swarm",
      ASK_TIMEOUT_MS,
      signal,
      ask,
    );
    return true;
  } catch (error) {
    signal.throwIfAborted();
    const words = errorMessage(error);
    logger.debug("the Engine is no manager", { answer: words });
    return MEMBER_WORDS.some(pattern => pattern.test(words));
  }
}

import http from "node:http";
import { text } from "node:stream/consumers";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { withDeadline } from "../worker/deadline.ts";

/** An Engine that is slow to answer keeps nobody from joining. */
const ASK_TIMEOUT_MS = 2_000;
const HTTP_OK = 200;
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
  const ask = (inner: AbortSignal): Promise<Answer> => askSwarm(engineSocket, inner);
  try {
    const what = "asking the Docker Engine for its swarm";
    const { status, text: words } = await withDeadline(clock, what, ASK_TIMEOUT_MS, signal, ask);
    return status === HTTP_OK || MEMBER_WORDS.some(pattern => pattern.test(words));
  } catch (error) {
    signal.throwIfAborted();
    logger.warn("the Docker Engine does not say whether it is in a swarm", {
      error: errorMessage(error),
    });
    return false;
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Without a version, which would have to be asked for first: a join waits for this. */
function askSwarm(socketPath: string, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.get({ socketPath, path: "/swarm", signal, agent: false }, answer => {
      const { statusCode = 0 } = answer;
      text(answer).then(body => resolve({ status: statusCode, text: body }), reject);
    });
    request.on("error", reject);
  });
}

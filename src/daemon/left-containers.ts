import type { Clock } from "../base/clock.ts";
import { errorMessage, isSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { CLUSTER_LABEL } from "../worker/core/container-config.ts";
import { withDeadline } from "../worker/deadline.ts";
import { DockerEngine } from "../worker/docker/engine.ts";

const NODE_LABEL = "com.docker.swarm.node.id";
/** The Engine is asked once; what it does not do in this time stays. */
const REMOVE_TIMEOUT_MS = 20_000;

/**
 * Removes a node's containers when no worker runs that could: a locked manager leaves its cluster.
 * What cannot be removed is told; the node leaves all the same.
 */
export async function removeLeftContainers(
  node: { readonly nodeId: string; readonly clusterId: string },
  engineSocket: string,
  signal: AbortSignal,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Promise<void> {
  const engine = new DockerEngine({ socketPath: engineSocket }, { clock });
  const label = [`${CLUSTER_LABEL}=${node.clusterId}`, `${NODE_LABEL}=${node.nodeId}`];
  const query = { all: "true", filters: JSON.stringify({ label }) };
  const remove = async (id: string, inner: AbortSignal): Promise<void> => {
    const path = `/containers/${id}`;
    try {
      await engine.call({ method: "DELETE", path, query: { force: "true", v: "true" } }, inner);
    } catch (error) {
      if (!isSwarmError(error, "not_found")) throw error;
    }
  };
  try {
    await withDeadline(clock, "removing containers", REMOVE_TIMEOUT_MS, signal, async inner => {
      const list = { method: "GET", path: "/containers/json", query } as const;
      const found = await engine.call<readonly { readonly Id: string }[]>(list, inner);
      await Promise.all(found.map(({ Id }) => remove(Id, inner)));
    });
  } catch (error) {
    logger.warn("containers of the left cluster remain", { error: errorMessage(error) });
  }
}

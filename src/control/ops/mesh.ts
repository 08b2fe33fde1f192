import type { MeshStatus } from "../../model/data-path-status.ts";
import { type MeshState, meshOf } from "../../model/mesh.ts";
import type { StateView } from "../../model/view.ts";
import type { OperationContext } from "../context.ts";
import { rpcError } from "../core/errors.ts";
import { meshLaggards, nextMesh, nodesOfOneKey } from "../core/mesh-rotation.ts";
import { clusterOf } from "./swarm.ts";

export function getMesh(ctx: OperationContext): MeshStatus {
  return statusOf(ctx.view, meshOf(clusterOf(ctx.view)));
}

/** Two at once would take away the generation that hosts still use. */
export async function rotateMesh(ctx: OperationContext): Promise<MeshStatus> {
  return ctx.exclusive(["mesh"], async () => {
    const cluster = clusterOf(ctx.view);
    const now = meshOf(cluster);
    if (!now.settled) {
      const waits = meshLaggards(ctx.view, now).join(", ") || "the leader";
      const text = `the keys of generation ${now.generation} are not in use everywhere yet`;
      throw rpcError("failed_precondition", `${text}: waiting for ${waits}`);
    }
    const old = nodesOfOneKey(ctx.view);
    if (old.length > 0) {
      const text = "nodes of an older version cannot change their keys and would be cut off";
      throw rpcError("failed_precondition", `${text}: upgrade swarmd on ${old.join(", ")} first`);
    }
    const mesh = nextMesh(now, ctx.tokens.newMeshKey(), ctx.nowMs);
    const { id, version: ifVersion } = cluster;
    await ctx.submit([{ op: "patch", table: "cluster", id, fields: { mesh }, ifVersion }]);
    return statusOf(ctx.view, mesh);
  });
}

function statusOf(view: StateView, mesh: MeshState): MeshStatus {
  const { generation, settled, startedAtMs } = mesh;
  const waitingFor = settled ? [] : meshLaggards(view, mesh);
  return { generation, settled, startedAtMs, waitingFor };
}

import type { Cluster } from "./rows.ts";

/**
 * Names of hosts that a node tells of as not reached by the newest keys. A list that is full may
 * leave some out, so it says only that somebody lags.
 */
export const MESH_LAGGING_MAX = 256;

export type MeshState = NonNullable<Cluster["mesh"]>;

/** Of a cluster that has had no rotation: its nodes' first keys, and no shared one. */
export const FIRST_MESH: MeshState = {
  generation: 1,
  psk: "",
  previousPsk: "",
  settled: true,
  startedAtMs: 0,
};

export function meshOf(cluster: Pick<Cluster, "mesh">): MeshState {
  return cluster.mesh ?? FIRST_MESH;
}

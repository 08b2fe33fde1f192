import type { Cluster } from "./rows.ts";

export type MeshState = NonNullable<Cluster["mesh"]>;

/** Of a cluster that has had no rotation: its nodes' first keys, and no shared one. */
const FIRST: MeshState = {
  generation: 1,
  psk: "",
  previousPsk: "",
  settled: true,
  startedAtMs: 0,
};

export function meshOf(cluster: Pick<Cluster, "mesh">): MeshState {
  return cluster.mesh ?? FIRST;
}

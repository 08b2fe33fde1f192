import { FIRST_MESH, MESH_LAGGING_MAX, type MeshState } from "../../model/mesh.ts";
import type { Node } from "../../model/rows.ts";
import type { StateView } from "../../model/view.ts";

/**
 * Keys of the encrypted mesh come in generations. Every node with an encrypted network has an end
 * of the mesh for the present generation, with a key pair of its own and the shared key of that
 * generation. A rotation adds an end of the next one beside it; each node moves its ways to others
 * over when both have it and have met; when all have, the older ends go. No packet is lost, because
 * at every moment each pair of hosts has a generation that works. Pure.
 */
/** How long a generation is used (SwarmKit rotates gossip keys as often). */
export const MESH_ROTATION_MS = 12 * 3_600_000;

export function nextMesh(now: MeshState, psk: string, nowMs: number): MeshState {
  const { generation, psk: previousPsk } = now;
  return { generation: generation + 1, psk, previousPsk, settled: false, startedAtMs: nowMs };
}

/** Milliseconds until the next rotation is due; none without a shared key. */
export function untilRotation({ psk, startedAtMs }: MeshState, nowMs: number): number {
  if (psk === "") return 0;
  // A clock that was set back puts it off by one period at most.
  return Math.min(MESH_ROTATION_MS, Math.max(0, startedAtMs + MESH_ROTATION_MS - nowMs));
}

/**
 * Whose ways are not all of the present generation: the older one must stay. By host name. A node of
 * one key is met by the first generation only, also when it came while the second one began.
 */
export function meshLaggards(view: StateView, { generation }: MeshState): readonly string[] {
  const live = new Map<string, Node>();
  for (const node of view.table("nodes").all()) {
    // One that is away gets everything when it is back, and meanwhile holds nobody up.
    const keys = node.description?.overlay?.meshKeys ?? [];
    if (node.status.state === "ready" && keys.length > 0) live.set(node.id, node);
  }
  const late = [...live.values()].filter(({ description }) => {
    const { meshKeys = [], lagging = [] } = description?.overlay ?? {};
    if (!meshKeys.some(key => key.generation === generation)) return true;
    return lagging.length >= MESH_LAGGING_MAX || lagging.some(id => live.has(id));
  });
  const names = late.map(node => node.description?.hostname || node.id);
  return generation === FIRST_MESH.generation + 1 ? [...names, ...nodesOfOneKey(view)] : names;
}

/**
 * Nodes there are whose version knows one key for ever: with new keys they would be cut off from
 * all others until they are upgraded, so there are no new ones before. By host name.
 */
export function nodesOfOneKey(view: StateView): readonly string[] {
  const nodes = [...view.table("nodes").all()].filter(({ status, description }) => {
    const { publicKey = "", changesKeys, meshKeys } = description?.overlay ?? {};
    if (status.state !== "ready" || publicKey === "") return false;
    return changesKeys !== true && meshKeys === undefined;
  });
  return nodes.map(node => node.description?.hostname || node.id);
}

export function hasEncryptedNetwork(view: StateView): boolean {
  return [...view.table("networks").all()].some(({ spec }) => {
    const options = spec["Options"];
    return typeof options === "object" && options !== null && "encrypted" in options;
  });
}

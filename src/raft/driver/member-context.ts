import { SwarmError } from "../../base/errors.ts";
import type { PeerInfo } from "../ports.ts";

/*
 * The context of a membership change: who the member is, as JSON. It is part of the replicated log,
 * so every member reads the same.
 */

export function encodePeer({ raftId, nodeId, addr }: PeerInfo): Uint8Array {
  return Buffer.from(JSON.stringify({ raftId, nodeId, addr }));
}

/** Null for a change without one, such as the end of a joint configuration. */
export function decodePeer(context: Uint8Array): PeerInfo | null {
  if (context.length === 0) return null;
  const peer: unknown = JSON.parse(Buffer.from(context).toString("utf8"));
  if (!isPeer(peer)) {
    throw new SwarmError("data_loss", "a membership change in the log names no member");
  }
  return peer;
}

function isPeer(value: unknown): value is PeerInfo {
  if (typeof value !== "object" || value === null) return false;
  if (!("raftId" in value && "nodeId" in value && "addr" in value)) return false;
  const { raftId, nodeId, addr } = value;
  return typeof raftId === "number" && typeof nodeId === "string" && typeof addr === "string";
}

import { randomBytes } from "node:crypto";

const KEY_BYTES = 32;

/** A shared key of the encrypted mesh, base64, as WireGuard takes it. */
export function newMeshKey(): string {
  return randomBytes(KEY_BYTES).toString("base64");
}

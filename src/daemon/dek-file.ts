import { randomBytes } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, SwarmError } from "../base/errors.ts";
import { AesGcmSealer, DEK_BYTES } from "../raft/storage/sealer.ts";
import { renamePrivate, syncDir, writeNewPrivateFile } from "../tls/private-files.ts";
import { unlockKeyBytes, wrongUnlockKey } from "../tls/unlock-key.ts";

/**
 * The data encryption key of the Raft log, in `<raft dir>/dek`: the bare key, or a list of wraps of
 * it, each open or sealed with an unlock key. While the unlock key changes the list holds a wrap
 * for the old and one for the new key, so that a crash leaves one that opens with whichever of the
 * two the node's own key is sealed with.
 */
interface WrappedDek {
  readonly format: 1;
  /** Base64; `sealed` with AES-256-GCM under the unlock key, or the open key. */
  readonly wraps: readonly { readonly sealed: boolean; readonly key: string }[];
}

const FILE = "dek";
const PLACE = new TextEncoder().encode("swarmd raft data encryption key");

/** Reads the key, or makes one with the directory. Throws data_loss, or unauthenticated. */
export async function loadDek(raftDir: string, unlockKey: string | null): Promise<Uint8Array> {
  await mkdir(raftDir, { recursive: true, mode: 0o700 });
  const path = join(raftDir, FILE);
  const stored = await readFile(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  });
  if (stored === null) {
    const dek = randomBytes(DEK_BYTES);
    await wrapDek(raftDir, dek, [unlockKey]);
    return dek;
  }
  return stored.length === DEK_BYTES ? stored : unwrap(path, parse(path, stored), unlockKey);
}

/** Replaces the file by wraps for each of `unlockKeys`; null = the open key. */
export async function wrapDek(
  raftDir: string,
  dek: Uint8Array,
  unlockKeys: readonly (string | null)[],
): Promise<void> {
  const wraps = unlockKeys.map(unlockKey => {
    const key = unlockKey === null ? dek : sealerOf(unlockKey).seal(dek, PLACE);
    return { sealed: unlockKey !== null, key: Buffer.from(key).toString("base64") };
  });
  const path = join(raftDir, FILE);
  const temporary = `${path}.tmp`;
  await rm(temporary, { force: true });
  await writeNewPrivateFile(temporary, `${JSON.stringify({ format: 1, wraps })}\n`);
  await renamePrivate(temporary, path);
  await syncDir(raftDir);
}

function sealerOf(unlockKey: string): AesGcmSealer {
  return new AesGcmSealer({ dek: unlockKeyBytes(unlockKey) });
}

function unwrap(path: string, wrapped: WrappedDek, unlockKey: string | null): Uint8Array {
  for (const { sealed, key } of wrapped.wraps) {
    const bytes = Buffer.from(key, "base64");
    if (sealed && unlockKey === null) continue;
    const dek = sealed ? tryOpen(unlockKey ?? "", bytes) : bytes;
    if (dek === null) continue;
    if (dek.length !== DEK_BYTES) throw damaged(path);
    return dek;
  }
  throw wrongUnlockKey();
}

function tryOpen(unlockKey: string, sealed: Uint8Array): Uint8Array | null {
  try {
    return sealerOf(unlockKey).open(sealed, PLACE);
  } catch {
    // Sealed with the other key of a change that a crash cut off.
    return null;
  }
}

function parse(path: string, stored: Buffer): WrappedDek {
  try {
    const value: unknown = JSON.parse(stored.toString("utf8"));
    if (isWrapped(value)) return value;
  } catch {
    // Told below: what a damaged file holds is not quoted.
  }
  throw damaged(path);
}

function isWrapped(value: unknown): value is WrappedDek {
  if (typeof value !== "object" || value === null) return false;
  const { format, wraps } = value as { readonly format?: unknown; readonly wraps?: unknown };
  if (format !== 1 || !Array.isArray(wraps)) return false;
  return wraps.every(
    (wrap: unknown) =>
      typeof wrap === "object" &&
      wrap !== null &&
      typeof (wrap as { key?: unknown }).key === "string" &&
      typeof (wrap as { sealed?: unknown }).sealed === "boolean",
  );
}

function damaged(path: string): SwarmError {
  return new SwarmError(
    "data_loss",
    `${path} is damaged: remove this node from the cluster and join it again`,
  );
}

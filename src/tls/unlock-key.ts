import { createPrivateKey, randomBytes } from "node:crypto";
import { SwarmError } from "../base/errors.ts";

const PREFIX = "SWMKEY-1-";
const KEY_BYTES = 32;
/** 32 bytes in base64 without its padding. */
const KEY_PATTERN = /^[A-Za-z0-9+/]{43}$/;
const CIPHER = "aes-256-cbc";
const ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/**
 * The key that a locked manager is opened with: `SWMKEY-1-` and 32 random bytes in base64 (SwarmKit
 * manager/encryption). It encrypts the node's private key and the key of the Raft log on disk.
 */
export function newUnlockKey(): string {
  return PREFIX + randomBytes(KEY_BYTES).toString("base64").replace(/=+$/, "");
}

/** The key as it was made, whatever surrounds it. Throws invalid_argument in Docker's words. */
export function parseUnlockKey(text: string): string {
  const key = text.trim();
  if (key.startsWith(PREFIX) && KEY_PATTERN.test(key.slice(PREFIX.length))) return key;
  throw new SwarmError("invalid_argument", "invalid key string");
}

/** The 32 bytes of a key that `parseUnlockKey` or `newUnlockKey` gave. */
export function unlockKeyBytes(key: string): Uint8Array {
  return Buffer.from(key.slice(PREFIX.length), "base64");
}

export function isSealedPrivateKey(pem: string): boolean {
  return pem.startsWith(ENCRYPTED);
}

/** The private key as an encrypted PKCS#8 (RFC 5958); as it is without an unlock key. */
export function sealPrivateKey(pem: string, unlockKey: string | null): string {
  if (unlockKey === null) return pem;
  const sealing = { type: "pkcs8", format: "pem", cipher: CIPHER, passphrase: unlockKey } as const;
  return createPrivateKey(pem).export(sealing).toString();
}

/** Throws unauthenticated when it was sealed with another key. */
export function openPrivateKey(pem: string, unlockKey: string): string {
  try {
    const key = createPrivateKey({ key: pem, passphrase: unlockKey });
    return key.export({ type: "pkcs8", format: "pem" }).toString();
  } catch {
    // The error of OpenSSL may quote the input: it is not passed on.
    throw wrongUnlockKey();
  }
}

/** Docker's words (moby daemon/cluster/errors.go). */
export function wrongUnlockKey(): SwarmError {
  const text = "swarm could not be unlocked: invalid key provided";
  return new SwarmError("unauthenticated", text);
}

import { SwarmError } from "../../base/errors.ts";
import { ID_LENGTH, isId } from "../../base/ids.ts";
import type { NodeRole } from "../../model/rows.ts";

const PREFIX = "SWMTKN";
const VERSION = "1";
const PART_COUNT = 4;
/** SHA-256 in base 36: 36^50 > 2^256 > 36^49. */
const DIGEST_LENGTH = 50;
const DIGEST_PATTERN = /^[0-9a-z]{50}$/;
const DIGEST_BYTES = 32;
const MAX_DIGEST = 1n << 256n;

export interface JoinToken {
  /** SHA-256 of the root certificate, hexadecimal: what the joining node pins. */
  readonly rootDigestHex: string;
  /** 128 bits in base 36, like an id. One secret a role. */
  readonly secret: string;
}

/** `SWMTKN-1-<digest, 50 base-36 digits>-<secret, 25 base-36 digits>` (SwarmKit ca/config.go). */
export function formatJoinToken(token: JoinToken): string {
  const digest = BigInt(`0x${token.rootDigestHex}`).toString(36).padStart(DIGEST_LENGTH, "0");
  return `${PREFIX}-${VERSION}-${digest}-${token.secret}`;
}

/** Throws invalid_argument with what is wrong with the text; never with the text itself. */
export function parseJoinToken(text: string): JoinToken {
  const parts = text.trim().split("-");
  const [prefix, version, digest = "", secret = ""] = parts;
  if (prefix !== PREFIX) throw invalidToken(`it does not begin with ${PREFIX}-`);
  if (version !== VERSION) throw invalidToken(`only version ${VERSION} is known`);
  if (parts.length !== PART_COUNT) throw invalidToken("it has not the four parts of a token");
  if (!DIGEST_PATTERN.test(digest)) {
    throw invalidToken(`its third part is not ${DIGEST_LENGTH} digits and lower case letters`);
  }
  if (!isId(secret)) {
    throw invalidToken(`its last part is not ${ID_LENGTH} digits and lower case letters`);
  }
  const value = parseBase36(digest);
  if (value >= MAX_DIGEST) throw invalidToken("its third part is no digest");
  return { rootDigestHex: value.toString(16).padStart(DIGEST_BYTES * 2, "0"), secret };
}

function parseBase36(digits: string): bigint {
  let value = 0n;
  for (const digit of digits) value = value * 36n + BigInt(Number.parseInt(digit, 36));
  return value;
}

/** Docker's words; what exactly is wrong is for the log. */
function invalidToken(why: string): SwarmError {
  return new SwarmError("invalid_argument", "invalid join token", { why });
}

/** Compares without telling by its duration where the two differ. Only lengths can be learnt. */
export function sameSecret(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i += 1) {
    difference |= a.charCodeAt(i) ^ (i < b.length ? b.charCodeAt(i) : 0);
  }
  return difference === 0;
}

/** The role that a presented token stands for, or null. Always compares against both. */
export function roleOfToken(
  presented: string,
  tokens: { readonly worker: string; readonly manager: string },
): NodeRole | null {
  const isManager = sameSecret(presented, tokens.manager);
  const isWorker = sameSecret(presented, tokens.worker);
  if (isManager) return "manager";
  return isWorker ? "worker" : null;
}

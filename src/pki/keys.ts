import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { SwarmError } from "../base/errors.ts";

/** The only curve in use: `prime256v1`, also called P-256 and secp256r1. */
const CURVE = "prime256v1";
const generate = promisify(generateKeyPair);

export interface KeyPair {
  readonly privateKey: KeyObject;
  /** PKCS#8. */
  readonly keyPem: string;
}

/** A new P-256 key, made off the event loop. */
export async function newKeyPair(): Promise<KeyPair> {
  const { privateKey } = await generate("ec", { namedCurve: CURVE });
  return { privateKey, keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString() };
}

/** Throws data_loss when `pem` is no P-256 private key. */
export function loadPrivateKey(pem: string, what: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (isP256(key)) return key;
  } catch {
    // The error of OpenSSL may quote the input: it is not passed on.
    throw new SwarmError("data_loss", `${what} holds no readable private key`);
  }
  throw new SwarmError("data_loss", `${what} holds a key that is not P-256`);
}

/** Throws invalid_argument unless `spki` (DER) is a P-256 public key, its point on the curve. */
export function loadPublicKey(spki: Buffer): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: "der", type: "spki" });
  } catch (error) {
    throw new SwarmError("invalid_argument", "the request's public key is not valid", {}, error);
  }
  if (!isP256(key)) {
    throw new SwarmError("invalid_argument", "the request's public key is not P-256");
  }
  return key;
}

export function spkiDer(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: "spki", format: "der" });
}

function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === CURVE;
}

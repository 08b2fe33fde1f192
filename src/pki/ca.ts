import { createHash, createPublicKey, type KeyObject, sign } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { assert, errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Rng } from "../base/rng.ts";
import { type Asn1, decodeDer, der, encodeDer, encodePem } from "./asn1.ts";
import {
  parseCertificate,
  rootDigestHex,
  splitCertificates,
  subjectDer,
  validityOf,
} from "./certificate.ts";
import { CERT_BACKDATE_MS, planNodeCertificate, ROOT_CA_LIFE_MS } from "./core/csr-policy.ts";
import { formatJoinToken } from "./core/join-token.ts";
import { CA_COMMON_NAME, type NodeName } from "./core/names.ts";
import { loadPrivateKey, newKeyPair, spkiDer } from "./keys.ts";
import { nameNode, nodeExtensions, rootExtensions, signatureAlgorithm } from "./x509-parts.ts";

const X509_V3 = 2;
const SERIAL_WORDS = 4;

export interface RootCa {
  readonly certPem: string;
  readonly keyPem: string;
}

interface Tbs {
  readonly issuer: Asn1;
  readonly subject: Asn1;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly publicKey: KeyObject;
  readonly extensions: Asn1;
}

/** A new self-signed root: P-256, 20 years, CN `swarm-ca`. */
export async function createRootCa(deps: {
  readonly nowMs: number;
  readonly rng: Rng;
}): Promise<RootCa> {
  const { privateKey, keyPem } = await newKeyPair();
  const publicKey = createPublicKey(privateKey);
  const name = nameNode({ commonName: CA_COMMON_NAME });
  const tbs = {
    issuer: name,
    subject: name,
    notBeforeMs: deps.nowMs - CERT_BACKDATE_MS,
    notAfterMs: deps.nowMs + ROOT_CA_LIFE_MS,
    publicKey,
    extensions: rootExtensions(keyId(publicKey)),
  };
  return { certPem: issue(tbs, privateKey, deps.rng), keyPem };
}

/**
 * The next root's name and key as a certificate of the present root. A node that knows only the
 * present one verifies the next one's certificates through it.
 */
export function crossSignRoot(next: RootCa, present: RootCa, rng: Rng): string {
  const nextCert = parseCertificate(next.certPem, "the next root certificate");
  const cert = parseCertificate(present.certPem, "the root certificate");
  const { publicKey } = nextCert;
  const tbs = {
    issuer: decodeDer(subjectDer(cert), "the root's subject"),
    subject: decodeDer(subjectDer(nextCert), "the next root's subject"),
    notBeforeMs: validityOf(nextCert).notBeforeMs,
    notAfterMs: Math.min(validityOf(nextCert).notAfterMs, validityOf(cert).notAfterMs),
    publicKey,
    // Without the issuer's key id it would look self-signed: both have one name.
    extensions: rootExtensions(keyId(publicKey), keyId(cert.publicKey)),
  };
  return issue(tbs, loadPrivateKey(present.keyPem, "the root key"), rng);
}

/** Makes a certificate of the present root for the next one's name and key. */
export type CrossSign = (next: RootCa, present: RootCa) => Promise<string>;

/**
 * The root to replace `present`: the user's own, whose key may be an external CA's, or a new one.
 * Without `crossSign` the present root's own key vouches for it.
 */
export async function nextRoot(
  present: RootCa,
  given: RootCa | null,
  deps: { readonly clock: Clock; readonly rng: Rng; readonly crossSign?: CrossSign },
): Promise<RootCa & { readonly crossSignedPem: string }> {
  const { clock, rng } = deps;
  const next = given ?? (await createRootCa({ nowMs: clock.nowMs(), rng }));
  const { certPem, keyPem } = checkRootCa(next);
  const crossSign = deps.crossSign ?? (async () => crossSignRoot(next, present, rng));
  return { certPem, keyPem, crossSignedPem: await crossSign(next, present) };
}

/** A root of the user's own. Throws invalid_argument unless key and certificate fit. */
function checkRootCa(given: RootCa): RootCa {
  const why = rootFault(given);
  if (why === null) return given;
  throw new SwarmError("invalid_argument", `the given CA cannot be used: ${why}`, {
    rpc: "InvalidArgument",
  });
}

const YEAR_MS = 365 * 24 * 3_600_000;

/** A root that the cluster is to go over to, in SwarmKit's words (controlapi/ca_rotation.go). */
export function checkDesiredRoot(given: RootCa, nowMs: number): void {
  const refuse = (text: string): never => {
    throw new SwarmError("invalid_argument", text, { rpc: "InvalidArgument" });
  };
  checkRootCa(given);
  const certificates = splitCertificates(given.certPem, "the desired CA");
  if (certificates.length !== 1) {
    refuse("the desired CA certificate cannot contain multiple certificates");
  }
  for (const cert of certificates) {
    if (validityOf(cert).notAfterMs < nowMs + YEAR_MS) refuse("CA certificate expires too soon");
  }
}

/** The key is empty when an external CA has it. */
function rootFault({ certPem, keyPem }: RootCa): string | null {
  try {
    const cert = parseCertificate(certPem, "the certificate");
    if (!cert.ca || !cert.verify(cert.publicKey)) return "its certificate is no root certificate";
    if (keyPem === "") return null;
    const key = loadPrivateKey(keyPem, "the key file");
    return cert.checkPrivateKey(key) ? null : "its key is not that of its certificate";
  } catch (error) {
    return errorMessage(error);
  }
}

/**
 * A node's certificate, PEM. The public key is the only thing of the node's choosing; it comes
 * from `publicKeyOfCsr`. Throws failed_precondition when the root has expired.
 */
export function signNodeCertificate(
  request: {
    readonly publicKey: KeyObject;
    readonly name: NodeName;
    readonly expiryMs: number;
    readonly nowMs: number;
  },
  root: RootCa,
  rng: Rng,
): string {
  const rootCert = parseCertificate(root.certPem, "the root certificate");
  const rootKey = loadPrivateKey(root.keyPem, "the root key");
  assert(rootCert.checkPrivateKey(rootKey), "the root key belongs to the root certificate");
  const plan = planNodeCertificate({
    name: request.name,
    nowMs: request.nowMs,
    expiryMs: request.expiryMs,
    rootNotAfterMs: validityOf(rootCert).notAfterMs,
  });
  const tbs = {
    issuer: decodeDer(subjectDer(rootCert), "the root's subject"),
    subject: nameNode(plan),
    notBeforeMs: plan.notBeforeMs,
    notAfterMs: plan.notAfterMs,
    publicKey: request.publicKey,
    extensions: nodeExtensions({
      keyId: keyId(request.publicKey),
      issuerKeyId: keyId(rootCert.publicKey),
      dnsNames: plan.dnsNames,
    }),
  };
  return issue(tbs, rootKey, rng);
}

function issue(parts: Tbs, signer: KeyObject, rng: Rng): string {
  const tbs = der.sequence(
    der.explicit(0, der.smallInteger(X509_V3)),
    der.integer(newSerial(rng)),
    signatureAlgorithm(),
    parts.issuer,
    der.sequence(der.time(parts.notBeforeMs), der.time(parts.notAfterMs)),
    parts.subject,
    decodeDer(spkiDer(parts.publicKey), "the public key"),
    der.explicit(3, parts.extensions),
  );
  const signature = sign("sha256", encodeDer(tbs), signer);
  const cert = der.sequence(tbs, signatureAlgorithm(), der.bits(signature));
  return encodePem("CERTIFICATE", encodeDer(cert));
}

/** 126 random bits; the top bits 01 keep it positive and of one length. */
function newSerial(rng: Rng): Buffer {
  const serial = Buffer.alloc(SERIAL_WORDS * 4);
  for (let word = 0; word < SERIAL_WORDS; word += 1) serial.writeUInt32BE(rng.uint32(), word * 4);
  serial.writeUInt8((serial.readUInt8(0) & 0x3f) | 0x40, 0);
  return serial;
}

/** Key identifier: 160 bits of SHA-256 over the public key (RFC 7093 method 1, over the SPKI). */
function keyId(publicKey: KeyObject): Buffer {
  return createHash("sha256").update(spkiDer(publicKey)).digest().subarray(0, 20);
}

/** A fresh join token for this root. */
export function newJoinToken(caPem: string, ids: IdSource): string {
  return formatJoinToken({ rootDigestHex: rootDigestHex(caPem), secret: ids.newId() });
}

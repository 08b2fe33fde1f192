import { createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { SwarmError } from "../base/errors.ts";
import {
  type Asn1,
  bitStringBytes,
  decodeDer,
  decodePem,
  der,
  encodeDer,
  encodePem,
  isContext,
  oidText,
  sequenceItems,
} from "./asn1.ts";
import { MAX_CSR_BYTES } from "./core/csr-policy.ts";
import { loadPublicKey, spkiDer } from "./keys.ts";
import { ECDSA_SHA256, nameNode, signatureAlgorithm } from "./x509-parts.ts";

const LABEL = "CERTIFICATE REQUEST";
const WHAT = "the certificate request";
/** The issuer ignores the subject; this says whose request it is when a person looks. */
const SUBJECT = { commonName: "swarmd" };

/** PKCS#10 (RFC 2986), PEM, self-signed with the node's key. */
export function makeCsr(privateKey: KeyObject, subject: Asn1 = nameNode(SUBJECT)): string {
  const spki = decodeDer(spkiDer(createPublicKey(privateKey)), "the public key");
  const info = der.sequence(der.smallInteger(0), subject, spki, der.implicitList(0));
  const signature = sign("sha256", encodeDer(info), privateKey);
  return encodePem(LABEL, encodeDer(der.sequence(info, signatureAlgorithm(), der.bits(signature))));
}

/**
 * The public key of a request, and nothing else of it: subject, attributes and wished-for
 * extensions are ignored. Throws invalid_argument when it is too large, malformed, of another
 * kind of key, or not signed by that key.
 */
export function publicKeyOfCsr(pem: string): KeyObject {
  if (Buffer.byteLength(pem) > MAX_CSR_BYTES) {
    throw new SwarmError("invalid_argument", `${WHAT} is larger than ${MAX_CSR_BYTES} bytes`);
  }
  const items = sequenceItems(decodeDer(decodePem(LABEL, pem, WHAT), WHAT));
  const [info, algorithm, signatureBits] = items;
  const spki = publicKeyNode(info);
  const signature = bitStringBytes(signatureBits);
  if (info === undefined || spki === undefined || signature === null || items.length !== 3) {
    throw new SwarmError("invalid_argument", `${WHAT} has not the form of PKCS#10`);
  }
  if (oidText(sequenceItems(algorithm)[0]) !== ECDSA_SHA256) {
    throw new SwarmError("invalid_argument", `${WHAT} is not signed with ECDSA and SHA-256`);
  }
  const publicKey = loadPublicKey(encodeDer(spki));
  if (!verify("sha256", encodeDer(info), publicKey, signature)) {
    throw new SwarmError("invalid_argument", `${WHAT} is not signed by the key it presents`);
  }
  return publicKey;
}

/** CertificationRequestInfo: version, subject, subjectPKInfo, [0] attributes. */
function publicKeyNode(info: Asn1 | undefined): Asn1 | undefined {
  const fields = sequenceItems(info);
  const [, , spki, attributes] = fields;
  return fields.length === 4 && isContext(attributes, 0) ? spki : undefined;
}

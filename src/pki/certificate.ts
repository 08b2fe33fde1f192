import { createHash, X509Certificate } from "node:crypto";
import { errorMessage, SwarmError } from "../base/errors.ts";
import { decodeDer, encodeDer, isContext, sequenceItems } from "./asn1.ts";
import { type NodeName, nodeNameOf } from "./core/names.ts";

/** Fields of TBSCertificate (RFC 5280 4.1) once its optional version is taken away. */
const TBS_SUBJECT = 4;

export function parseCertificate(pem: string, what: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new SwarmError(
      "data_loss",
      `${what} holds no readable certificate: ${errorMessage(error)}`,
    );
  }
}

export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export function validityOf(cert: X509Certificate): Validity {
  return { notBeforeMs: Date.parse(cert.validFrom), notAfterMs: Date.parse(cert.validTo) };
}

/** The node a certificate is for; null when its subject is not that of a node. */
export function nodeNameOfCertificate(cert: X509Certificate): NodeName | null {
  return nodeNameOf(cert.toLegacyObject().subject ?? {});
}

/** SHA-256 over the certificate's DER, hexadecimal: what a join token pins. */
export function rootDigestHex(caPem: string): string {
  const cert = parseCertificate(caPem, "the root certificate");
  return createHash("sha256").update(cert.raw).digest("hex");
}

/** Docker's `TLSInfo`. */
export interface TrustInfo {
  /** PEM. */
  readonly trustRoot: string;
  /** Base64 of the issuer's subject, DER. */
  readonly certIssuerSubject: string;
  /** Base64 of the issuer's public key, DER. */
  readonly certIssuerPublicKey: string;
}

/** What Docker's API says of the issuer of node certificates. */
export function describeTrust(caPem: string): TrustInfo {
  const cert = parseCertificate(caPem, "the root certificate");
  return {
    trustRoot: caPem,
    certIssuerSubject: subjectDer(cert).toString("base64"),
    certIssuerPublicKey: cert.publicKey.export({ type: "spki", format: "der" }).toString("base64"),
  };
}

/** The subject's exact DER, which an issued certificate repeats as its issuer. */
export function subjectDer(cert: X509Certificate): Buffer {
  const [tbs] = sequenceItems(decodeDer(cert.raw, "the certificate"));
  const fields = sequenceItems(tbs).filter((field, index) => index > 0 || !isContext(field, 0));
  const subject = fields[TBS_SUBJECT];
  if (subject === undefined) throw new SwarmError("data_loss", "the certificate has no subject");
  return encodeDer(subject);
}

/**
 * Checks that the three belong together: the key is the leaf's, the root signed the leaf, the leaf
 * names a node. Throws data_loss that names the part at fault.
 */
export function checkBundle(
  bundle: { readonly certPem: string; readonly caPem: string },
  privateKey: Parameters<X509Certificate["checkPrivateKey"]>[0],
  what: { readonly cert: string; readonly key: string; readonly ca: string },
): { readonly name: NodeName; readonly validity: Validity } {
  const leaf = parseCertificate(bundle.certPem, what.cert);
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new SwarmError("data_loss", `${what.key} is not the key of ${what.cert}`);
  }
  if (!splitCertificates(bundle.caPem, what.ca).some(root => leaf.verify(root.publicKey))) {
    throw new SwarmError("data_loss", `${what.cert} is not signed by a root of ${what.ca}`);
  }
  const name = nodeNameOfCertificate(leaf);
  if (name === null) {
    throw new SwarmError("data_loss", `${what.cert} is not the certificate of a node`);
  }
  return { name, validity: validityOf(leaf) };
}

/** Roots of one file at most: two during a rotation. */
const MAX_ROOTS = 8;

/** Every certificate of a PEM file. */
export function splitCertificates(pem: string, what: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0 || blocks.length > MAX_ROOTS) {
    throw new SwarmError("data_loss", `${what} holds ${blocks.length} certificates`);
  }
  return blocks.map(block => parseCertificate(block, what));
}

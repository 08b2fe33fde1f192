import { X509Certificate } from "node:crypto";
import type { Roots } from "../../control/operations.ts";

/** Docker's `TLSInfo`. */
export interface TlsInfo {
  readonly TrustRoot: string;
  readonly CertIssuerSubject: string;
  readonly CertIssuerPublicKey: string;
}

/** Few certificates are shown again and again. */
const MAX_CACHED = 64;
const ROOTS = new Map<string, TlsInfo | null>();
const ISSUED = new Map<string, boolean>();

function remember<V>(cache: Map<string, V>, key: string, make: () => V): V {
  const known = cache.get(key);
  if (known !== undefined) return known;
  if (cache.size >= MAX_CACHED) cache.clear();
  const made = make();
  cache.set(key, made);
  return made;
}

/** The root that the cluster trusts, its subject and its key (DER in base64). */
export function tlsInfoDto(rootCertPem: string): TlsInfo | object {
  const info = remember(ROOTS, rootCertPem, () => readRoot(rootCertPem));
  return info ?? (rootCertPem === "" ? {} : { TrustRoot: rootCertPem });
}

function readRoot(rootCertPem: string): TlsInfo | null {
  try {
    const root = new X509Certificate(rootCertPem);
    const publicKey = root.publicKey.export({ type: "spki", format: "der" });
    return {
      TrustRoot: rootCertPem,
      CertIssuerSubject: subjectDer(root.raw).toString("base64"),
      CertIssuerPublicKey: publicKey.toString("base64"),
    };
  } catch {
    // Bundles and damaged text are shown as they are, without the parts read out of them.
    return null;
  }
}

/**
 * What a node's certificate chains to. A node whose certificate is not of the present root shows no
 * issuer, which clients read as "needs rotation".
 */
export function tlsInfoOfNode(certificatePem: string, roots: Roots): object {
  const { rootCertPem, nextRootCertPem } = roots;
  if (certificatePem === "") return tlsInfoDto(rootCertPem);
  if (nextRootCertPem !== "" && issuedBy(certificatePem, nextRootCertPem)) {
    return tlsInfoOfSwarm(roots);
  }
  return issuedBy(certificatePem, rootCertPem)
    ? tlsInfoDto(rootCertPem)
    : { TrustRoot: rootCertPem };
}

/** During a rotation the next root is the issuer; the present one is trusted until its end. */
export function tlsInfoOfSwarm({ rootCertPem, nextRootCertPem }: Roots): object {
  if (nextRootCertPem === "") return tlsInfoDto(rootCertPem);
  return { ...tlsInfoDto(nextRootCertPem), TrustRoot: rootCertPem };
}

function issuedBy(certificatePem: string, rootCertPem: string): boolean {
  return remember(ISSUED, `${certificatePem}\n${rootCertPem}`, () =>
    isIssuedBy(certificatePem, rootCertPem),
  );
}

function isIssuedBy(certificatePem: string, rootCertPem: string): boolean {
  try {
    const certificate = new X509Certificate(certificatePem);
    return certificate.verify(new X509Certificate(rootCertPem).publicKey);
  } catch {
    return false;
  }
}

/** One DER element: where it starts, where its content starts, where it ends. */
interface Element {
  readonly tag: number;
  readonly start: number;
  readonly content: number;
  readonly end: number;
}

const TAG_VERSION = 0xa0;
/** Fields of TBSCertificate before the subject: serial, signature, issuer, validity (RFC 5280). */
const FIELDS_BEFORE_SUBJECT = 4;

function elementAt(der: Buffer, start: number): Element {
  const tag = der.readUInt8(start);
  const first = der.readUInt8(start + 1);
  if (first < 0x80) return { tag, start, content: start + 2, end: start + 2 + first };
  const lengthBytes = first & 0x7f;
  const content = start + 2 + lengthBytes;
  return { tag, start, content, end: content + der.readUIntBE(start + 2, lengthBytes) };
}

/** The subject's Name, DER as in the certificate. */
function subjectDer(certificate: Buffer): Buffer {
  const tbs = elementAt(certificate, elementAt(certificate, 0).content);
  let field = elementAt(certificate, tbs.content);
  if (field.tag === TAG_VERSION) field = elementAt(certificate, field.end);
  for (let i = 0; i < FIELDS_BEFORE_SUBJECT; i += 1) field = elementAt(certificate, field.end);
  return certificate.subarray(field.start, field.end);
}

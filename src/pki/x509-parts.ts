import { type Asn1, der, encodeDer } from "./asn1.ts";

/** ecdsa-with-SHA256 (RFC 5758 3.2). */
export const ECDSA_SHA256 = "1.2.840.10045.4.3.2";

const ATTRIBUTE = { commonName: "2.5.4.3", organization: "2.5.4.10", unit: "2.5.4.11" } as const;

const EXTENSION = {
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const SAN_DNS = 2;

/** Named bits of KeyUsage (RFC 5280 4.2.1.3), as byte and unused bits of it. */
const DIGITAL_SIGNATURE = { byte: 0x80, unused: 7 };
const CERT_AND_CRL_SIGN = { byte: 0x06, unused: 1 };

export function signatureAlgorithm(): Asn1 {
  return der.sequence(der.oid(ECDSA_SHA256));
}

/** A Name with one attribute a set, in the order O, OU, CN. */
export function nameNode(name: {
  readonly commonName: string;
  readonly organizationalUnit?: string;
  readonly organization?: string;
}): Asn1 {
  const parts: [string, string | undefined][] = [
    [ATTRIBUTE.organization, name.organization],
    [ATTRIBUTE.unit, name.organizationalUnit],
    [ATTRIBUTE.commonName, name.commonName],
  ];
  const sets = parts.flatMap(([oid, text]) =>
    text === undefined ? [] : [der.set(der.sequence(der.oid(oid), der.utf8(text)))],
  );
  return der.sequence(...sets);
}

function extension(oid: string, critical: boolean, value: Asn1): Asn1 {
  const body = der.octets(encodeDer(value));
  return critical
    ? der.sequence(der.oid(oid), der.boolean(true), body)
    : der.sequence(der.oid(oid), body);
}

function keyUsage(usage: { readonly byte: number; readonly unused: number }): Asn1 {
  return extension(EXTENSION.keyUsage, true, der.bits(Uint8Array.of(usage.byte), usage.unused));
}

/** The value of the extension that makes a certificate one of a CA. */
export function basicConstraintsOfRoot(): Asn1 {
  return der.sequence(der.boolean(true));
}

/**
 * What makes a root. No path length: a rotation signs the next root with this one, which then is
 * its issuer.
 */
export function rootExtensions(keyId: Uint8Array, issuerKeyId?: Uint8Array): Asn1 {
  return der.sequence(
    extension(EXTENSION.basicConstraints, true, basicConstraintsOfRoot()),
    keyUsage(CERT_AND_CRL_SIGN),
    extension(EXTENSION.subjectKeyId, false, der.octets(keyId)),
    ...(issuerKeyId === undefined ? [] : [authorityKey(issuerKeyId)]),
  );
}

function authorityKey(keyId: Uint8Array): Asn1 {
  return extension(EXTENSION.authorityKeyId, false, der.sequence(der.implicit(0, keyId)));
}

/** What makes a node: no CA, client and server both, its names. */
export function nodeExtensions(options: {
  readonly keyId: Uint8Array;
  readonly issuerKeyId: Uint8Array;
  readonly dnsNames: readonly string[];
}): Asn1 {
  const names = options.dnsNames.map(name => der.implicit(SAN_DNS, Buffer.from(name, "ascii")));
  return der.sequence(
    extension(EXTENSION.basicConstraints, true, der.sequence()),
    keyUsage(DIGITAL_SIGNATURE),
    extension(
      EXTENSION.extendedKeyUsage,
      false,
      der.sequence(der.oid(SERVER_AUTH), der.oid(CLIENT_AUTH)),
    ),
    extension(EXTENSION.subjectKeyId, false, der.octets(options.keyId)),
    authorityKey(options.issuerKeyId),
    extension(EXTENSION.subjectAltName, false, der.sequence(...names)),
  );
}

import forge from "node-forge";
import { SwarmError } from "../base/errors.ts";

/** A DER node. Values are kept as forge wants them: one character a byte. */
export type Asn1 = forge.asn1.Asn1;

const { asn1 } = forge;
const UNIVERSAL = 0x00;
const CONTEXT = 0x80;
/** X.509 (RFC 5280 4.1.2.5): UTCTime through 2049, GeneralizedTime after. */
const FIRST_GENERALIZED_YEAR = 2050;
const DER_SHORT_LENGTH_MAX = 0x7f;

const TAG = {
  boolean: 1,
  integer: 2,
  bitString: 3,
  octetString: 4,
  oid: 6,
  utf8: 12,
  sequence: 16,
  set: 17,
  utcTime: 23,
  generalizedTime: 24,
} as const;

function primitive(tag: number, bytes: string): Asn1 {
  return asn1.create(UNIVERSAL, tag, false, bytes);
}

function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

/** Builders, one a type in use. */
export const der = {
  sequence: (...items: Asn1[]): Asn1 => asn1.create(UNIVERSAL, TAG.sequence, true, items),
  set: (...items: Asn1[]): Asn1 => asn1.create(UNIVERSAL, TAG.set, true, items),
  oid: (dotted: string): Asn1 => primitive(TAG.oid, asn1.oidToDer(dotted).getBytes()),
  boolean: (value: boolean): Asn1 => primitive(TAG.boolean, value ? "\xff" : "\x00"),
  smallInteger: (value: number): Asn1 =>
    primitive(TAG.integer, asn1.integerToDer(value).getBytes()),
  /** `bytes` is big-endian and must not be negative: its first bit is 0. */
  integer: (bytes: Uint8Array): Asn1 => primitive(TAG.integer, binary(bytes)),
  octets: (bytes: Uint8Array): Asn1 => primitive(TAG.octetString, binary(bytes)),
  /** `unusedBits`: of the last byte. */
  bits: (bytes: Uint8Array, unusedBits = 0): Asn1 =>
    primitive(TAG.bitString, String.fromCharCode(unusedBits) + binary(bytes)),
  utf8: (text: string): Asn1 => primitive(TAG.utf8, binary(Buffer.from(text, "utf8"))),
  time: (epochMs: number): Asn1 => timeNode(epochMs),
  /** `[n] EXPLICIT`. */
  explicit: (n: number, inner: Asn1): Asn1 => asn1.create(CONTEXT, n, true, [inner]),
  /** `[n] IMPLICIT` over raw bytes. */
  implicit: (n: number, bytes: Uint8Array): Asn1 => asn1.create(CONTEXT, n, false, binary(bytes)),
  /** `[n] IMPLICIT` over a SET or SEQUENCE OF. */
  implicitList: (n: number, ...items: Asn1[]): Asn1 => asn1.create(CONTEXT, n, true, items),
};

function timeNode(epochMs: number): Asn1 {
  const iso = new Date(epochMs).toISOString();
  const digits = iso.slice(0, 19).replaceAll(/[-:T]/g, "");
  return Number(iso.slice(0, 4)) < FIRST_GENERALIZED_YEAR
    ? primitive(TAG.utcTime, `${digits.slice(2)}Z`)
    : primitive(TAG.generalizedTime, `${digits}Z`);
}

export function encodeDer(node: Asn1): Buffer {
  return Buffer.from(asn1.toDer(node).getBytes(), "latin1");
}

/**
 * Parses DER and nothing else: input that does not encode back to the same bytes (BER lengths,
 * padding, trailing bytes) is refused, so a signature over a re-encoded part is a signature over
 * the part as sent.
 */
export function decodeDer(bytes: Uint8Array, what: string): Asn1 {
  let node: Asn1;
  let same: boolean;
  try {
    node = asn1.fromDer(binary(bytes), true);
    same = encodeDer(node).equals(bytes);
  } catch (error) {
    throw new SwarmError("invalid_argument", `${what} is not valid DER`, {}, error);
  }
  if (!same) throw new SwarmError("invalid_argument", `${what} is not in canonical DER`);
  return node;
}

/** The children of a SEQUENCE; an empty list for anything else. */
export function sequenceItems(node: Asn1 | undefined): readonly Asn1[] {
  if (node === undefined || node.tagClass !== UNIVERSAL || node.type !== TAG.sequence) return [];
  return Array.isArray(node.value) ? node.value : [];
}

/** The dotted OID, or "" for anything else. */
export function oidText(node: Asn1 | undefined): string {
  if (node === undefined || node.tagClass !== UNIVERSAL || node.type !== TAG.oid) return "";
  return typeof node.value === "string" ? asn1.derToOid(node.value) : "";
}

/** The bytes of a BIT STRING of whole bytes, or null for anything else. */
export function bitStringBytes(node: Asn1 | undefined): Buffer | null {
  if (node === undefined || node.tagClass !== UNIVERSAL || node.type !== TAG.bitString) return null;
  // forge shows a BIT STRING that happens to hold DER as parsed children: go by the encoding.
  const encoded = encodeDer(node);
  const lengthByte = encoded[1] ?? 0;
  const header = lengthByte <= DER_SHORT_LENGTH_MAX ? 2 : 2 + (lengthByte & DER_SHORT_LENGTH_MAX);
  return encoded[header] === 0 ? encoded.subarray(header + 1) : null;
}

/** Whether the node is the context-specific `[n]`. */
export function isContext(node: Asn1 | undefined, n: number): boolean {
  return node !== undefined && node.tagClass === CONTEXT && Number(node.type) === n;
}

const PEM_LINE = 64;

export function encodePem(label: string, bytes: Uint8Array): string {
  const lines = Buffer.from(bytes)
    .toString("base64")
    .match(new RegExp(`.{1,${PEM_LINE}}`, "g"));
  return `-----BEGIN ${label}-----\n${(lines ?? []).join("\n")}\n-----END ${label}-----\n`;
}

/** The bytes of the first block of that label. Throws invalid_argument when there is none. */
export function decodePem(label: string, text: string, what: string): Buffer {
  const begin = `-----BEGIN ${label}-----`;
  const start = text.indexOf(begin);
  const end = start < 0 ? -1 : text.indexOf(`-----END ${label}-----`, start);
  const body = end < 0 ? "" : text.slice(start + begin.length, end).replaceAll(/\s/g, "");
  if (body === "" || !/^[A-Za-z0-9+/]+={0,2}$/.test(body)) {
    throw new SwarmError("invalid_argument", `${what} is no PEM ${label}`);
  }
  return Buffer.from(body, "base64");
}

import { ipText, parseIp } from "../../model/ip.ts";

/** The part of DNS messages that the resolver of overlay networks needs (RFC 1035, RFC 6891). */

export const TYPE = { a: 1, ptr: 12, aaaa: 28, opt: 41, any: 255 } as const;
const CLASS_IN = 1;
export const RCODE = { ok: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4 } as const;
const HEADER_BYTES = 12;
const MAX_LABEL_BYTES = 63;
const MAX_NAME_BYTES = 255;
/** Without EDNS (RFC 1035 section 4.2.1). */
const MAX_UDP_BYTES = 512;
/** More than this is not sent in a datagram, whatever the client takes (DNS flag day 2020). */
const MAX_EDNS_BYTES = 1_232;
const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const OPCODE_MASK = 0x7800;
/** A pointer to the question's name, which follows the header. */
const NAME_POINTER = 0xc000 | HEADER_BYTES;

export interface Query {
  readonly id: number;
  readonly flags: number;
  /** In lower case, without the closing dot. */
  readonly name: string;
  readonly type: number;
  /** The question as it came: answers repeat it. */
  readonly question: Uint8Array;
  /** Bytes that the client takes in a datagram. */
  readonly maxUdpBytes: number;
}

/** Null when it is no query with one question of class IN that can be understood. */
export function parseQuery(message: Uint8Array): Query | null {
  if (message.length < HEADER_BYTES) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const flags = view.getUint16(2);
  if ((flags & (FLAG_RESPONSE | OPCODE_MASK)) !== 0 || view.getUint16(4) !== 1) return null;
  const name = readName(message);
  if (name === null || name.end + 4 > message.length) return null;
  if (view.getUint16(name.end + 2) !== CLASS_IN) return null;
  return {
    id: view.getUint16(0),
    flags,
    name: name.text.toLowerCase(),
    type: view.getUint16(name.end),
    question: message.subarray(HEADER_BYTES, name.end + 4),
    maxUdpBytes: ednsBytes(view, name.end + 4),
  };
}

function readName(message: Uint8Array): { readonly text: string; readonly end: number } | null {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > MAX_LABEL_BYTES) return null;
    at += 1;
    if (length === 0) return { text: labels.join("."), end: at };
    if (at + length > message.length || at + length > HEADER_BYTES + MAX_NAME_BYTES) return null;
    labels.push(String.fromCharCode(...message.subarray(at, at + length)));
    at += length;
  }
}

/** The size of an OPT record that comes alone after the question; else the classic limit. */
function ednsBytes(view: DataView, at: number): number {
  const alone = view.getUint16(6) + view.getUint16(8) === 0 && view.getUint16(10) > 0;
  if (!alone || at + 5 > view.byteLength) return MAX_UDP_BYTES;
  if (view.getUint8(at) !== 0 || view.getUint16(at + 1) !== TYPE.opt) return MAX_UDP_BYTES;
  return Math.min(MAX_EDNS_BYTES, Math.max(MAX_UDP_BYTES, view.getUint16(at + 3)));
}

export type AnswerRecord =
  | { readonly type: typeof TYPE.a | typeof TYPE.aaaa; readonly addr: string }
  | { readonly type: typeof TYPE.ptr; readonly name: string };

export interface Answer {
  readonly rcode: number;
  readonly ttlS: number;
  readonly records: readonly AnswerRecord[];
}

/** The whole message; with `maxBytes` cut to the question, and marked, when it is longer. */
export function encodeAnswer(query: Query, answer: Answer, maxBytes = 0xffff): Uint8Array {
  const records = answer.records.map(record => encodeRecord(record, answer.ttlS));
  const bytes = records.reduce((sum, record) => sum + record.length, 0);
  const total = HEADER_BYTES + query.question.length + bytes;
  const truncated = total > maxBytes;
  const flags =
    FLAG_RESPONSE |
    FLAG_AUTHORITATIVE |
    FLAG_RECURSION_AVAILABLE |
    (query.flags & FLAG_RECURSION_DESIRED) |
    (truncated ? FLAG_TRUNCATED : 0) |
    answer.rcode;
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint16(0, query.id);
  view.setUint16(2, flags);
  view.setUint16(4, 1);
  view.setUint16(6, truncated ? 0 : records.length);
  return concat([header, query.question, ...(truncated ? [] : records)]);
}

function encodeRecord(record: AnswerRecord, ttlS: number): Uint8Array {
  const data = record.type === TYPE.ptr ? encodeName(record.name) : encodeAddress(record.addr);
  const head = new Uint8Array(12);
  const view = new DataView(head.buffer);
  view.setUint16(0, NAME_POINTER);
  view.setUint16(2, record.type);
  view.setUint16(4, CLASS_IN);
  view.setUint32(6, ttlS);
  view.setUint16(10, data.length);
  return concat([head, data]);
}

export function encodeName(name: string): Uint8Array {
  const labels = name.split(".").filter(label => label !== "");
  const bytes: number[] = [];
  for (const label of labels) {
    const text = label.slice(0, MAX_LABEL_BYTES);
    bytes.push(text.length, ...[...text].map(char => char.charCodeAt(0) & 0xff));
  }
  return Uint8Array.from([...bytes, 0]);
}

function encodeAddress(addr: string): Uint8Array {
  if (!addr.includes(":")) return Uint8Array.from(addr.split(".").map(Number));
  const value = parseIp(addr) ?? 0n;
  return Uint8Array.from({ length: 16 }, (_, i) => Number((value >> BigInt(8 * (15 - i))) & 0xffn));
}

/**
 * The address that a PTR query asks about (RFC 1035 section 3.5, RFC 3596 section 2.5); null when
 * the name is not one of those.
 */
export function reverseAddress(name: string): string | null {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4 !== null) return v4.slice(1).reverse().join(".");
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (v6 === null) return null;
  const digits = (v6[1] ?? "").split(".").reverse().join("");
  return ipText(BigInt(`0x${digits}`));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

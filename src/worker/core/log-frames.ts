import { SwarmError } from "../../base/errors.ts";

/** One message of a container's log. */
export interface LogRecord {
  readonly stream: "stdout" | "stderr";
  /** Nanoseconds since 1970, decimal. */
  readonly timestampNs: string;
  /** With its newline, if it has one (long lines come in parts). */
  readonly data: Uint8Array;
  readonly attrs: Readonly<Record<string, string>>;
}

/** Larger frames are damage: the Engine splits lines at 16 KiB. */
export const LOG_FRAME_LIMIT_BYTES = 4 * 1024 * 1024;
const HEADER_BYTES = 8;
const STDERR = 2;
const NEWLINE = 10;
const SPACE = 32;

/**
 * Cuts the Engine's log stream into messages. With a TTY the stream is raw text and a message is a
 * line; without one it is frames of an 8-byte header (stream, three zeros, length as 32 bits
 * big-endian) and a payload (Docker API, `ContainerAttach`). Expects `timestamps` and `details`.
 */
export class LogDecoder {
  readonly #tty: boolean;
  readonly #text = new TextDecoder();
  #rest: Uint8Array = new Uint8Array(0);

  constructor(options: { readonly tty: boolean }) {
    this.#tty = options.tty;
  }

  /** The messages that `chunk` completes. Throws data_loss on a frame beyond the limit. */
  push(chunk: Uint8Array): readonly LogRecord[] {
    let buffer = concat(this.#rest, chunk);
    const records: LogRecord[] = [];
    for (;;) {
      const cut = this.#tty ? cutLine(buffer) : cutFrame(buffer);
      if (cut === null) break;
      records.push(this.#record(cut.stream, cut.payload));
      buffer = buffer.subarray(cut.length);
    }
    if (buffer.length > LOG_FRAME_LIMIT_BYTES) throw tooLong(buffer.length);
    this.#rest = buffer;
    return records;
  }

  /** What is left at the end of the stream: a last line without a newline. */
  end(): readonly LogRecord[] {
    const rest = this.#rest;
    this.#rest = new Uint8Array(0);
    return this.#tty && rest.length > 0 ? [this.#record("stdout", rest)] : [];
  }

  #record(stream: LogRecord["stream"], payload: Uint8Array): LogRecord {
    const stampEnd = payload.indexOf(SPACE);
    const stamp = stampEnd < 0 ? null : parseTimestampNs(this.#string(payload, 0, stampEnd));
    if (stamp === null) return { stream, timestampNs: "0", data: payload.slice(), attrs: {} };
    const attrsEnd = payload.indexOf(SPACE, stampEnd + 1);
    const hasAttrs = attrsEnd >= 0;
    return {
      stream,
      timestampNs: stamp,
      data: payload.slice((hasAttrs ? attrsEnd : stampEnd) + 1),
      attrs: hasAttrs ? parseAttrs(this.#string(payload, stampEnd + 1, attrsEnd)) : {},
    };
  }

  #string(bytes: Uint8Array, from: number, to: number): string {
    return this.#text.decode(bytes.subarray(from, to));
  }
}

interface Cut {
  readonly stream: LogRecord["stream"];
  readonly payload: Uint8Array;
  /** Bytes used up. */
  readonly length: number;
}

function cutFrame(buffer: Uint8Array): Cut | null {
  if (buffer.length < HEADER_BYTES) return null;
  const size = new DataView(buffer.buffer, buffer.byteOffset).getUint32(4);
  if (size > LOG_FRAME_LIMIT_BYTES) throw tooLong(size);
  const length = HEADER_BYTES + size;
  if (buffer.length < length) return null;
  const stream = buffer[0] === STDERR ? "stderr" : "stdout";
  return { stream, payload: buffer.subarray(HEADER_BYTES, length), length };
}

function cutLine(buffer: Uint8Array): Cut | null {
  const end = buffer.indexOf(NEWLINE);
  if (end < 0) return null;
  return { stream: "stdout", payload: buffer.subarray(0, end + 1), length: end + 1 };
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}

function tooLong(bytes: number): SwarmError {
  const limit = LOG_FRAME_LIMIT_BYTES;
  return new SwarmError("data_loss", `log frame of ${bytes} bytes is over the limit of ${limit}`);
}

/** `key=value,…`, both URL-encoded (the Engine's `details`). */
function parseAttrs(text: string): Readonly<Record<string, string>> {
  const attrs: Record<string, string> = {};
  for (const pair of text.split(",")) {
    const [key, value] = pair.split("=");
    if (key === undefined || key === "" || value === undefined) continue;
    attrs[urlDecode(key)] = urlDecode(value);
  }
  return attrs;
}

function urlDecode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** RFC 3339 to nanoseconds since 1970; null when it is no time. */
export function parseTimestampNs(text: string): string | null {
  const match = RFC3339.exec(text);
  if (match === null) return null;
  const [, year, month, day, hour, minute, second, fraction, zone] = match;
  const days = daysFromCivil(Number(year), Number(month), Number(day));
  const seconds =
    days * 86_400 + Number(hour) * 3600 + Number(minute) * 60 + Number(second) - offsetS(zone);
  return String(BigInt(seconds) * 1_000_000_000n + BigInt((fraction ?? "").padEnd(9, "0")));
}

function offsetS(zone: string | undefined): number {
  if (zone === undefined || zone === "Z") return 0;
  const sign = zone.startsWith("-") ? -1 : 1;
  return sign * (Number(zone.slice(1, 3)) * 3600 + Number(zone.slice(4, 6)) * 60);
}

/** Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra =
    yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

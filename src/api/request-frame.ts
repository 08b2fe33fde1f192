const HEX = /^[0-9a-fA-F]$/;
const CR = 0x0d;
const LF = 0x0a;
const MAX_SIZE_DIGITS = 12;
const SIZE_END = new Set([" ", "\t", ";", "\r"].map(char => char.charCodeAt(0)));
const CONTENT_LENGTH = /^content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*$/gim;
const CHUNKED = /^transfer-encoding[ \t]*:[ \t]*chunked[ \t]*$/gim;
const BODY_HEADERS = /^(?:content-length|transfer-encoding)[ \t]*:/gim;

/** Takes bytes of a body and says how many are of it. */
interface Body {
  readonly ended: boolean;
  take(chunk: Buffer): number;
}

/** Where a request ends, head and body: what comes after it is another one (RFC 9112, 6 and 7). */
export class RequestFrame {
  #headLeft: number;
  readonly #body: Body;

  /** `head`: without the empty line; `headBytes`: with it. */
  constructor(head: string, headBytes: number) {
    this.#headLeft = headBytes;
    this.#body = bodyOf(head);
  }

  get ended(): boolean {
    return this.#headLeft === 0 && this.#body.ended;
  }

  /** How many of the bytes are of this request. */
  take(chunk: Buffer): number {
    const ofHead = Math.min(this.#headLeft, chunk.length);
    this.#headLeft -= ofHead;
    return ofHead + this.#body.take(chunk.subarray(ofHead));
  }
}

function bodyOf(head: string): Body {
  const said = head.match(BODY_HEADERS)?.length ?? 0;
  if (said === 0) return new PlainBody(0);
  const [length] = [...head.matchAll(CONTENT_LENGTH)];
  if (said === 1 && length !== undefined) return new PlainBody(Number(length[1]));
  if (said === 1 && head.match(CHUNKED) !== null) return new ChunkedBody();
  return ENDLESS;
}

/** Of a head that the server refuses, and of one that asks to leave HTTP. */
export const ENDLESS: Body = { ended: false, take: chunk => chunk.length };

class PlainBody implements Body {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  get ended(): boolean {
    return this.#left === 0;
  }

  take(chunk: Buffer): number {
    const taken = Math.min(this.#left, chunk.length);
    this.#left -= taken;
    return taken;
  }
}

type State = "size" | "extension" | "trailer" | "ended" | "broken";

class ChunkedBody implements Body {
  #state: State = "size";
  #digits = "";
  /** Of a chunk and the line end behind it. */
  #left = 0;
  #lineLength = 0;

  get ended(): boolean {
    return this.#state === "ended";
  }

  take(chunk: Buffer): number {
    let at = 0;
    while (at < chunk.length && !this.ended) {
      if (this.#state === "broken") return chunk.length;
      if (this.#left > 0) {
        const step = Math.min(this.#left, chunk.length - at);
        this.#left -= step;
        at += step;
      } else {
        this.#byte(chunk.readUInt8(at));
        at += 1;
      }
    }
    return at;
  }

  #byte(byte: number): void {
    if (this.#state === "trailer") this.#trailer(byte);
    else if (byte === LF) this.#sizeEnds();
    else if (this.#state === "size") this.#size(byte);
  }

  #size(byte: number): void {
    const char = String.fromCharCode(byte);
    if (HEX.test(char) && this.#digits.length < MAX_SIZE_DIGITS) this.#digits += char;
    else this.#state = SIZE_END.has(byte) ? "extension" : "broken";
  }

  #sizeEnds(): void {
    const size = Number.parseInt(this.#digits, 16);
    this.#digits = "";
    if (Number.isNaN(size)) this.#state = "broken";
    else if (size === 0) this.#state = "trailer";
    else {
      this.#left = size + "\r\n".length;
      this.#state = "size";
    }
  }

  #trailer(byte: number): void {
    if (byte === CR) return;
    if (byte !== LF) this.#lineLength += 1;
    else if (this.#lineLength === 0) this.#state = "ended";
    else this.#lineLength = 0;
  }
}

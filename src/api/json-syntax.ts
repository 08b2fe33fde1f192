/**
 * What Go's encoding/json says of a text that is no JSON (scanner.go): the first character that
 * cannot be, and where. Null when the text ends too early.
 */
export function goSyntaxProblem(text: string): string | null {
  return new Scanner(text).problem();
}

/** What the characters after a whole value are to Go's Unmarshal. */
export const AFTER_TOP_LEVEL = "after top-level value";

const BEGIN_VALUE = "looking for beginning of value";
const BEGIN_KEY = "looking for beginning of object key string";
const HEX = /^[0-9a-fA-F]$/;
const DIGIT = /^[0-9]$/;
const ESCAPES = 'bfnrt\\/"';
const HEX_DIGITS = 4;
const CONTROL_END = 0x20;

/** Nesting is bounded before a text comes here. */
class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  problem(): string | null {
    try {
      this.#value();
      this.#space();
      if (this.#at < this.#text.length) throw this.#wrong(AFTER_TOP_LEVEL);
      return null;
    } catch (error) {
      if (error instanceof Problem) return error.text;
      throw error;
    }
  }

  #peek(): string {
    const char = this.#text[this.#at];
    if (char === undefined) throw new Problem(null);
    return char;
  }

  #wrong(where: string): Problem {
    return new Problem(`invalid character ${quoted(this.#peek())} ${where}`);
  }

  #space(): void {
    while (" \t\r\n".includes(this.#text[this.#at] ?? "x")) this.#at += 1;
  }

  #value(): void {
    this.#space();
    const char = this.#peek();
    if (char === "{") this.#object();
    else if (char === "[") this.#array();
    else if (char === '"') this.#string();
    else if (char === "-" || DIGIT.test(char)) this.#number();
    else this.#word(char);
  }

  #word(char: string): void {
    const literal = ["true", "false", "null"].find(word => word.startsWith(char));
    if (literal === undefined) throw this.#wrong(BEGIN_VALUE);
    this.#literal(literal);
  }

  #literal(word: string): void {
    for (const expected of word) {
      if (this.#peek() !== expected) {
        throw this.#wrong(`in literal ${word} (expecting ${quoted(expected)})`);
      }
      this.#at += 1;
    }
  }

  #object(): void {
    this.#at += 1;
    this.#space();
    if (this.#peek() === "}") {
      this.#at += 1;
      return;
    }
    for (;;) {
      this.#space();
      if (this.#peek() !== '"') throw this.#wrong(BEGIN_KEY);
      this.#string();
      this.#space();
      if (this.#peek() !== ":") throw this.#wrong("after object key");
      this.#at += 1;
      this.#value();
      if (!this.#goesOn("}", "after object key:value pair")) return;
    }
  }

  #array(): void {
    this.#at += 1;
    this.#space();
    if (this.#peek() === "]") {
      this.#at += 1;
      return;
    }
    do this.#value();
    while (this.#goesOn("]", "after array element"));
  }

  /** Past a comma, or past the end of the list. */
  #goesOn(end: string, where: string): boolean {
    this.#space();
    const char = this.#peek();
    if (char !== "," && char !== end) throw this.#wrong(where);
    this.#at += 1;
    return char === ",";
  }

  #string(): void {
    this.#at += 1;
    for (;;) {
      const char = this.#peek();
      if (char.charCodeAt(0) < CONTROL_END) throw this.#wrong("in string literal");
      this.#at += 1;
      if (char === '"') return;
      if (char === "\\") this.#escape();
    }
  }

  #escape(): void {
    const char = this.#peek();
    if (char !== "u" && !ESCAPES.includes(char)) throw this.#wrong("in string escape code");
    this.#at += 1;
    for (let i = 0; char === "u" && i < HEX_DIGITS; i++) {
      if (!HEX.test(this.#peek())) throw this.#wrong("in \\u hexadecimal character escape");
      this.#at += 1;
    }
  }

  #number(): void {
    if (this.#peek() === "-") this.#at += 1;
    if (this.#peek() === "0") this.#at += 1;
    else this.#digits("in numeric literal");
    if (this.#text[this.#at] === ".") {
      this.#at += 1;
      this.#digits("after decimal point in numeric literal");
    }
    if (!/^[eE]$/.test(this.#text[this.#at] ?? "")) return;
    this.#at += 1;
    if (/^[+-]$/.test(this.#peek())) this.#at += 1;
    this.#digits("in exponent of numeric literal");
  }

  #digits(where: string): void {
    if (!DIGIT.test(this.#peek())) throw this.#wrong(where);
    while (DIGIT.test(this.#text[this.#at] ?? "")) this.#at += 1;
  }
}

class Problem extends Error {
  /** Null at the end of the text. */
  readonly text: string | null;

  constructor(text: string | null) {
    super(text ?? "");
    this.text = text;
  }
}

/** Go reads bytes: of a longer character the first one is the wrong one. */
function quoted(char: string): string {
  if (char === "'") return "'\\''";
  if (char === '"') return "'\"'";
  const [byte = 0] = Buffer.from(char);
  return `'${JSON.stringify(String.fromCharCode(byte)).slice(1, -1)}'`;
}

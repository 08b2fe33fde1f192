import { SwarmError } from "../base/errors.ts";

/**
 * A refusal that Docker words in its control API (SwarmKit manager/controlapi): clients see it
 * behind "rpc error: code = InvalidArgument desc = ", which the HTTP edge adds.
 */
export function refusal(message: string): SwarmError {
  return new SwarmError("invalid_argument", message, { rpc: "InvalidArgument" });
}

/** A refusal that Docker words before its control API is asked: no prefix. */
export function badRequest(message: string): SwarmError {
  return new SwarmError("invalid_argument", message);
}

/** A plain error to moby, which answers it with 500, though it is the client's. */
export function oddlyInternal(message: string): SwarmError {
  return new SwarmError("invalid_argument", message, { http: 500 });
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ["\\", "\\\\"],
  ["\x07", "\\a"],
  ["\b", "\\b"],
  ["\f", "\\f"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
  ["\v", "\\v"],
]);

/** Text as Go's %q prints it. */
export function goQuote(text: string): string {
  const quoted = text.replace(/["\\]|[\p{C}\u2028\u2029]/gu, char => {
    const code = char.codePointAt(0) ?? 0;
    const hex = code.toString(16);
    if (code < 0x80) return ESCAPES.get(char) ?? `\\x${hex.padStart(2, "0")}`;
    return code > 0xffff ? `\\U${hex.padStart(8, "0")}` : `\\u${hex.padStart(4, "0")}`;
  });
  return `"${quoted}"`;
}

const EXPONENT_MIN = -4;
const EXPONENT_END = 6;

/** A number as Go's %g prints a float64: with an exponent below 1e-4 and from 1e6 on. */
export function goFloat(value: number): string {
  const [digits = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= EXPONENT_MIN && exponent < EXPONENT_END) return String(value);
  const sign = exponent < 0 ? "-" : "+";
  return `${digits}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

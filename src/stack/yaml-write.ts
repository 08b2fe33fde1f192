import { goNumber } from "./core/dict.ts";
import type { Printed } from "./core/print.ts";
import { plainScalar } from "./yaml-scalar.ts";

/** Writes YAML in the hand of docker's printer (yaml.v3, two spaces), so that outputs compare. */
const STEP = "  ";
/** Numbers with a fraction have an exponent from a million on. */
const YAML_DIGITS = 6;
/** Words that older readers take for a boolean, and numbers to base 60. */
const OLD_BOOLEANS = /^(y|Y|yes|Yes|YES|on|On|ON|n|N|no|No|NO|off|Off|OFF)$/;
const BASE_60 = /^[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?$/;
const TIMESTAMP = /^\d{4}-\d\d?-\d\d?([Tt ]|$)/;
/** Characters that begin something else than a plain scalar. */
const INDICATOR = /^[#,[\]{}&*!|>'"%@`]/;
/** These too when a space or nothing follows. */
const SPACED_INDICATOR = /^[-?:](\s|$)/;
const DOCUMENT_MARK = /^(---|\.\.\.)/;

function isPrintable(text: string): boolean {
  return /^[\t\n\x20-\x7e\x85\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd\u{10000}-\u{10ffff}]*$/u.test(
    text,
  );
}

function isPlain(text: string): boolean {
  return !(
    INDICATOR.test(text) ||
    SPACED_INDICATOR.test(text) ||
    DOCUMENT_MARK.test(text) ||
    /:(\s|$)/.test(text) ||
    /\s#/.test(text) ||
    /^\s|\s$/.test(text)
  );
}

function isSomethingElse(text: string): boolean {
  return (
    typeof plainScalar(text) !== "string" ||
    OLD_BOOLEANS.test(text) ||
    BASE_60.test(text) ||
    TIMESTAMP.test(text)
  );
}

const ESCAPES: Readonly<Record<string, string>> = {
  "\0": "\\0",
  "\u0007": "\\a",
  "\b": "\\b",
  "\t": "\\t",
  "\n": "\\n",
  "\v": "\\v",
  "\f": "\\f",
  "\r": "\\r",
  "\u001b": "\\e",
  '"': '\\"',
  "\\": "\\\\",
};

function escaped(char: string): string {
  const known = ESCAPES[char];
  if (known !== undefined) return known;
  if (isPrintable(char)) return char;
  const code = (char.codePointAt(0) ?? 0).toString(16).toUpperCase();
  if (code.length <= 2) return `\\x${code.padStart(2, "0")}`;
  return code.length <= 4 ? `\\u${code.padStart(4, "0")}` : `\\U${code.padStart(8, "0")}`;
}

function doubleQuoted(text: string): string {
  return `"${[...text].map(escaped).join("")}"`;
}

function textOf(text: string, indent: string): string {
  if (!isPrintable(text) || isSomethingElse(text)) return doubleQuoted(text);
  if (text.includes("\t") && !text.includes("\n")) return doubleQuoted(text);
  if (text.includes("\n")) {
    const isBlock = !/ \n|[ \t]$/.test(text) && !/^\s/.test(text);
    return isBlock ? blockOf(text, indent) : doubleQuoted(text);
  }
  return isPlain(text) ? text : `'${text.replaceAll("'", "''")}'`;
}

function blockOf(text: string, indent: string): string {
  const ends = /\n*$/.exec(text)?.[0].length ?? 0;
  const keep = ["|-", "|"][ends] ?? "|+";
  const lines = text.replace(/\n$/, "").split("\n");
  return [keep, ...lines.map(line => (line === "" ? "" : indent + line))].join("\n");
}

function isPairs(
  value: Printed,
): value is { readonly pairs: readonly (readonly [string, Printed])[] } {
  return typeof value === "object" && value !== null && "pairs" in value;
}

function isList(value: Printed): value is readonly Printed[] {
  return Array.isArray(value);
}

function scalarOf(value: null | boolean | number | string, indent: string): string {
  if (typeof value === "number") return goNumber(value, YAML_DIGITS);
  return typeof value === "string" ? textOf(value, indent) : String(value);
}

function keyOf(key: string): string {
  return textOf(key, "");
}

/** The lines of a value that begins on a line of its own, at `indent`. */
function block(value: Printed, indent: string): string[] {
  if (isList(value)) {
    return value.flatMap(item => {
      const [first = "", ...rest] = nested(item, indent + STEP);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  if (isPairs(value)) return value.pairs.flatMap(([key, one]) => entry(key, one, indent));
  return [indent + scalarOf(value, indent)];
}

/** An item of a list, whose first line stands behind the dash. */
function nested(value: Printed, indent: string): string[] {
  if (isList(value) && value.length === 0) return [`${indent}[]`];
  if (isPairs(value) && value.pairs.length === 0) return [`${indent}{}`];
  return block(value, indent);
}

function entry(key: string, value: Printed, indent: string): string[] {
  const name = indent + keyOf(key);
  if (isList(value)) {
    return value.length === 0 ? [`${name}: []`] : [`${name}:`, ...block(value, indent + STEP)];
  }
  if (isPairs(value)) {
    return value.pairs.length === 0
      ? [`${name}: {}`]
      : [`${name}:`, ...block(value, indent + STEP)];
  }
  return [`${name}: ${scalarOf(value, indent + STEP)}`];
}

export function writeYaml(value: Printed): string {
  return `${block(value, "").join("\n")}\n`;
}

import { composeError } from "./errors.ts";

/**
 * Splits a command as Google's shlex does, which docker uses for `command` and `entrypoint`: words
 * between spaces, "…" with escapes, '…' without, # begins a comment between words.
 */
export function splitShell(text: string): string[] {
  const words: string[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text[at] ?? "";
    if (isSpace(char)) at += 1;
    else if (char === "#") at = endOfLine(text, at);
    else {
      const [word, next] = wordAt(text, at);
      words.push(word);
      at = next;
    }
  }
  return words;
}

function isSpace(char: string): boolean {
  return char === " " || char === "\t" || char === "\r" || char === "\n";
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end + 1;
}

function wordAt(text: string, start: number): [string, number] {
  let word = "";
  let at = start;
  while (at < text.length && !isSpace(text[at] ?? "")) {
    const char = text[at] ?? "";
    if (char === "'") {
      const end = text.indexOf("'", at + 1);
      if (end < 0) throw composeError("EOF found when expecting closing quote");
      word += text.slice(at + 1, end);
      at = end + 1;
    } else if (char === '"') {
      const [inner, next] = doubleQuoted(text, at + 1);
      word += inner;
      at = next;
    } else {
      const escaped = char === "\\";
      word += escaped ? escapedAt(text, at + 1) : char;
      at += escaped ? 2 : 1;
    }
  }
  return [word, at];
}

function doubleQuoted(text: string, start: number): [string, number] {
  let inner = "";
  for (let at = start; at < text.length; at += 1) {
    const char = text[at] ?? "";
    if (char === '"') return [inner, at + 1];
    if (char === "\\") {
      at += 1;
      inner += escapedAt(text, at);
    } else inner += char;
  }
  throw composeError("EOF found when expecting closing quote");
}

function escapedAt(text: string, at: number): string {
  const char = text[at];
  if (char === undefined) throw composeError("EOF found after escape character");
  return char;
}

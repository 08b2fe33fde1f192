const GROUP = 4;

function isDigit(char: string | undefined): boolean {
  return char !== undefined && /^[A-Za-z0-9+/]$/.test(char);
}

/**
 * Where standard base64 (RFC 4648 section 4, padded) goes wrong: the offset that Go's decoder
 * names, or null when all is well. Line breaks are skipped, as Go does.
 */
export function base64Problem(text: string): number | null {
  if (text.length % GROUP === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
  let inGroup = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (isBreak(char)) continue;
    if (isDigit(char)) inGroup = (inGroup + 1) % GROUP;
    else if (char === "=" && inGroup >= 2) return paddingProblem(text, i, inGroup);
    else return i;
  }
  return inGroup === 0 ? null : text.length - inGroup;
}

function isBreak(char: string | undefined): boolean {
  return char === "\n" || char === "\r";
}

function skipBreaks(text: string, from: number): number {
  let at = from;
  while (at < text.length && isBreak(text[at])) at += 1;
  return at;
}

/** Checks what follows the first "=", at `at`, after two or three digits of a group. */
function paddingProblem(text: string, at: number, digits: number): number | null {
  let next = at + 1;
  if (digits === 2) {
    next = skipBreaks(text, next);
    if (next === text.length) return text.length;
    if (text[next] !== "=") return next - 1;
    next += 1;
  }
  next = skipBreaks(text, next);
  return next < text.length ? next : null;
}

/** How many bytes valid base64 without line breaks stands for. */
export function base64ByteLength(text: string): number {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return Math.floor((text.length * 3) / GROUP) - padding;
}

/** Styled text in columns. Every character used here is one column wide. */

export type Style = "plain" | "bold" | "dim" | "good" | "busy" | "bad" | "old" | "new" | "mark";

export interface Span {
  readonly text: string;
  readonly style: Style;
}

export type Line = readonly Span[];

export interface Glyphs {
  readonly running: string;
  readonly starting: string;
  readonly stopping: string;
  readonly failed: string;
  readonly lost: string;
  readonly done: string;
  readonly now: string;
  readonly later: string;
  readonly rule: string;
  readonly full: string;
  readonly empty: string;
  readonly cut: string;
  /** Lowest first. */
  readonly levels: string;
}

export const UNICODE: Glyphs = {
  running: "●",
  starting: "◐",
  stopping: "○",
  failed: "×",
  lost: "×",
  done: "✓",
  now: "▸",
  later: "·",
  rule: "─",
  full: "█",
  empty: "░",
  cut: "…",
  levels: "▁▂▃▄▅▆▇█",
};

export const ASCII: Glyphs = {
  running: "*",
  starting: "+",
  stopping: "-",
  failed: "x",
  lost: "x",
  done: "v",
  now: ">",
  later: ".",
  rule: "-",
  full: "#",
  empty: ".",
  cut: "~",
  levels: "_.-=+*#",
};

/** ECMA-48 select graphic rendition, in the 16 colours that every theme defines. */
const CODES: Readonly<Record<Style, string>> = {
  plain: "",
  bold: "1",
  dim: "2",
  good: "32",
  busy: "33",
  bad: "1;31",
  old: "34",
  new: "1;36",
  mark: "1;35",
};

const ESC = "\u001b[";

export function span(text: string, style: Style = "plain"): Span {
  return { text, style };
}

export function widthOf(line: Line): number {
  return line.reduce((sum, { text }) => sum + [...text].length, 0);
}

/** At most `width` columns; what is cut off leaves a mark. */
export function clip(line: Line, width: number, glyphs: Glyphs): Line {
  if (widthOf(line) <= width) return line;
  const kept: Span[] = [];
  let left = Math.max(0, width - 1);
  for (const { text, style } of line) {
    const chars = [...text].slice(0, left);
    if (chars.length > 0) kept.push({ text: chars.join(""), style });
    left -= chars.length;
  }
  return [...kept, span(glyphs.cut, "dim")];
}

/** Exactly `width` columns. */
export function fill(line: Line, width: number, glyphs: Glyphs): Line {
  const clipped = clip(line, width, glyphs);
  return [...clipped, span(" ".repeat(width - widthOf(clipped)))];
}

export function paint(line: Line, coloured: boolean): string {
  if (!coloured) return line.map(({ text }) => text).join("");
  return line
    .map(({ text, style }) => (style === "plain" ? text : `${ESC}${CODES[style]}m${text}${ESC}0m`))
    .join("");
}

/** no-color.org: any value but the empty one. */
export function wantsColour(env: NodeJS.ProcessEnv): boolean {
  return (env["NO_COLOR"] ?? "") === "";
}

export function glyphsFor(env: NodeJS.ProcessEnv): Glyphs {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  if (env["TERM"] === "linux") return ASCII;
  return locale === "" || /utf-?8/i.test(locale) ? UNICODE : ASCII;
}

/** One argument of a directive: `key`, `key=value` or `key=(value, value)`. */
export interface DirectiveArg {
  readonly key: string;
  readonly values: readonly string[];
}

/** A command, its input lines, and the output it should have. */
export interface Directive {
  /** Line of the command in its file, from 1. */
  readonly line: number;
  readonly command: string;
  readonly args: readonly DirectiveArg[];
  readonly input: string;
  readonly expected: string;
  /** The lines of `expected` in its file: from 0, the end not included. */
  readonly expectedLines: readonly [number, number];
}

const SEPARATOR = "----";

/**
 * Parses a file in the format of github.com/cockroachdb/datadriven: directives separated by blank
 * lines, `#` comments between them, `----` between input and expected output; the output of a
 * directive with a doubled separator may have blank lines and ends at the next doubled one.
 */
export function parseDirectives(source: string): readonly Directive[] {
  const lines = source.split("\n");
  const directives: Directive[] = [];
  for (let at = 0; at < lines.length; ) {
    const text = lines[at] ?? "";
    if (text.trim() === "" || text.startsWith("#")) {
      at += 1;
      continue;
    }
    const [directive, next] = parseOne(lines, at);
    directives.push(directive);
    at = next;
  }
  return directives;
}

function parseOne(lines: readonly string[], start: number): readonly [Directive, number] {
  let at = start;
  let head = (lines[at] ?? "").trim();
  while (head.endsWith("\\")) {
    at += 1;
    head = `${head.slice(0, -1)} ${(lines[at] ?? "").trim()}`;
  }
  at += 1;
  const input: string[] = [];
  for (; at < lines.length && lines[at] !== SEPARATOR; at += 1) input.push(lines[at] ?? "");
  if (at >= lines.length) throw new Error(`line ${start + 1}: no ${SEPARATOR} after the command`);
  const [expected, next] = parseExpected(lines, at + 1);
  const { command, args } = parseHead(head, start + 1);
  const expectedLines = [at + 1, next] as const;
  const directive = { line: start + 1, command, args, input: input.join("\n"), expected };
  return [{ ...directive, expectedLines }, next];
}

function parseExpected(lines: readonly string[], start: number): readonly [string, number] {
  const expected: string[] = [];
  let at = start;
  if (lines[at] === SEPARATOR) {
    for (at += 1; at < lines.length; at += 1) {
      if (lines[at] === SEPARATOR && lines[at + 1] === SEPARATOR)
        return [expected.join("\n"), at + 2];
      expected.push(lines[at] ?? "");
    }
    throw new Error(`line ${start + 1}: the doubled ${SEPARATOR} is not closed`);
  }
  for (; at < lines.length && lines[at] !== ""; at += 1) expected.push(lines[at] ?? "");
  return [expected.join("\n"), at];
}

function parseHead(head: string, line: number): Pick<Directive, "command" | "args"> {
  const words = head.match(/[^\s=]+=\([^)]*\)|\S+/g) ?? [];
  const [command, ...rest] = words;
  if (command === undefined) throw new Error(`line ${line}: no command`);
  return { command, args: rest.map(parseArg) };
}

function parseArg(word: string): DirectiveArg {
  const equals = word.indexOf("=");
  if (equals < 0) return { key: word, values: [] };
  const value = word.slice(equals + 1);
  const list = value.startsWith("(") && value.endsWith(")");
  const inner = list ? value.slice(1, -1) : value;
  const values = list ? inner.split(/[\s,]+/).filter(part => part !== "") : [inner];
  return { key: word.slice(0, equals), values };
}

/** `source` with each directive's expected output replaced, for scripts of our own. */
export function withOutputs(
  source: string,
  directives: readonly Directive[],
  outputs: readonly string[],
): string {
  const lines = source.split("\n");
  directives
    .map(({ expectedLines }, i) => ({ expectedLines, output: outputs[i] ?? "" }))
    .reverse()
    .forEach(({ expectedLines: [start, end], output }) => {
      lines.splice(start, end - start, ...(output === "" ? "ok" : output).split("\n"));
    });
  return lines.join("\n");
}

/** The values of argument `key`; none when it is missing. */
export function valuesOf(directive: Directive, key: string): readonly string[] {
  return directive.args.filter(arg => arg.key === key).flatMap(arg => arg.values);
}

/** The arguments without a value, as numbers: mostly node ids. */
export function plainNumbers(directive: Directive): readonly number[] {
  return directive.args.filter(arg => arg.values.length === 0).map(arg => Number(arg.key));
}

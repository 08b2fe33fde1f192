import { CliError } from "../errors.ts";

/**
 * The part of Go's templates that people write after `--format`: `{{.Field.Sub}}`, `{{json .X}}`,
 * `{{upper .X}}`, `{{lower .X}}`, `{{len .X}}`, `{{index .X "key"}}`, `{{join .X ","}}`,
 * pipelines (`{{.X | json}}`), `{{range .X}}…{{end}}` and `{{if .X}}…{{else}}…{{end}}`.
 */
type Value = unknown;
type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "print"; readonly expression: string }
  | { readonly kind: "range"; readonly expression: string; readonly body: readonly Piece[] }
  | {
      readonly kind: "if";
      readonly expression: string;
      readonly body: readonly Piece[];
      readonly otherwise: readonly Piece[];
    };

const MAX_DEPTH = 20;

function fault(text: string): CliError {
  return new CliError(`template parsing error: ${text}`, 2);
}

interface Token {
  readonly text: string;
  readonly action: boolean;
}

function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let rest = source;
  while (rest !== "") {
    const open = rest.indexOf("{{");
    if (open < 0) break;
    const close = rest.indexOf("}}", open);
    if (close < 0) throw fault(`unclosed action in '${source}'`);
    if (open > 0) tokens.push({ text: rest.slice(0, open), action: false });
    const action = rest
      .slice(open + 2, close)
      .replace(/^- /, "")
      .replace(/ -$/, "");
    tokens.push({ text: action.trim(), action: true });
    rest = rest.slice(close + 2);
  }
  if (rest !== "") tokens.push({ text: rest, action: false });
  return tokens;
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  parse(depth = 0): { readonly pieces: Piece[]; readonly ended: string } {
    if (depth > MAX_DEPTH) throw fault("too deeply nested");
    const pieces: Piece[] = [];
    for (;;) {
      const token = this.#tokens[this.#at];
      if (token === undefined) return { pieces, ended: "" };
      this.#at += 1;
      if (!token.action) pieces.push({ kind: "text", text: token.text });
      else if (token.text === "end" || token.text === "else") {
        return { pieces, ended: token.text };
      } else pieces.push(this.#action(token.text, depth));
    }
  }

  #action(text: string, depth: number): Piece {
    const block = /^(range|if)\s+(.+)$/.exec(text);
    if (block === null) return { kind: "print", expression: text };
    const expression = block[2] ?? "";
    const first = this.parse(depth + 1);
    if (block[1] === "range") {
      if (first.ended !== "end") throw fault("range without end");
      return { kind: "range", expression, body: first.pieces };
    }
    const second = first.ended === "else" ? this.parse(depth + 1) : { pieces: [], ended: "end" };
    if (first.ended === "" || second.ended !== "end") throw fault("if without end");
    return { kind: "if", expression, body: first.pieces, otherwise: second.pieces };
  }
}

function field(value: Value, path: string): Value {
  let current = value;
  for (const name of path.split(".").filter(part => part !== "")) {
    if (typeof current !== "object" || current === null) return undefined;
    const entries: [string, Value][] = Object.entries(current);
    const found =
      entries.find(([key]) => key === name) ??
      entries.find(([key]) => key.toLowerCase() === name.toLowerCase());
    current = found?.[1];
  }
  return current;
}

function show(value: Value): string {
  if (value === undefined || value === null) return "<no value>";
  if (Array.isArray(value)) return `[${value.map(show).join(" ")}]`;
  if (typeof value !== "object") return String(value);
  return `map[${Object.entries(value)
    .map(([key, item]) => `${key}:${show(item)}`)
    .join(" ")}]`;
}

const FUNCTIONS: Readonly<Record<string, (...args: Value[]) => Value>> = {
  json: value => JSON.stringify(value ?? null),
  upper: value => show(value).toUpperCase(),
  lower: value => show(value).toLowerCase(),
  title: value => show(value).replace(/\b[a-z]/g, letter => letter.toUpperCase()),
  len: value =>
    typeof value === "object" && value !== null ? Object.keys(value).length : show(value).length,
  index: (value, key) => {
    if (typeof value !== "object" || value === null) return undefined;
    const entry = Object.entries(value).find(([name]) => name === String(key));
    return entry?.[1] as Value;
  },
  join: (value, separator) => (Array.isArray(value) ? value.map(show).join(String(separator)) : ""),
  println: value => `${show(value)}\n`,
  eq: (a, b) => String(a) === String(b),
  ne: (a, b) => String(a) !== String(b),
  not: value => !truthy(value),
};

function truthy(value: Value): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return value !== undefined && value !== null && value !== "" && value !== 0 && value !== false;
}

function evaluate(expression: string, data: Value): Value {
  let piped: Value[] = [];
  for (const stage of expression.split("|").map(part => part.trim())) {
    const words = stage.match(/"(?:[^"\\]|\\.)*"|[^\s()]+/g) ?? [];
    const [head = "", ...rest] = words;
    const args = [...rest.map(word => operand(word, data)), ...piped];
    const call = FUNCTIONS[head];
    if (call !== undefined) piped = [call(...args)];
    else if (rest.length === 0) piped = [operand(head, data)];
    else throw fault(`function "${head}" not defined`);
  }
  return piped[0];
}

function operand(word: string, data: Value): Value {
  if (word === ".") return data;
  if (word.startsWith(".")) return field(data, word);
  if (word.startsWith('"')) return JSON.parse(word) as Value;
  if (/^-?\d+$/.test(word)) return Number(word);
  throw fault(`function "${word}" not defined`);
}

function render(pieces: readonly Piece[], data: Value): string {
  return pieces
    .map(piece => {
      switch (piece.kind) {
        case "text":
          return piece.text;
        case "print":
          return show(evaluate(piece.expression, data));
        case "range": {
          const items = evaluate(piece.expression, data);
          const list = typeof items === "object" && items !== null ? Object.values(items) : [];
          return list.map((item: Value) => render(piece.body, item)).join("");
        }
        case "if":
          return render(
            truthy(evaluate(piece.expression, data)) ? piece.body : piece.otherwise,
            data,
          );
      }
      return "";
    })
    .join("");
}

/** Compiles a template; throws CliError (exit 2) when it is not one. */
export function compileTemplate(source: string): (data: unknown) => string {
  const unescaped = source.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
  const { pieces, ended } = new Parser(tokenize(unescaped)).parse();
  if (ended !== "") throw fault(`unexpected {{${ended}}}`);
  return data => render(pieces, data);
}

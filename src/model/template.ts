import { SwarmError } from "../base/errors.ts";

/**
 * The part of Go's text/template that swarm mode's placeholders use: fields of a fixed context
 * (`{{.Service.Name}}`), `index`, `join`, string literals, comments and trim markers. There are no
 * loops, no conditions and no calls, so an evaluation is linear in its input.
 * Behaviour: SwarmKit template/ (missing keys are errors).
 */
export type TemplateValue = string | { readonly [key: string]: TemplateValue };

/** A function that an action may call. Throws with what is wrong; its result is a text. */
export type TemplateFunction = (args: readonly TemplateValue[], body: string) => TemplateValue;

/** Longest template that is evaluated, in characters: no config is longer. */
export const TEMPLATE_LIMIT_CHARS = 1_024_000;

const OPEN = "{{";
const CLOSE = "}}";
/** A string literal (Go's two kinds), a field path, or a word. */
const TOKEN = /\s*(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`|(\.[\w.-]*)|(\w+))/y;

/**
 * Replaces every action in `text`; `extra` functions come beside the ones that are always there.
 * Throws invalid_argument on an action it cannot evaluate.
 */
export function expandTemplate(
  text: string,
  context: TemplateValue,
  extra: ReadonlyMap<string, TemplateFunction> = NO_FUNCTIONS,
): string {
  if (!text.includes(OPEN)) return text;
  if (text.length > TEMPLATE_LIMIT_CHARS) throw templateFailure(text.slice(0, 40), "is too long");
  let out = "";
  let position = 0;
  for (;;) {
    const open = text.indexOf(OPEN, position);
    if (open < 0) return out + text.slice(position);
    const close = text.indexOf(CLOSE, open);
    if (close < 0) throw goFailure(text, open, "unclosed action");
    const action = parseAction(text.slice(open + OPEN.length, close));
    const before = text.slice(position, open);
    out += action.trimLeft ? before.trimEnd() : before;
    out += evaluate(action.body, context, extra, problem => goFailure(text, open, problem));
    position = close + CLOSE.length;
    if (action.trimRight) position += text.slice(position).search(/\S|$/);
  }
}

/** What Go's template package says of the text at `open`; with a path, of that field. */
type GoProblem = string | { readonly path: string; readonly text: string };

function goFailure(text: string, open: number, problem: GoProblem): SwarmError {
  const plain = typeof problem === "string";
  const at = plain ? open : text.indexOf(problem.path, open) + secondField(problem.path);
  const lines = text.slice(0, at).split("\n");
  const place = `template: expansion:${lines.length}:`;
  const said = plain
    ? ` ${problem}`
    : `${(lines.at(-1) ?? "").length}: executing "expansion" at <${problem.path}>: ${problem.text}`;
  return new SwarmError("invalid_argument", place + said);
}

/** Go says of a chain of fields where its second one is. */
function secondField(path: string): number {
  return Math.max(0, path.indexOf(".", 1));
}

interface Action {
  readonly body: string;
  readonly trimLeft: boolean;
  readonly trimRight: boolean;
}

function parseAction(raw: string): Action {
  const trimLeft = /^-\s/.test(raw);
  const trimRight = /\s-$/.test(raw);
  return { body: raw.slice(trimLeft ? 1 : 0, trimRight ? -1 : undefined), trimLeft, trimRight };
}

function evaluate(
  body: string,
  context: TemplateValue,
  extra: ReadonlyMap<string, TemplateFunction>,
  fail: (problem: GoProblem) => SwarmError,
): string {
  if (/^\s*\/\*[\s\S]*\*\/\s*$/.test(body)) return "";
  const terms = tokenize(body);
  const [first, ...rest] = terms;
  if (first === undefined) throw templateFailure(body, "has an empty action");
  const name = first.kind === "word" ? first.text : "";
  const call = FUNCTIONS.get(name) ?? extra.get(name);
  const value =
    call === undefined
      ? single(body, terms, context, fail)
      : call(
          rest.map(term => resolve(body, term, context, fail)),
          body,
        );
  if (typeof value !== "string") throw templateFailure(body, "does not name a text");
  return value;
}

interface Term {
  readonly kind: "literal" | "path" | "word";
  readonly text: string;
}

function tokenize(body: string): readonly Term[] {
  const terms: Term[] = [];
  const text = body.trim();
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw templateFailure(body, `cannot be read at "${text.slice(at)}"`);
    const [, quoted, raw, path, word] = match;
    if (quoted !== undefined) terms.push({ kind: "literal", text: unquote(quoted) });
    else if (raw !== undefined) terms.push({ kind: "literal", text: raw });
    else if (path !== undefined) terms.push({ kind: "path", text: path });
    else terms.push({ kind: "word", text: word ?? "" });
  }
  return terms;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r" };

function unquote(text: string): string {
  return text.replace(/\\(.)/g, (_whole, char: string) => ESCAPES[char] ?? char);
}

function single(
  body: string,
  terms: readonly Term[],
  context: TemplateValue,
  fail: (problem: GoProblem) => SwarmError,
): TemplateValue {
  const [term, extra] = terms;
  if (term === undefined || extra !== undefined)
    throw templateFailure(body, "is not a single value");
  return resolve(body, term, context, fail);
}

/** Go's types of what the fields of a context lead to. */
const GO_TYPES: Readonly<Record<string, string>> = {
  "": "*template.Context",
  Service: "struct { ID string; Name string; Labels map[string]string }",
  Node: "struct { ID string; Hostname string; Platform template.Platform }",
  "Node.Platform": "template.Platform",
  Task: "struct { ID string; Name string; Slot string }",
};
const LABELS = "Service.Labels";

function resolve(
  body: string,
  term: Term,
  context: TemplateValue,
  fail: (problem: GoProblem) => SwarmError,
): TemplateValue {
  if (term.kind === "literal") return term.text;
  if (term.kind === "word")
    throw templateFailure(body, `uses "${term.text}", which is no function here`);
  let value = context;
  const way: string[] = [];
  for (const key of term.text.split(".").filter(part => part !== "")) {
    if (typeof value === "string" || !Object.hasOwn(value, key)) {
      throw fail({ path: term.text, text: missing(way.join("."), key) });
    }
    value = value[key] ?? "";
    way.push(key);
  }
  return value;
}

function missing(place: string, key: string): string {
  if (place === LABELS) return `map has no entry for key "${key}"`;
  return `can't evaluate field ${key} in type ${GO_TYPES[place] ?? "string"}`;
}

/** `index MAP "key"`: the empty text for a key that is not there, as in Go. */
function index(args: readonly TemplateValue[], body: string): TemplateValue {
  const [map, key] = args;
  if (args.length !== 2 || typeof map !== "object" || typeof key !== "string") {
    throw templateFailure(body, "needs a map and a key for index");
  }
  return Object.hasOwn(map, key) ? (map[key] ?? "") : "";
}

/** `join SEPARATOR TEXT…` */
function join(args: readonly TemplateValue[], body: string): TemplateValue {
  const texts = args.filter(arg => typeof arg === "string");
  const [separator, ...parts] = texts;
  if (separator === undefined || texts.length !== args.length) {
    throw templateFailure(body, "needs a separator and texts for join");
  }
  return parts.join(separator);
}

const NO_FUNCTIONS: ReadonlyMap<string, TemplateFunction> = new Map();

const FUNCTIONS: ReadonlyMap<string, TemplateFunction> = new Map([
  ["index", index],
  ["join", join],
]);

/** What is wrong with an action, as the task's error. */
export function templateFailure(body: string, what: string): SwarmError {
  return new SwarmError("invalid_argument", `template "${body.trim()}" ${what}`);
}

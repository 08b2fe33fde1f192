import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type Directive, parseDirectives, withOutputs } from "./datadriven.ts";
import { ConfChangeScript } from "./etcd-confchange.ts";
import { InteractionScript, NotOffered, UnknownDirective } from "./etcd-interaction.ts";
import { runQuorum } from "./etcd-quorum.ts";

export const ETCD_RAFT_DIR = join(import.meta.dirname, "etcd-raft");
/** Scenarios of our own in the same language. */
export const OWN_RAFT_DIR = join(import.meta.dirname, "raft");

export interface FileResult {
  readonly file: string;
  readonly total: number;
  readonly passed: number;
  /** Directives not run, with why. */
  readonly skipped: ReadonlyMap<string, number>;
  /** One readable report a directive that failed. */
  readonly failures: readonly string[];
}

type RunDirective = (directive: Directive) => string;

const QUORUM_COMMANDS: ReadonlySet<string> = new Set(["committed", "vote"]);
const CONF_CHANGE_COMMANDS: ReadonlySet<string> = new Set(["simple", "enter-joint", "leave-joint"]);

/** What kind of file it is shows in its commands. */
function runnerFor(directives: readonly Directive[]): RunDirective {
  const only = (commands: ReadonlySet<string>): boolean =>
    directives.every(({ command }) => commands.has(command));
  if (only(QUORUM_COMMANDS)) return runQuorum;
  if (only(CONF_CHANGE_COMMANDS)) {
    const script = new ConfChangeScript();
    return directive => script.run(directive);
  }
  const script = new InteractionScript();
  return directive => script.run(directive);
}

/** Drops what is ignored: log lines, whether a write must be synced, `ok` for no output. */
function semantic(output: string): string {
  const lines = output
    .split("\n")
    .filter(line => !/^\s*(DEBUG|INFO|WARN|ERROR|FATAL) /.test(line))
    .map(line => line.replace(/Ready MustSync=(true|false):/, "Ready:").trimEnd());
  const text = lines.join("\n").replace(/\n+$/, "");
  return text === "ok" ? "" : text;
}

/** Runs one file. After a directive that cannot be run the rest of its script is skipped too. */
export function runFile(file: string, source: string): FileResult {
  const directives = parseDirectives(source);
  const run = runnerFor(directives);
  const skipped = new Map<string, number>();
  const failures: string[] = [];
  let passed = 0;
  let skip: string | null = null;
  for (const directive of directives) {
    if (skip === null) {
      const failure = check(run, directive);
      if (failure === null) passed += 1;
      else if (failure instanceof NotOffered) skip = failure.message;
      else failures.push(`${file}:${directive.line}: ${failure}`);
    }
    if (skip !== null) skipped.set(skip, (skipped.get(skip) ?? 0) + 1);
  }
  return { file, total: directives.length, passed, skipped, failures };
}

function check(run: RunDirective, directive: Directive): null | string | NotOffered {
  const expected = semantic(directive.expected);
  try {
    const actual = semantic(run(directive));
    if (actual === expected) return null;
    return `${directive.command}\n--- expected\n${expected}\n--- actual\n${actual}`;
  } catch (error) {
    if (error instanceof NotOffered) return error;
    if (error instanceof UnknownDirective) return error.message;
    return `${directive.command} threw ${error instanceof Error ? error.stack : error}`;
  }
}

function scriptsIn(dir: string): readonly string[] {
  if (statSync(dir).isFile()) return [dir];
  const names = readdirSync(dir).sort();
  return names.flatMap(name => {
    const path = join(dir, name);
    if (statSync(path).isDirectory()) return scriptsIn(path);
    return name.endsWith(".txt") ? [path] : [];
  });
}

/** Runs every `.txt` file below `dir`, or `dir` itself if it is a file. */
export function runEtcdRaft(dir: string = ETCD_RAFT_DIR): readonly FileResult[] {
  return scriptsIn(dir).map(path => {
    const file = relative(dir, path) || path;
    try {
      return runFile(file, readFileSync(path, "utf8"));
    } catch (error) {
      const failure = `${file}: ${error instanceof Error ? error.message : error}`;
      return { file, total: 0, passed: 0, skipped: new Map(), failures: [failure] };
    }
  });
}

/** Puts what happens now in place of what the scripts below `dir` expect. Read the diff. */
export function rewriteScripts(dir: string): void {
  for (const path of scriptsIn(dir)) {
    const source = readFileSync(path, "utf8");
    const directives = parseDirectives(source);
    const run = runnerFor(directives);
    const outputs = directives.map(directive => run(directive));
    writeFileSync(path, withOutputs(source, directives, outputs));
  }
}

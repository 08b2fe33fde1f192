import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import t from "tap";
import ts from "typescript";

/**
 * The repository keeps its own rules (docs/architecture.md, Style). Each rule names what to do
 * instead; a rule that only a reader enforces decays.
 */
const MAX_FILE_LINES = 600;
const MAX_FUNCTION_LINES = 70;
const MAX_LINE_CHARS = 110;
const GENERATED = /^src\/rpc\/gen\//;

interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

function tracked(): string[] {
  const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    encoding: "utf8",
  });
  return listed.split("\n").filter(path => path !== "");
}

function load(paths: readonly string[]): SourceFile[] {
  const files: SourceFile[] = [];
  for (const path of paths) {
    const text = readFileSync(path, "utf8");
    files.push({ path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true) });
  }
  return files;
}

const all = tracked().filter(path => path.endsWith(".ts") && !GENERATED.test(path));
const product = load(all.filter(path => /^(src|cli)\//.test(path)));
const tests = load(all.filter(path => /^(test|scripts)\//.test(path)));

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, child => visit(child, see));
}

function lineOf(file: SourceFile, node: ts.Node): number {
  return file.tree.getLineAndCharacterOfPosition(node.getStart(file.tree)).line + 1;
}

function lengthOf(file: SourceFile, node: ts.Node): number {
  const from = file.tree.getLineAndCharacterOfPosition(node.getStart(file.tree)).line;
  return file.tree.getLineAndCharacterOfPosition(node.getEnd()).line - from + 1;
}

function isFunction(node: ts.Node): boolean {
  return (
    ts.isFunctionDeclaration(node) ||
    ts.isMethodDeclaration(node) ||
    ts.isConstructorDeclaration(node) ||
    ts.isArrowFunction(node) ||
    ts.isFunctionExpression(node) ||
    ts.isAccessor(node)
  );
}

t.test("files and functions are short", async t => {
  const long: string[] = [];
  for (const file of [...product, ...tests]) {
    const lines = file.text.split("\n").length;
    if (lines > MAX_FILE_LINES) long.push(`${file.path}: ${lines} lines`);
    if (/\.test\.ts$/.test(file.path)) continue;
    visit(file.tree, node => {
      if (!isFunction(node)) return;
      const length = lengthOf(file, node);
      if (length > MAX_FUNCTION_LINES) {
        long.push(`${file.path}:${lineOf(file, node)}: a function of ${length} lines`);
      }
    });
  }
  t.same(long, [], "split them: ifs up, leaves out");
});

t.test("lines fit the screen", async t => {
  const wide: string[] = [];
  for (const file of product) {
    file.text.split("\n").forEach((line, i) => {
      if (line.length > MAX_LINE_CHARS)
        wide.push(`${file.path}:${i + 1}: ${line.length} characters`);
    });
  }
  t.same(wide, []);
});

t.test("no way around the compiler", async t => {
  const found: string[] = [];
  for (const file of product) {
    visit(file.tree, node => {
      if (node.kind === ts.SyntaxKind.AnyKeyword)
        found.push(`${file.path}:${lineOf(file, node)}: any`);
      if (ts.isNonNullExpression(node)) found.push(`${file.path}:${lineOf(file, node)}: !`);
      if (ts.isAsExpression(node) && ts.isAsExpression(node.expression)) {
        found.push(`${file.path}:${lineOf(file, node)}: as … as`);
      }
    });
    if (/@ts-(ignore|expect-error|nocheck)|biome-ignore/.test(file.text)) {
      found.push(`${file.path}: a suppressed check`);
    }
  }
  t.same(found, [], "narrow with a check, or fix the type");
});

t.test("no module-level state", async t => {
  const found: string[] = [];
  for (const file of product) {
    for (const statement of file.tree.statements) {
      if (!ts.isVariableStatement(statement)) continue;
      if ((statement.declarationList.flags & ts.NodeFlags.Const) === 0) {
        found.push(`${file.path}:${lineOf(file, statement)}`);
      }
    }
  }
  t.same(found, [], "put it in an object that somebody owns");
});

t.test("tests wait on conditions", async t => {
  const found: string[] = [];
  for (const file of tests) {
    if (!/^test\/(unit|integration|e2e|golden|sim)\//.test(file.path)) continue;
    visit(file.tree, node => {
      if (!ts.isCallExpression(node)) return;
      const callee = node.expression.getText(file.tree);
      if (/^(setTimeout|setInterval|globalThis\.setTimeout)$/.test(callee)) {
        found.push(`${file.path}:${lineOf(file, node)}: ${callee}`);
      }
      const first = node.arguments[0];
      if (/^(sleep|delay)$/.test(callee) && first !== undefined && ts.isNumericLiteral(first)) {
        found.push(`${file.path}:${lineOf(file, node)}: ${callee}(${first.getText(file.tree)})`);
      }
    });
  }
  t.same(found, [], "use test/support/eventually.ts or a virtual clock");
});

t.test("every limit has a name", async t => {
  const found: string[] = [];
  const limit = /\b(maxItems|maxCommits|timeoutMs|maxBytes|delayMs|deadlineMs)\s*:\s*\d/;
  for (const file of product) {
    file.text.split("\n").forEach((line, i) => {
      const named = /^\s*(export )?const [A-Z]/.test(line);
      if (limit.test(line) && !named) found.push(`${file.path}:${i + 1}: ${line.trim()}`);
    });
  }
  t.same(found, [], "a number that bounds something is a constant with a name and a reason");
});

t.test("no notes to ourselves, no dead code", async t => {
  const found: string[] = [];
  for (const file of [...product, ...tests]) {
    if (file.path.endsWith("tidy.test.ts")) continue;
    file.text.split("\n").forEach((line, i) => {
      if (/\b(TODO|FIXME|XXX|HACK)\b/.test(line)) found.push(`${file.path}:${i + 1}`);
      if (/^\s*\/\/\s*(const|let|if|return|await|import|for|\}|t\.)\b.*[;{]$/.test(line)) {
        found.push(`${file.path}:${i + 1}: commented-out code`);
      }
    });
  }
  t.same(found, []);
});

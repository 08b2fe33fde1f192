import { parseArgs } from "node:util";
import {
  ETCD_RAFT_DIR,
  type FileResult,
  OWN_RAFT_DIR,
  rewriteScripts,
  runEtcdRaft,
} from "./etcd-raft.ts";

/** Suites of expected results, by name. Each takes the folder its files are in. */
const SUITES: Readonly<Record<string, (dir: string | undefined) => readonly FileResult[]>> = {
  "etcd-raft": dir => runEtcdRaft(dir ?? ETCD_RAFT_DIR),
  raft: dir => runEtcdRaft(dir ?? OWN_RAFT_DIR),
};

const EXIT_USAGE = 2;
const USAGE = `usage: npm run golden -- [--suite NAME] [--dir DIR] [--rewrite]

Runs scripts with expected results against the Raft core.

  --suite NAME  ${Object.keys(SUITES).join(" or ")} (all)
  --dir DIR     the folder of the scripts, in place of the suite's own
  --rewrite     writes what is so into our own scripts (--suite raft)`;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a line a file and the sum; true when nothing failed. */
function report(results: readonly FileResult[]): boolean {
  let passed = 0;
  let failed = 0;
  for (const result of results) {
    passed += result.passed;
    failed += result.failures.length;
    print(`${result.file}: ${result.passed} of ${result.total} directives`);
    for (const [reason, count] of result.skipped) print(`  skipped ${count}: ${reason}`);
    for (const failure of result.failures) print(`  FAIL ${failure}`);
  }
  print(`${passed} passed, ${failed} failed`);
  return failed === 0;
}

/** Null, and said why, when the folder cannot be read or holds no script. */
function read(run: () => readonly FileResult[]): readonly FileResult[] | null {
  try {
    const results = run();
    if (results.length > 0) return results;
    print("no .txt file is there");
  } catch (error) {
    print(error instanceof Error ? error.message : String(error));
  }
  return null;
}

interface Arguments {
  readonly suite?: string;
  readonly dir?: string;
  readonly rewrite?: boolean;
  readonly help?: boolean;
}

function readArguments(): Arguments {
  const { values } = parseArgs({
    options: {
      suite: { type: "string" },
      dir: { type: "string" },
      rewrite: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  return values;
}

function main({ suite, dir, rewrite = false, help = false }: Arguments): number {
  if (help) {
    print(USAGE);
    return 0;
  }
  if (rewrite) {
    if (suite !== "raft") {
      print("only our own scripts are rewritten: --suite raft --rewrite");
      return EXIT_USAGE;
    }
    rewriteScripts(dir ?? OWN_RAFT_DIR);
  }
  const names = suite === undefined ? Object.keys(SUITES) : [suite];
  let ok = true;
  for (const name of names) {
    const run = SUITES[name];
    if (run === undefined) {
      print(`unknown suite ${name}; there are: ${Object.keys(SUITES).join(", ")}`);
      return EXIT_USAGE;
    }
    const results = read(() => run(dir));
    if (results === null) return EXIT_USAGE;
    ok = report(results) && ok;
  }
  return ok ? 0 : 1;
}

try {
  process.exitCode = main(readArguments());
} catch (error) {
  const why = error instanceof Error ? error.message : String(error);
  process.stderr.write(`golden: ${why}\n${USAGE}\n`);
  process.exitCode = EXIT_USAGE;
}

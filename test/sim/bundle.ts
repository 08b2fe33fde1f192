import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { build, type Plugin } from "esbuild";

/** A change of one place in the source, for the time of one build. */
export interface Edit {
  /** From the repository's root. */
  readonly file: string;
  /** Occurs exactly once. */
  readonly from: string;
  readonly to: string;
}

const ROOT = resolve(import.meta.dirname, "../..");
const ENTRY = "test/sim/seeds.ts";
/** Much garbage of short life: a larger nursery collects it cheaper. */
const NODE_FLAGS = ["--max-semi-space-size=64"];

/** The text with the edits made. Throws when a place is not there, or there twice. */
export function edited(file: string, text: string, edits: readonly Edit[]): string {
  return edits.reduce((now, { from, to }) => {
    const parts = now.split(from);
    if (parts.length === 2) return parts.join(to);
    throw new Error(`${file} has ${parts.length - 1} times, not once: ${from}`);
  }, text);
}

export async function readSource(file: string): Promise<string> {
  return readFile(join(ROOT, file), "utf8");
}

function editing(edits: readonly Edit[]): Plugin {
  return {
    name: "edits",
    setup(context) {
      context.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        const file = relative(ROOT, path);
        const own = edits.filter(edit => edit.file === file);
        if (own.length === 0) return null;
        return { contents: edited(file, await readSource(file), own), loader: "ts" };
      });
    },
  };
}

/** The simulation brings its own database: the native one is not loaded. */
const withoutLevel: Plugin = {
  name: "without-level",
  setup(context) {
    context.onResolve({ filter: /^classic-level$/ }, () => ({
      path: "classic-level",
      namespace: "left-out",
    }));
    context.onLoad({ filter: /.*/, namespace: "left-out" }, () => ({
      contents: "export class ClassicLevel {}",
    }));
  },
};

export interface Simulator {
  /** Starts it with the arguments of `seeds.ts`. */
  run(args: readonly string[], options?: { readonly live?: boolean }): Promise<SimulatorRun>;
  remove(): Promise<void>;
}

export interface SimulatorRun {
  readonly code: number;
  readonly output: string;
}

/**
 * The simulator and the production code in it as one file, with `edits` made in either: quicker than
 * loading the sources one by one, and the sources stay as they are.
 */
export async function buildSimulator(edits: readonly Edit[] = []): Promise<Simulator> {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-sim-"));
  const outfile = join(dir, "seeds.mjs");
  await build({
    absWorkingDir: ROOT,
    entryPoints: [ENTRY],
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    sourcemap: "inline",
    logLevel: "silent",
    plugins: [editing(edits), withoutLevel],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  });
  return {
    run: (args, options = {}) => start(outfile, args, options.live ?? false),
    remove: () => rm(dir, { recursive: true }),
  };
}

function start(file: string, args: readonly string[], live: boolean): Promise<SimulatorRun> {
  return new Promise((done, fail) => {
    const command = [...NODE_FLAGS, "--enable-source-maps", file, ...args];
    const child = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "pipe"] });
    const chunks: Buffer[] = [];
    const keep = (chunk: Buffer): void => {
      if (live) process.stdout.write(chunk);
      else chunks.push(chunk);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", fail);
    child.on("close", code => {
      done({ code: code ?? 1, output: Buffer.concat(chunks).toString("utf8") });
    });
  });
}

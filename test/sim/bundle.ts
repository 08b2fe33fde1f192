import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { build, type Plugin } from "esbuild";

export const ROOT = resolve(import.meta.dirname, "../..");
const ENTRY = "test/sim/seeds.ts";
/** Much garbage of short life: a larger nursery collects it cheaper. */
const NODE_FLAGS = ["--max-semi-space-size=64", "--enable-source-maps"];

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
  run(args: readonly string[], options?: RunOptions): Promise<CommandResult>;
  remove(): Promise<void>;
}

export interface RunOptions {
  /** Shows what it prints at once, and does not keep it. */
  readonly live?: boolean;
  readonly cwd?: string;
  /** It is killed after this. */
  readonly timeoutMs?: number;
}

export interface CommandResult {
  readonly code: number;
  readonly output: string;
  readonly timedOut: boolean;
}

/**
 * The simulator and the production code in it as one file: quicker than loading the sources one by
 * one. `root` is the repository, or a copy of it.
 */
export async function buildSimulator(root = ROOT): Promise<Simulator> {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-sim-"));
  const outfile = join(dir, "seeds.mjs");
  await build({
    absWorkingDir: root,
    entryPoints: [ENTRY],
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    sourcemap: "inline",
    logLevel: "silent",
    plugins: [withoutLevel],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  });
  return {
    run: (args, options) => runNode([...NODE_FLAGS, outfile, ...args], options),
    remove: () => rm(dir, { recursive: true }),
  };
}

/** Runs Node until it ends. */
export function runNode(
  args: readonly string[],
  { live = false, cwd = ROOT, timeoutMs }: RunOptions = {},
): Promise<CommandResult> {
  return new Promise((done, fail) => {
    const signal = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
    const child = spawn(process.execPath, args, {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      // A busy machine is no failure.
      env: { ...process.env, TAP_TIMEOUT: "600" },
    });
    const kill = (): void => void child.kill("SIGKILL");
    signal?.addEventListener("abort", kill, { once: true });
    const chunks: Buffer[] = [];
    const keep = (chunk: Buffer): void => {
      if (live) process.stdout.write(chunk);
      else chunks.push(chunk);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", fail);
    child.on("close", code => {
      signal?.removeEventListener("abort", kill);
      const output = Buffer.concat(chunks).toString("utf8");
      done({ code: code ?? 1, output, timedOut: signal?.aborted === true });
    });
  });
}

import { spawn } from "node:child_process";
import { LabError } from "./errors.ts";

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const MAX_QUOTED_CHARS = 2_000;
const TIMED_OUT_CODE = 124;
const SIGNAL_CODE_BASE = 128;

const PASSED_ON = ["HOME", "LANG", "LC_ALL", "TERM", "USER", "TMPDIR"];
const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Only what a login gives: a test runner's NODE_OPTIONS must not reach the daemons. */
export function plainEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { PATH: SYSTEM_PATH };
  for (const name of PASSED_ON) {
    if (process.env[name] !== undefined) env[name] = process.env[name];
  }
  return { ...env, ...extra };
}

/** Runs to the end, whatever the exit code. Rejects when the command cannot be started. */
export function run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [program = "", ...args] = command;
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    // Its own process group, so that a timeout also ends what `nsenter` has forked.
    const child = spawn(program, args, {
      env: options.env ?? plainEnv(),
      detached: true,
      stdio: "pipe",
    });
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      if (child.pid !== undefined) killGroup(child.pid);
    }, timeoutMs);
    child.on("error", error => {
      clearTimeout(timer);
      reject(new LabError(`cannot run ${program}: ${error.message}`, error));
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const note = timedOut ? `\n(ended after ${timeoutMs} ms)` : "";
      resolve({
        code: timedOut ? TIMED_OUT_CODE : (code ?? SIGNAL_CODE_BASE + (signal === null ? 0 : 1)),
        stdout: stdout(),
        stderr: stderr() + note,
      });
    });
    child.stdin.on("error", () => undefined); // The command may end without reading its input.
    child.stdin.end(options.input ?? "");
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended meanwhile.
  }
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_OUTPUT_BYTES) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString();
}

/** Runs and returns stdout; throws an error with the command and its output unless it exits 0. */
export async function must(
  where: string,
  command: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const result = await run(command, options);
  if (result.code !== 0) throw new LabError(describeFailure(where, command, result));
  return result.stdout;
}

export function describeFailure(
  where: string,
  command: readonly string[],
  result: RunResult,
): string {
  const output = `${result.stderr}${result.stdout}`.trim().slice(-MAX_QUOTED_CHARS);
  const said = output === "" ? "it printed nothing" : output;
  return `${where}: \`${command.join(" ")}\` exited with ${result.code}: ${said}`;
}

import { spawn } from "node:child_process";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import { type Outcome, Shells } from "./shells.ts";

/** Runs a program of the host to its end. */
export interface Commands {
  /** Its output. Throws failed_precondition with its own words when it fails. */
  run(command: readonly string[], input?: string): Promise<string>;
}

/** A program that reads commands from its input, line by line, until it is ended. */
export interface LineProgram {
  write(text: string): void;
  /** Resolves when it is gone. */
  kill(): Promise<void>;
}

export interface LineListener {
  /** It has said that on stderr. */
  readonly onSaid: (text: string) => void;
  /** Once; also when it could not be started. */
  readonly onEnded: () => void;
}

/** Starts programs that one speaks with. */
export interface LinePrograms {
  start(command: readonly string[], listener: LineListener): LineProgram;
}

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const MAX_QUOTED_CHARS = 1_000;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** They go to the background and stay: a shell that is ended would take them along. */
const STAYING = new Set(["wireguard-go"]);

/** The programs of this host: `ip`, `bridge`, `nft`, `nsenter`, `conntrack`, `iptables`, `wg`. */
export class HostCommands implements Commands, LinePrograms {
  readonly #shells: Shells | null;

  /** Without a clock every program is started by this process itself: for one that runs few. */
  constructor(deps: { readonly clock?: Clock } = {}) {
    const { clock } = deps;
    const limits = { timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
    this.#shells =
      clock === undefined ? null : new Shells({ env: environment(), ...limits }, { clock });
  }

  run(command: readonly string[], input = ""): Promise<string> {
    const isStaying = STAYING.has(command[0] ?? "");
    const running = isStaying ? null : (this.#shells?.run(command, input) ?? null);
    return running === null ? this.#spawn(command, input) : outputOf(command, running);
  }

  #spawn(command: readonly string[], input: string): Promise<string> {
    const [program = "", ...args] = command;
    return new Promise((resolve, reject) => {
      const child = spawn(program, args, {
        env: environment(),
        stdio: "pipe",
        timeout: TIMEOUT_MS,
      });
      const stdout = collect(child.stdout);
      const stderr = collect(child.stderr);
      child.on("error", error => reject(failure(command, error.message)));
      child.on("close", (code, signal) => {
        if (code === 0) resolve(stdout());
        else reject(failure(command, stderr() || stdout() || `ended with ${code ?? signal}`));
      });
      // It may end without reading its input; what it says then is its error.
      child.stdin.on("error", () => undefined);
      child.stdin.end(input);
    });
  }

  start(command: readonly string[], { onSaid, onEnded }: LineListener): LineProgram {
    const [program = "", ...args] = command;
    // Without a home of its own it keeps no history of what it was told.
    const env = { ...environment(), HOME: "/dev/null" };
    const child = spawn(program, args, { env, stdio: ["pipe", "ignore", "pipe"] });
    const gone = new Promise<void>(resolve => {
      child.once("error", () => resolve());
      child.once("close", () => resolve());
    });
    void gone.then(onEnded);
    child.stderr.setEncoding("utf8").on("data", onSaid);
    // That it has ended is heard otherwise.
    child.stdin.on("error", () => undefined);
    return {
      write: text => child.stdin.write(text),
      kill: async () => {
        child.kill("SIGKILL");
        await gone;
      },
    };
  }
}

async function outputOf(command: readonly string[], running: Promise<Outcome>): Promise<string> {
  const { code, stdout, stderr } = await running.catch((error: unknown) => {
    throw failure(command, errorMessage(error));
  });
  if (code === 0) return stdout;
  throw failure(command, stderr || stdout || `ended with ${code}`);
}

function environment(): NodeJS.ProcessEnv {
  return { PATH: `${process.env["PATH"] ?? ""}:${PATH}`, LC_ALL: "C" };
}

function failure(command: readonly string[], said: string): SwarmError {
  const text = said.trim().slice(0, MAX_QUOTED_CHARS);
  return new SwarmError("failed_precondition", `${command.slice(0, 6).join(" ")}: ${text}`);
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

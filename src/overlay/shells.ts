import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { type Deferred, newDeferred } from "../base/async.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";

/** How a program ended, and what it said. */
export interface Outcome {
  /** As a shell tells it: 128 and the number of the signal for one that was ended by one. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ShellsOptions {
  readonly env: NodeJS.ProcessEnv;
  /** A program that takes longer is ended. */
  readonly timeoutMs: number;
  /** One that says more is ended. */
  readonly maxOutputBytes: number;
}

/** They stay for as long as the process: as many programs as are usually run at once. */
const MAX_SHELLS = 8;
/** A shell reads its input slowly: what is longer is for a program of its own. */
export const MAX_INPUT_CHARS = 16_384;
/** Holds the line that tells the end, and its line break before. */
const TAIL_BYTES = 128;

/** Output of one program, up to a line that tells its end. */
class Said {
  readonly #chunks: Buffer[] = [];
  #tail = "";
  bytes = 0;

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.bytes += chunk.length;
    const end = chunk.subarray(-TAIL_BYTES).toString("latin1");
    this.#tail = `${this.#tail}${end}`.slice(-TAIL_BYTES);
  }

  /** What follows the mark in the last line; null while there is none. */
  endOf(mark: string): string | null {
    const at = this.#tail.lastIndexOf(`\n${mark} `);
    return at >= 0 && this.#tail.endsWith("\n") ? this.#tail.slice(at + mark.length + 2, -1) : null;
  }

  textBefore(mark: string): string {
    const all = Buffer.concat(this.#chunks);
    return all.subarray(0, all.lastIndexOf(`\n${mark} `)).toString();
  }
}

interface Job {
  readonly mark: string;
  readonly stdout: Said;
  readonly stderr: Said;
  readonly outcome: Deferred<Outcome>;
  readonly timer: Timer;
}

/** One shell, which runs one program at a time. */
class Shell {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #options: ShellsOptions;
  readonly #clock: Clock;
  #job: Job | null = null;
  #jobs = 0;
  #why = "its shell ended";
  #isKilled = false;
  ended = false;

  constructor(options: ShellsOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    // A group of its own, so that what it runs can be ended with it.
    this.#child = spawn("/bin/sh", [], { env: options.env, stdio: "pipe", detached: true });
    this.#child.stdout.on("data", (chunk: Buffer) => this.#onSaid("stdout", chunk));
    this.#child.stderr.on("data", (chunk: Buffer) => this.#onSaid("stderr", chunk));
    // That it has ended is heard otherwise.
    this.#child.stdin.on("error", () => undefined);
    this.#child.once("error", error => this.#onEnded(error.message));
    this.#child.once("close", () => this.#onEnded(this.#why));
  }

  get isFree(): boolean {
    return this.#job === null && !this.ended && !this.#isKilled;
  }

  run(command: readonly string[], input: string): Promise<Outcome> {
    this.#jobs += 1;
    const mark = `swarmd_end_${process.pid}_${this.#jobs}`;
    const outcome = newDeferred<Outcome>();
    const { timeoutMs } = this.#options;
    const timer = this.#clock.setTimer("command", timeoutMs, () => this.#kill("it took too long"));
    this.#job = { mark, stdout: new Said(), stderr: new Said(), outcome, timer };
    this.#hold(true);
    this.#child.stdin.write(scriptOf(command, input, mark));
    return outcome.promise;
  }

  #onSaid(where: "stdout" | "stderr", chunk: Buffer): void {
    const job = this.#job;
    if (job === null) return;
    job[where].add(chunk);
    if (job[where].bytes > this.#options.maxOutputBytes) this.#kill("it said too much");
    const code = job.stdout.endOf(job.mark);
    if (code === null || job.stderr.endOf(job.mark) === null) return;
    this.#job = null;
    job.timer.cancel();
    this.#hold(false);
    const [stdout, stderr] = [job.stdout, job.stderr].map(said => said.textBefore(job.mark));
    job.outcome.resolve({ code: Number(code), stdout: stdout ?? "", stderr: stderr ?? "" });
  }

  #onEnded(why: string): void {
    this.ended = true;
    const job = this.#job;
    this.#job = null;
    job?.timer.cancel();
    job?.outcome.reject(new SwarmError("unavailable", why));
  }

  #kill(why: string): void {
    const { pid } = this.#child;
    if (pid === undefined || this.ended || this.#isKilled) return;
    this.#why = why;
    this.#isKilled = true;
    process.kill(-pid, "SIGKILL");
  }

  /** This process ends without waiting for a shell that is idle; it ends with its input. */
  #hold(isBusy: boolean): void {
    const { stdin, stdout, stderr } = this.#child;
    for (const one of [this.#child, ...[stdin, stdout, stderr].map(pipe => pipe as Socket)]) {
      if (isBusy) one.ref();
      else one.unref();
    }
  }
}

/**
 * Starts programs by shells that stay. To start one itself, Node.js copies the tables of its own
 * memory (fork) on the thread that does everything else: milliseconds in a process of 100 MB, in
 * which no name is looked up and no message is answered. A shell is a hundred times smaller.
 */
export class Shells {
  readonly #options: ShellsOptions;
  readonly #clock: Clock;
  #shells: Shell[] = [];

  constructor(options: ShellsOptions, deps: { readonly clock: Clock }) {
    this.#options = options;
    this.#clock = deps.clock;
  }

  /** Null when it is better started directly. Throws unavailable when it did not end by itself. */
  run(command: readonly string[], input: string): Promise<Outcome> | null {
    if (input.length > MAX_INPUT_CHARS) return null;
    return this.#free()?.run(command, input) ?? null;
  }

  #free(): Shell | null {
    this.#shells = this.#shells.filter(shell => !shell.ended);
    const free = this.#shells.find(shell => shell.isFree);
    if (free !== undefined) return free;
    if (this.#shells.length >= MAX_SHELLS) return null;
    const shell = new Shell(this.#options, this.#clock);
    this.#shells.push(shell);
    return shell;
  }
}

function scriptOf(command: readonly string[], input: string, mark: string): string {
  const words = command.map(quote).join(" ");
  const ended = input === "" || input.endsWith("\n") ? input : `${input}\n`;
  const fed = input === "" ? `${words} </dev/null` : `${words} <<'${mark}'\n${ended}${mark}`;
  return `${fed}\nprintf '\\n%s %s\\n' ${mark} $?; printf '\\n%s %s\\n' ${mark} >&2\n`;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

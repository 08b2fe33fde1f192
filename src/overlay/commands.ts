import { spawn } from "node:child_process";
import { SwarmError } from "../base/errors.ts";

/** Runs a program of the host to its end. */
export interface Commands {
  /** Its output. Throws failed_precondition with its own words when it fails. */
  run(command: readonly string[], input?: string): Promise<string>;
}

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const MAX_QUOTED_CHARS = 1_000;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The programs of this host: `ip`, `bridge`, `nft`, `nsenter`, `conntrack`, `iptables`, `wg`. */
export class HostCommands implements Commands {
  run(command: readonly string[], input = ""): Promise<string> {
    const [program = "", ...args] = command;
    return new Promise((resolve, reject) => {
      const env = { PATH: `${process.env["PATH"] ?? ""}:${PATH}`, LC_ALL: "C" };
      const child = spawn(program, args, { env, stdio: "pipe", timeout: TIMEOUT_MS });
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

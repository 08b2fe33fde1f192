import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import type { Test } from "tap";
import { plainSwitches } from "../../cli/argv.ts";
import { ApiClient } from "../../cli/client.ts";
import type { CliContext } from "../../cli/context.ts";

/** The command line before a daemon that answers from a table. */

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly body: unknown;
}

/** A daemon that answers from a table and keeps what it was asked. */
export async function fakeDaemon(
  test: Test,
  answers: Readonly<Record<string, unknown>>,
): Promise<{ readonly socket: string; readonly seen: Seen[] }> {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-cli-"));
  const socket = join(dir, "s");
  const seen: Seen[] = [];
  const server: Server = createServer(async (request: IncomingMessage, response) => {
    let text = "";
    for await (const chunk of request) text += String(chunk);
    const path = (request.url ?? "").replace(/^\/v[\d.]+/, "");
    const method = request.method ?? "";
    seen.push({ method, url: path, body: text === "" ? undefined : JSON.parse(text) });
    const answer = answers[`${method} ${path.split("?")[0]}`];
    response.statusCode = answer === undefined ? 404 : 200;
    response.end(JSON.stringify(answer ?? { message: `no such thing: ${path}` }));
  });
  await new Promise<void>(resolve => server.listen(socket, resolve));
  test.teardown(() => {
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { socket, seen };
}

export interface Ran {
  readonly out: string;
  readonly err: string;
  readonly error: Error | null;
}

export async function runProgram(
  socket: string,
  args: readonly string[],
  addTo: (program: Command, context: CliContext) => void,
  input: Uint8Array = new Uint8Array(),
): Promise<Ran> {
  let [out, err] = ["", ""];
  const client = new ApiClient(`unix://${socket}`);
  const context: CliContext = {
    client: () => client,
    out: text => {
      out += text;
    },
    input: () => Promise.resolve(input),
    secret: () => Promise.resolve(Buffer.from(input).toString()),
    warn: line => {
      err += `${line}\n`;
    },
    stdoutIsTty: false,
    columns: 80,
    nowMs: () => 0,
    sleep: () => Promise.resolve(),
    signal: new AbortController().signal,
  };
  const program = new Command().exitOverride().enablePositionalOptions();
  addTo(program, context);
  let error: Error | null = null;
  try {
    await program.parseAsync(plainSwitches(program, args), { from: "user" });
  } catch (thrown) {
    error = thrown as Error;
  }
  client.close();
  return { out, err, error };
}

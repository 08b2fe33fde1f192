import { createReadStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { eventually } from "../support/eventually.ts";
import { LabError } from "./errors.ts";
import { accepts } from "./http.ts";
import { hostPrefix, OUTER_PROC, pidOnHost } from "./power.ts";
import { signal, untilEnded } from "./proc.ts";
import { must, plainEnv } from "./run.ts";

/** A long-running program of a host: dockerd or swarmd. */
export interface Service {
  readonly host: string;
  readonly name: "dockerd" | "swarmd";
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly socket: string;
  readonly log: string;
  readonly pidFile: string;
  readonly startTimeoutMs: number;
  readonly stopTimeoutMs: number;
}

const SPAWN_TIMEOUT_MS = 30_000;
const LOG_TAIL_BYTES = 2_000;

/**
 * Arguments: log file, pid file, command. The child writes its own pid as seen from outside, then
 * becomes the command; the host's pid 1 inherits it when this shell ends.
 */
const SPAWN = `log=$1 pid_file=$2; shift 2
{ read -r pid rest <${OUTER_PROC}/self/stat && echo "$pid" >"$pid_file.new" &&
  mv "$pid_file.new" "$pid_file" && exec "$@"; } </dev/null >>"$log" 2>&1 &
`;

export function servicePid(dir: string, service: Service): Promise<number | null> {
  return pidOnHost(dir, service.host, service.pidFile);
}

/** Starts it and waits until its socket takes connections. */
export async function startService(dir: string, service: Service): Promise<void> {
  const { host, name } = service;
  const shell = [...hostPrefix(dir, host), "sh", "-c", SPAWN, "sh"];
  const running = await servicePid(dir, service);
  if (running !== null) throw new LabError(`${host}: ${name} runs already (pid ${running})`);
  await rm(service.pidFile, { force: true });
  await must(host, [...shell, service.log, service.pidFile, ...service.command], {
    env: plainEnv(service.env),
  });
  await eventually(() => stat(service.pidFile), {
    what: `${host}: the pid file of ${name}`,
    timeoutMs: SPAWN_TIMEOUT_MS,
  });
  await untilAnswers(dir, service);
}

async function untilAnswers(dir: string, service: Service): Promise<void> {
  const { host, name } = service;
  const state = await eventually(
    async () => {
      if (await accepts(service.socket)) return "up";
      return (await servicePid(dir, service)) === null ? "ended" : null;
    },
    { what: `${host}: ${name} answers`, timeoutMs: service.startTimeoutMs },
  ).catch((error: unknown) => {
    throw new LabError(`${host}: ${name} does not answer on ${service.socket}`, error);
  });
  if (state === "up") return;
  throw new LabError(
    `${host}: ${name} ended at its start; its log ends:\n${await tail(service.log)}`,
  );
}

/** Returns its pid; throws when it does not run. */
export async function mustRun(dir: string, service: Service): Promise<number> {
  const pid = await servicePid(dir, service);
  if (pid !== null) return pid;
  hostPrefix(dir, service.host); // Says so when the reason is that the host is off.
  throw new LabError(`${service.host}: ${service.name} does not run`);
}

/** Sends a signal that ends it and waits for that. */
export async function endService(
  dir: string,
  service: Service,
  name: "SIGTERM" | "SIGKILL",
): Promise<void> {
  const pid = await mustRun(dir, service);
  signal(pid, name);
  const what = `${service.host}: ${service.name} after ${name}`;
  await untilEnded(pid, what, service.stopTimeoutMs).catch(async (error: unknown) => {
    const end = await tail(service.log);
    throw new LabError(`${what} still runs (pid ${pid}); its log ends:\n${end}`, error);
  });
  await rm(service.pidFile, { force: true });
}

/** The last lines of a log, for errors. */
export async function tail(file: string): Promise<string> {
  const size = (await stat(file).catch(() => null))?.size ?? 0;
  if (size === 0) return "(empty)";
  const chunks: Buffer[] = [];
  for await (const chunk of createReadStream(file, { start: Math.max(0, size - LOG_TAIL_BYTES) })) {
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks).toString().trim();
}

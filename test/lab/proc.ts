import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { eventually } from "../support/eventually.ts";

/** What /proc says. Every function answers null (or leaves out) for a process that has ended. */

const STATE_FIELD = 0;
const PARENT_FIELD = 1;
const START_FIELD = 19;
const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

export interface ProcessStat {
  /** `R` running, `S` sleeping, `T` stopped, `Z` ended but not reaped, ... (proc(5)). */
  readonly state: string;
  readonly parent: number;
  /** Clock ticks from boot to the process' start: with the pid it names one process for good. */
  readonly startTicks: number;
}

/** Null when the file is gone, as it is when its process ends while being looked at. */
function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

export function readStat(pid: number): ProcessStat | null {
  const line = orNull(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  if (line === null) return null;
  // The second field, the name in brackets, may hold spaces and brackets itself.
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return {
    state: fields[STATE_FIELD] ?? "?",
    parent: Number(fields[PARENT_FIELD]),
    startTicks: Number(fields[START_FIELD]),
  };
}

export function isRunning(pid: number): boolean {
  const stat = readStat(pid);
  return stat !== null && stat.state !== "Z" && stat.state !== "X";
}

export function bootId(): string {
  return readFileSync(BOOT_ID_FILE, "utf8").trim();
}

/** For example `net:[4026531840]`. */
export function namespaceOf(pid: number, kind: "net" | "pid"): string | null {
  return orNull(() => readlinkSync(`/proc/${pid}/ns/${kind}`));
}

function allPids(): number[] {
  return readdirSync("/proc")
    .filter(name => /^[0-9]+$/.test(name))
    .map(Number);
}

/** This process and those it descends from. */
function ownLine(): Set<number> {
  const line = new Set<number>();
  for (let pid = process.pid; pid > 0 && !line.has(pid); pid = readStat(pid)?.parent ?? 0) {
    line.add(pid);
  }
  return line;
}

/** Processes in one of the network namespaces, without the caller and its parents. */
export function pidsInNetworks(namespaces: ReadonlySet<string>): number[] {
  const own = ownLine();
  return allPids().filter(pid => {
    const net = namespaceOf(pid, "net");
    return net !== null && namespaces.has(net) && !own.has(pid) && isRunning(pid);
  });
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

export async function untilEnded(pid: number, what: string, timeoutMs: number): Promise<void> {
  await eventually(() => !isRunning(pid), { what: `${what} (pid ${pid}) has ended`, timeoutMs });
}

/** Stopped as by SIGSTOP, which takes effect a moment after it was sent. */
export function isStopped(pid: number): boolean {
  return readStat(pid)?.state === "T";
}

export async function untilStopped(pid: number, what: string, timeoutMs: number): Promise<void> {
  const isSo = () => isStopped(pid) || !isRunning(pid);
  await eventually(isSo, { what: `${what} (pid ${pid}) has stopped`, timeoutMs });
}

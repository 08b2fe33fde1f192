import { readFileSync } from "node:fs";
import { createServer } from "node:net";

/** Three members of one system under test. */
export interface System {
  readonly title: string;
  /** Where clients dial each member. */
  readonly clientAddrs: readonly string[];
  /** Where the load goes; any gRPC client would do too. */
  readonly loadAddrs: readonly string[];
  /** Of the members' processes that run. */
  pids(): readonly number[];
  /** The member that leads, once all three agree on it. */
  leader(): Promise<number>;
  /** SIGKILL; resolves when the process is gone. */
  kill(member: number): Promise<void>;
  /** Starts it again; resolves when it has all that the leader has. */
  restart(member: number): Promise<void>;
  stop(): Promise<void>;
}

export const MEMBERS = 3;

/** CPU seconds used by the processes so far, in user and kernel. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // Fields after the command, which may contain anything but the last parenthesis.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** USER_HZ of Linux on all current architectures. */
const TICKS_PER_SECOND = 100;

export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const bound = server.address();
    if (bound !== null && typeof bound === "object") ports.push(bound.port);
  }
  for (const server of servers) await new Promise(resolve => server.close(resolve));
  return ports;
}

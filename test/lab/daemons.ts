import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NODE_FLAGS } from "../../scripts/node-flags.ts";
import { binPath, type LabContext } from "./context.ts";
import { hostPaths, hostScope } from "./plan.ts";
import type { Service } from "./service.ts";

/** The programs of a host and how they are started: the one place that knows their flags. */

const ENGINE_START_TIMEOUT_MS = 60_000;
const ENGINE_STOP_TIMEOUT_MS = 60_000;
const DAEMON_START_TIMEOUT_MS = 60_000;
const DAEMON_STOP_TIMEOUT_MS = 60_000;

export function engineService(lab: LabContext, host: string): Service {
  const paths = hostPaths(lab.dir, host);
  return {
    host,
    name: "dockerd",
    command: [
      "dockerd",
      // The machine's own /etc/docker/daemon.json is not the lab's.
      ...["--config-file", join(paths.dir, "daemon.json")],
      ...["--data-root", paths.docker],
      ...["--exec-opt", "native.cgroupdriver=cgroupfs"],
      ...["--cgroup-parent", `/${hostScope(lab.dir, host)}`],
      ...["-H", `unix://${paths.dockerSocket}`, "-H", "unix:///run/docker.sock"],
      ...lab.config.engineArgs,
    ],
    env: {},
    socket: paths.dockerSocket,
    log: paths.dockerLog,
    pidFile: paths.dockerPid,
    startTimeoutMs: ENGINE_START_TIMEOUT_MS,
    stopTimeoutMs: ENGINE_STOP_TIMEOUT_MS,
  };
}

export function daemonService(lab: LabContext, host: string): Service {
  const paths = hostPaths(lab.dir, host);
  return {
    host,
    name: "swarmd",
    command: [
      ...swarmdCommand(lab),
      "daemon",
      ...["--data-dir", paths.data],
      ...["--socket", paths.socket],
      ...["--docker-host", `unix://${paths.dockerSocket}`],
      ...["--log-level", "info"],
      ...lab.config.daemonArgs,
    ],
    env: {},
    socket: paths.socket,
    log: paths.log,
    pidFile: paths.pid,
    startTimeoutMs: DAEMON_START_TIMEOUT_MS,
    stopTimeoutMs: DAEMON_STOP_TIMEOUT_MS,
  };
}

/** The command line; SWARMD_BIN of the caller wins, so that a host can start another version. */
export function swarmdCommand(lab: LabContext): string[] {
  return [process.execPath, ...NODE_FLAGS, process.env["SWARMD_BIN"] ?? lab.config.swarmdBin];
}

/** What a login on the host has in its environment. */
export function loginEnv(lab: LabContext, host: string): Record<string, string> {
  return { SWARMD_HOST: `unix://${hostPaths(lab.dir, host).socket}` };
}

export async function prepareDisk(lab: LabContext, host: string): Promise<void> {
  const paths = hostPaths(lab.dir, host);
  await mkdir(paths.data, { recursive: true, mode: 0o700 });
  await mkdir(paths.docker, { recursive: true });
  await writeFile(join(paths.dir, "daemon.json"), "{}\n");
}

/** `swarmd` for people: `lab exec m1 -- swarmd node ls`. */
export async function writeCommand(lab: LabContext): Promise<void> {
  const dir = binPath(lab.dir);
  await mkdir(dir, { recursive: true });
  const words = [process.execPath, ...NODE_FLAGS, lab.config.swarmdBin].map(quote).join(" ");
  await writeFile(join(dir, "swarmd"), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

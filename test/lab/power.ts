import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { removeCgroups } from "./cgroups.ts";
import { type LabContext, readIfThere } from "./context.ts";
import { LabError } from "./errors.ts";
import { attachHost, detachHost, hostsFile, setLink } from "./network.ts";
import { type HostPlan, hostPaths, hostScope } from "./plan.ts";
import { bootId, isRunning, namespaceOf, readStat, signal, untilEnded } from "./proc.ts";
import { describeFailure, run } from "./run.ts";

/**
 * A host is a set of namespaces held by one process, its pid 1. Ending that process is a loss of
 * power: the kernel kills all else in the pid namespace, then lets go of mounts and devices.
 */

const initPath = (dir: string): string => join(dir, "init.sh");
const namesPath = (dir: string): string => join(dir, "hosts");

export interface InitRecord {
  readonly pid: number;
  readonly startTicks: number;
  readonly bootId: string;
  readonly pidNamespace: string;
}

/** Where hosts keep the machine's own /proc: there a process can read its pid outside. */
export const OUTER_PROC = "/run/.outer-proc";

const DEATH_TIMEOUT_MS = 60_000;
const BOOT_TIMEOUT_MS = 60_000;

/**
 * Pid 1. Arguments: host name, its etc folder, the file for /etc/hosts. It tells "ready" and then
 * only reaps. Two mounts need care. sysfs belongs to a network namespace, so it is mounted anew
 * and the cgroup tree carried over. A copied mount of another host's namespace file would keep
 * that namespace alive, so /run/netns goes first.
 */
const INIT = `set -e
mount --make-rprivate /
hostname "$1"
umount -R -l /run/netns 2>/dev/null || :
mount -t tmpfs -o mode=755 swarmd-lab /run
mkdir -p ${OUTER_PROC} /run/lock /run/docker/plugins /run/swarmd /run/.sys /run/.etc
mount --bind /proc ${OUTER_PROC}
mount -t proc proc /proc
mount -t sysfs sysfs /run/.sys
for d in fs/cgroup kernel/security; do
  if mountpoint -q "/sys/$d"; then mount --rbind "/sys/$d" "/run/.sys/$d"; fi
done
umount -l /sys
mount --move /run/.sys /sys
etc() {
  mkdir -p "$1/upper" "$1/work"
  mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" swarmd-lab /etc
}
etc "$2" 2>/dev/null || etc /run/.etc
echo "$1" >/etc/hostname
cat "$3" >/etc/hosts
echo ready
exec </dev/null >/dev/null 2>&1
trap 'exit 0' TERM
while :; do sleep 86400 & wait $!; done
`;

/** The shell outside forks pid 1, so \`$!\` is its pid as seen from outside. */
const BOOT = `sh "$@" & echo $!`;

/** Writes what every boot needs. */
export async function prepareBoot(lab: LabContext): Promise<void> {
  await writeFile(initPath(lab.dir), INIT);
  await writeFile(namesPath(lab.dir), hostsFile(lab.config.managers, lab.config.workers));
}

/** Makes namespaces, wires and pid 1. The host must be off. */
export async function boot(lab: LabContext, host: HostPlan): Promise<void> {
  const paths = hostPaths(lab.dir, host.name);
  await mkdir(paths.etc, { recursive: true });
  await attachHost(lab.dir, host, readIfThere(paths.cutMark) !== null);
  const netns = `--net=/run/netns/${hostScope(lab.dir, host.name)}`;
  const init = [initPath(lab.dir), host.name, paths.etc, namesPath(lab.dir)];
  const result = await run(
    [
      "nsenter",
      netns,
      "unshare",
      "--mount",
      "--uts",
      "--ipc",
      "--pid",
      "sh",
      "-c",
      BOOT,
      "sh",
      ...init,
    ],
    { timeoutMs: BOOT_TIMEOUT_MS },
  );
  const pid = Number(/^[0-9]+$/m.exec(result.stdout)?.[0]);
  const stat = readStat(pid);
  const pidNamespace = namespaceOf(pid, "pid");
  if (!/^ready$/m.test(result.stdout) || stat === null || pidNamespace === null) {
    throw new LabError(describeFailure(host.name, ["boot"], result));
  }
  const record: InitRecord = { pid, startTicks: stat.startTicks, bootId: bootId(), pidNamespace };
  await writeFile(paths.init, `${JSON.stringify(record)}\n`);
}

/** Cuts the link, so that nothing dying says a word, then ends everything on the host at once. */
export async function cutPower(lab: LabContext, host: string): Promise<void> {
  const paths = hostPaths(lab.dir, host);
  const record = runningInit(lab.dir, host);
  if (record === null) throw new LabError(`${host} is powered off already`);
  await setLink(lab.dir, host, "down");
  await killInit(record, host);
  await detachHost(lab.dir, host);
  await removeCgroups(hostScope(lab.dir, host));
  // These lie in /run of a real host, which does not outlive its power.
  const gone = [paths.init, paths.pid, paths.dockerPid, paths.socket, paths.dockerSocket];
  await Promise.all(gone.map(path => rm(path, { force: true, recursive: true })));
}

export async function killInit(record: InitRecord, host: string): Promise<void> {
  signal(record.pid, "SIGKILL");
  await untilEnded(record.pid, `pid 1 of ${host}`, DEATH_TIMEOUT_MS);
}

/** The host's pid 1, or null when the host is off. A reused pid is told by its start time. */
export function runningInit(dir: string, host: string): InitRecord | null {
  const text = readIfThere(hostPaths(dir, host).init);
  if (text === null) return null;
  const record = parseRecord(text);
  if (record === null || record.bootId !== bootId() || !isRunning(record.pid)) return null;
  return readStat(record.pid)?.startTicks === record.startTicks ? record : null;
}

function parseRecord(text: string): InitRecord | null {
  try {
    const value: unknown = JSON.parse(text);
    const whole = typeof value === "object" && value !== null && "pidNamespace" in value;
    return whole ? (value as InitRecord) : null;
  } catch {
    return null; // The tool ended while it wrote the file; `down` finds the host by its namespace.
  }
}

/** Prefix for commands that run on the host. */
export function hostPrefix(dir: string, host: string): string[] {
  const record = runningInit(dir, host);
  if (record === null) throw new LabError(`${host} is powered off: \`poweron ${host}\` first`);
  return ["nsenter", "-t", `${record.pid}`, "-m", "-n", "-u", "-i", "-p", "--"];
}

/** The pid in a pid file, if that process still runs on this host. */
export async function pidOnHost(dir: string, host: string, file: string): Promise<number | null> {
  const record = runningInit(dir, host);
  if (record === null) return null;
  const text = await readFile(file, "utf8").catch(() => "");
  const pid = Number(text.trim());
  if (!Number.isInteger(pid) || pid <= 0 || !isRunning(pid)) return null;
  return namespaceOf(pid, "pid") === record.pidNamespace ? pid : null;
}

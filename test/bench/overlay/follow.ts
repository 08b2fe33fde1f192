import { type ChildProcess, spawn } from "node:child_process";
import { namespaceOf } from "../../../src/overlay/core/names.ts";
import type { LabHost } from "../../lab/host.ts";
import { must } from "../../lab/run.ts";
import { eventually } from "../../support/eventually.ts";

/**
 * How soon every host's tables follow a container that becomes healthy, or ends by itself. The
 * kernel tells each change of a table as it commits it (`nft monitor`). Clocks are one: all hosts
 * are on this machine.
 */

const NETWORK = "follow";
const SERVICE = "follower";
const TIMEOUT_MS = 60_000;
const CHANGE = /^(add|delete) element ip sw be \{ \S+ \. \S+ : (\S+) \}$/;
const LISTED = /: (\d+\.\d+\.\d+\.\d+)/;

export interface FollowTimes {
  /** Until the last host's table has it, from the Engine's first good check. */
  readonly sinceHealthyMs: readonly number[];
  /** The same from when its node knew that it runs. */
  readonly inSinceKnownMs: readonly number[];
  /** Until no host's table has it, from the end of its process. */
  readonly sinceDeadMs: readonly number[];
  /** The same from when its node knew. */
  readonly outSinceKnownMs: readonly number[];
  /** From the end of its process until the Engine said so. */
  readonly engineSaidMs: readonly number[];
}

/** The backends in a host's table of the network, and when each came and went. */
class Watch {
  readonly #child: ChildProcess;
  readonly #slots = new Map<string, number>();
  readonly cameAtMs = new Map<string, number>();
  readonly wentAtMs = new Map<string, number>();
  #rest = "";

  constructor(host: LabHost, space: readonly string[], there: readonly string[]) {
    for (const addr of there) this.#slots.set(addr, 1);
    const [program = "", ...args] = host.execCommand([...space, "nft", "monitor", "elements"]);
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], detached: true });
    this.#child.stdout?.setEncoding("utf8").on("data", text => this.#read(text, Date.now()));
  }

  close(): void {
    // Its own group: what entered the host's namespaces has forked.
    if (this.#child.pid !== undefined) process.kill(-this.#child.pid, "SIGKILL");
  }

  #read(text: string, atMs: number): void {
    const lines = `${this.#rest}${text}`.split("\n");
    this.#rest = lines.pop() ?? "";
    const before = new Map(this.#slots);
    for (const line of lines) {
      const [, verb, addr = ""] = CHANGE.exec(line) ?? [];
      if (verb === undefined) continue;
      this.#slots.set(addr, (this.#slots.get(addr) ?? 0) + (verb === "add" ? 1 : -1));
    }
    for (const [addr, slots] of this.#slots) {
      const had = (before.get(addr) ?? 0) > 0;
      if (slots > 0 && !had) this.cameAtMs.set(addr, atMs);
      if (slots <= 0 && had) this.wentAtMs.set(addr, atMs);
    }
  }
}

interface Place {
  readonly container: string;
  readonly taskId: string;
  readonly addr: string;
}

type Docker = (args: readonly string[]) => Promise<string>;

/** Of the container of the service on that host. */
async function placeOn(host: LabHost): Promise<Place> {
  const filters = ["--filter", `name=${SERVICE}`, "--filter", "status=running"];
  const id = (await host.docker(["ps", "-q", ...filters])).trim();
  const label = '{{index .Config.Labels "com.docker.swarm.task.id"}}';
  const address = `{{(index .NetworkSettings.Networks "${NETWORK}").IPAddress}}`;
  const said = await host.docker(["inspect", "-f", `${label} ${address}`, id]);
  const [taskId = "", addr = ""] = said.trim().split(" ");
  return { container: id, taskId, addr };
}

/** When the task's node knew that it is in that state. */
function knownAtMs(docker: Docker, taskId: string, state: string): Promise<number> {
  const format = "{{.Status.State}} {{json .Status.Timestamp}}";
  return eventually(
    async () => {
      const said = await docker(["inspect", "--type", "task", "-f", format, taskId]);
      const [is, at = "null"] = said.trim().split(" ");
      return is === state ? Date.parse(JSON.parse(at) as string) : null;
    },
    { what: `a task that is ${state}`, timeoutMs: TIMEOUT_MS },
  );
}

/** The last of the moments at which all hosts saw it. */
function everywhere(
  watches: readonly Watch[],
  what: "cameAtMs" | "wentAtMs",
  { addr }: Place,
): Promise<number> {
  return eventually(
    () => {
      const times = watches.map(watch => watch[what].get(addr));
      return times.every(time => time !== undefined) ? Math.max(...times.map(Number)) : null;
    },
    { what: `${addr} ${what}`, timeoutMs: TIMEOUT_MS, everyMs: 5 },
  );
}

async function startWatching(hosts: readonly LabHost[], networkId: string): Promise<Watch[]> {
  const space = ["nsenter", `--net=/run/netns/${namespaceOf(networkId)}`];
  const watches: Watch[] = [];
  for (const host of hosts) {
    const list = host.execCommand([...space, "nft", "list", "map", "ip", "sw", "be"]);
    const there = await eventually(
      async () => {
        const text = await must(host.name, list).catch(() => "");
        const addrs = text.split(",").flatMap(part => LISTED.exec(part)?.[1] ?? []);
        return addrs.length === hosts.length ? addrs : null;
      },
      { what: "all backends", timeoutMs: TIMEOUT_MS },
    );
    watches.push(new Watch(host, space, there));
  }
  return watches;
}

/** A service with a container on each host; `there` has the one that is ended again and again. */
export async function measureFollowing(
  hosts: readonly LabHost[],
  there: LabHost,
  docker: Docker,
  rounds: number,
): Promise<FollowTimes> {
  const id = (await docker(["network", "create", "-d", "overlay", NETWORK])).trim();
  // Containers are ended more often than a service's should.
  const patient = ["--restart-delay", "1s", "--label", "swarmd.restart.backoff=off"];
  const health = ["--health-cmd", "true", "--health-interval", "1s"];
  const create = ["service", "create", "-d", "--network", NETWORK, ...patient, ...health];
  await docker([...create, "--name", SERVICE, "--mode", "global", "swarmd/web:1"]);
  // A network leaves a host with its last container there, and with it the tables.
  const keeper = ["service", "create", "-d", "--network", NETWORK, "--endpoint-mode", "dnsrr"];
  await docker([...keeper, "--name", "keeper", "--mode", "global", "swarmd/web:1"]);
  const times = {
    sinceHealthyMs: [] as number[],
    inSinceKnownMs: [] as number[],
    sinceDeadMs: [] as number[],
    outSinceKnownMs: [] as number[],
    engineSaidMs: [] as number[],
  };
  const watches = await startWatching(hosts, id);
  try {
    let place = await placeOn(there);
    for (let round = 0; round < rounds; round += 1) {
      await there.docker(["kill", place.container]);
      const goneMs = await everywhere(watches, "wentAtMs", place);
      const deadMs = await timeOf(there, place, ".State.FinishedAt");
      times.sinceDeadMs.push(goneMs - deadMs);
      times.engineSaidMs.push((await saidAtMs(there, place, deadMs)) - deadMs);
      times.outSinceKnownMs.push(goneMs - (await knownAtMs(docker, place.taskId, "failed")));
      const before = place;
      place = await eventually(
        async () => {
          const now = await placeOn(there).catch(() => before);
          return now.taskId !== before.taskId && now.addr !== "" ? now : null;
        },
        { what: "another container", timeoutMs: TIMEOUT_MS },
      );
      const cameMs = await everywhere(watches, "cameAtMs", place);
      const firstCheck = "(index .State.Health.Log 0).End";
      times.sinceHealthyMs.push(cameMs - (await timeOf(there, place, firstCheck)));
      times.inSinceKnownMs.push(cameMs - (await knownAtMs(docker, place.taskId, "running")));
    }
  } finally {
    for (const watch of watches) watch.close();
  }
  return times;
}

/** When the Engine told who listens that the container has died. */
async function saidAtMs(host: LabHost, { container }: Place, deadMs: number): Promise<number> {
  const from = ["--since", String(Math.floor(deadMs / 1_000) - 1)];
  const which = ["--filter", "event=die", "--filter", `container=${container}`];
  const until = ["--until", String(Math.ceil(Date.now() / 1_000) + 1)];
  const format = ["--format", "{{.TimeNano}}"];
  const text = await host.docker(["events", ...from, ...until, ...which, ...format]);
  return Number(text.trim().split("\n")[0]) / 1e6;
}

async function timeOf(host: LabHost, { container }: Place, field: string): Promise<number> {
  const text = await host.docker(["inspect", "-f", `{{json ${field}}}`, container]);
  return Date.parse(JSON.parse(text) as string);
}

import { namespaceOf } from "../../../src/overlay/core/names.ts";
import type { LabHost } from "../../lab/host.ts";
import { run } from "../../lab/run.ts";
import { eventually } from "../../support/eventually.ts";

/** How soon another host's tables follow a container that starts, or ends by itself. */

const NETWORK = "follow";
const SERVICE = "follower";
const TIMEOUT_MS = 60_000;
const ADDRESS = /: (\d+\.\d+\.\d+\.\d+)/;

export interface FollowTimes {
  /** From the start of a container until the other host sends connections to it. */
  readonly inMs: readonly number[];
  /** From its end until the other host sends none any more. */
  readonly outMs: readonly number[];
}

interface Ends {
  /** Where the containers are. */
  readonly there: LabHost;
  /** Whose tables are looked at. */
  readonly here: LabHost;
}

/** `docker` speaks to the cluster. Clocks are one: both hosts are on this machine. */
export async function measureFollowing(
  { there, here }: Ends,
  docker: (args: readonly string[]) => Promise<string>,
  rounds: number,
): Promise<FollowTimes> {
  const id = (await docker(["network", "create", "-d", "overlay", NETWORK])).trim();
  // Containers are ended more often than a service's should.
  const patient = ["--restart-delay", "1s", "--label", "swarmd.restart.backoff=off"];
  const create = ["service", "create", "-d", "--network", NETWORK, ...patient];
  // A task on each host, so that both have the network; only the other host's is ended.
  await docker([...create, "--name", SERVICE, "--mode", "global", "swarmd/web:1"]);
  const backends = async (): Promise<readonly string[]> => {
    const space = ["nsenter", `--net=/run/netns/${namespaceOf(id)}`];
    const list = [...space, "nft", "list", "map", "ip", "sw", "be"];
    const { code, stdout } = await run(here.execCommand(list));
    return code === 0 ? stdout.split(",").flatMap(part => ADDRESS.exec(part)?.[1] ?? []) : [];
  };
  const inMs: number[] = [];
  const outMs: number[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    await eventually(async () => (await backends()).length === 2, waitFor("both backends"));
    const seenAtMs = Date.now();
    const container = (await there.docker(["ps", "-q", "--filter", `name=${SERVICE}`])).trim();
    if (round > 0) inMs.push(seenAtMs - (await timeOf(there, container, "StartedAt")));
    if (round === rounds) break;
    await there.docker(["kill", container]);
    await eventually(async () => (await backends()).length === 1, waitFor("one backend"));
    outMs.push(Date.now() - (await timeOf(there, container, "FinishedAt")));
  }
  return { inMs, outMs };
}

function waitFor(what: string): { what: string; timeoutMs: number; everyMs: number } {
  return { what, timeoutMs: TIMEOUT_MS, everyMs: 1 };
}

async function timeOf(host: LabHost, container: string, field: string): Promise<number> {
  return Date.parse(
    (await host.docker(["inspect", "-f", `{{.State.${field}}}`, container])).trim(),
  );
}

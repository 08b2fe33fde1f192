import { accessSync, constants } from "node:fs";
import { cp, mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Test } from "tap";
import type { ApiNode, ApiService, ApiTask } from "../../cli/types.ts";
import { request } from "../lab/http.ts";
import { Lab, type LabHost, type UpOptions } from "../lab/lab.ts";
import { labTag } from "../lab/plan.ts";
import type { RunOptions, RunResult } from "../lab/run.ts";
import type { Stranger, Told } from "./e2e-stranger.ts";
import { eventually } from "./eventually.ts";

/** What the end-to-end tests share: a lab of their own, its logs after a failure, and reading. */

const CHECKOUT = resolve(import.meta.dirname, "../..");
const FAILURES = join(CHECKOUT, ".lab-failures");
const LAB_TOOLS = ["dockerd", "docker", "nsenter", "unshare", "ip", "nft"];
/** Generous: the machine may be busy with other things. */
const CONVERGE_TIMEOUT_MS = 90_000;
const POLL_MS = 100;

/** Why there can be no lab here; null when there can. Never a reason when CI=true. */
export function labUnavailable(): string | null {
  if (process.env["CI"] === "true") return null;
  if (process.getuid?.() !== 0) return "needs root: hosts are namespaces of this machine";
  const missing = LAB_TOOLS.filter(tool => !isOnPath(tool));
  return missing.length === 0 ? null : `needs ${missing.join(", ")} on the PATH`;
}

function isOnPath(tool: string): boolean {
  return (process.env["PATH"] ?? "").split(":").some(dir => {
    try {
      accessSync(join(dir, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Starts a lab for one test file and takes it down at its end, whatever happens. After a failure
 * the hosts' logs are in `.lab-failures/NAME`.
 */
export async function startLab(t: Test, name: string, options: UpOptions = {}): Promise<Lab> {
  // Not of tests that run from another checkout meanwhile.
  const lab = Lab.open(`/tmp/swarmd-e2e-${labTag(CHECKOUT)}-${name}`);
  t.teardown(async () => {
    if (!t.passing()) await keepLogs(t, lab, name);
    await lab.down();
  });
  // A run that was killed could not take its lab down.
  await lab.down();
  await lab.up(options);
  return lab;
}

async function keepLogs(t: Test, lab: Lab, name: string): Promise<void> {
  const dir = join(FAILURES, name);
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  for (const host of lab.hosts()) {
    await cp(host.logPath, join(dir, `${host.name}-swarmd.log`)).catch(() => undefined);
    await cp(host.engineLogPath, join(dir, `${host.name}-dockerd.log`)).catch(() => undefined);
  }
  t.comment(`the hosts' logs are in ${dir}`);
}

/** The command line on a host, whatever its exit code. */
export function swarmd(
  host: LabHost,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return host.tryExec(["swarmd", ...args], options);
}

/** Said before anything is done. On a machine with too much to do managers miss each other. */
const NOT_NOW = /no quorum of managers confirmed/;
const NOT_NOW_TRIES = 5;

/** The same as one text, for tests of what a user reads; throws unless it exits with 0. */
export async function must(host: LabHost, ...args: string[]): Promise<string> {
  for (let left = NOT_NOW_TRIES; ; left -= 1) {
    const { code, stdout, stderr } = await swarmd(host, args);
    if (code === 0) return stdout;
    if (left > 1 && NOT_NOW.test(stderr)) continue;
    throw new Error(`${host.name}: swarmd ${args.join(" ")}: ${code}: ${stderr}`);
  }
}

const GET_SCRIPT = `
const { get } = await import("node:http");
get(process.argv[1], { timeout: 5000, agent: false }, answer => answer.pipe(process.stdout))
  .on("timeout", () => process.exit(3))
  .on("error", error => { console.error(error.code ?? error.message); process.exit(1); });
`;

/** One HTTP request from outside the cluster; exit code 0 and the body on stdout when answered. */
export function httpGet(lab: Lab, url: string): Promise<RunResult> {
  return lab.asClient([process.execPath, "--input-type=module", "-e", GET_SCRIPT, url]);
}

const STRANGER = resolve(import.meta.dirname, "e2e-stranger.ts");

/** What a cluster port says to a program outside the cluster, by method. */
export async function askAsStranger(lab: Lab, stranger: Stranger): Promise<Told> {
  const node = [process.execPath, `--import=${import.meta.resolve("tsx")}`, STRANGER];
  const result = await lab.asClient(node, { input: JSON.stringify(stranger) });
  if (result.code !== 0) throw new Error(result.stderr);
  return JSON.parse(result.stdout) as Told;
}

/** A request that must succeed. */
export async function api<T>(
  host: LabHost,
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const answer = await host.request(method, path, body, { timeoutMs: 30_000 });
  if (answer.status < 400) return answer.body as T;
  throw new Error(`${host.name}: ${method} ${path}: ${answer.status} ${answer.text.trim()}`);
}

export function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = CONVERGE_TIMEOUT_MS,
): Promise<NonNullable<T>> {
  return eventually(probe, { what, timeoutMs, everyMs: POLL_MS });
}

export function nodesOf(host: LabHost): Promise<ApiNode[]> {
  return api<ApiNode[]>(host, "GET", "/nodes");
}

export async function nodeOf(host: LabHost, hostname: string): Promise<ApiNode> {
  const nodes = await nodesOf(host);
  const found = nodes.filter(node => node.Description?.Hostname === hostname);
  const ready = found.find(node => node.Status.State === "ready") ?? found[0];
  if (ready === undefined) throw new Error(`no node ${hostname} as ${host.name} sees it`);
  return ready;
}

/** The leader as a running manager sees it. */
export async function leaderOf(
  lab: Lab,
  among: readonly LabHost[] = lab.hosts(),
): Promise<LabHost> {
  return until("a leader", async () => {
    for (const host of among) {
      if (host.role !== "manager" || (await host.pid()) === null) continue;
      const nodes = await nodesOf(host).catch(() => []);
      const leader = nodes.find(node => node.ManagerStatus?.Leader === true);
      if (leader !== undefined) return lab.host(leader.Description?.Hostname ?? "");
    }
    return null;
  });
}

/** The managers but for the leader. */
export async function followersOf(lab: Lab): Promise<LabHost[]> {
  const leader = await leaderOf(lab);
  return lab.hosts().filter(host => host.role === "manager" && host.name !== leader.name);
}

export function serviceOf(host: LabHost, name: string): Promise<ApiService> {
  return api<ApiService>(host, "GET", `/services/${name}`);
}

/** Tasks of a service, oldest first. */
export async function tasksOf(host: LabHost, service: string): Promise<ApiTask[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: [service] }));
  const tasks = await api<ApiTask[]>(host, "GET", `/tasks?filters=${filters}`);
  return [...tasks].sort((a, b) => Date.parse(a.CreatedAt) - Date.parse(b.CreatedAt));
}

/** Tasks that run and shall run. */
export async function runningOf(host: LabHost, service: string): Promise<ApiTask[]> {
  const tasks = await tasksOf(host, service);
  return tasks.filter(task => task.Status.State === "running" && task.DesiredState === "running");
}

/** Waits until just `count` tasks run and no other shall; returns them. */
export function untilRunning(host: LabHost, service: string, count: number): Promise<ApiTask[]> {
  return until(`${count} running tasks of ${service}`, async () => {
    const wanted = (await tasksOf(host, service)).filter(task => task.DesiredState === "running");
    const running = wanted.filter(task => task.Status.State === "running");
    return running.length === count && wanted.length === count ? running : null;
  });
}

export interface Container {
  readonly id: string;
  readonly host: string;
  readonly name: string;
  readonly startedAt: string;
  readonly running: boolean;
  readonly restarts: number;
  readonly labels: Readonly<Record<string, string>>;
}

interface Inspected {
  readonly Id: string;
  readonly Name: string;
  readonly RestartCount: number;
  readonly State: { readonly StartedAt: string; readonly Running: boolean };
  readonly Config: { readonly Labels: Readonly<Record<string, string>> };
}

/** Every swarm container on a host, ended ones too, from its Engine. */
export async function containersOf(host: LabHost): Promise<Container[]> {
  const get = async <T>(path: string): Promise<T | null> => {
    // An Engine that is taking a container down says nothing of it until that is done.
    const answer = await request(host.dockerSocketPath, "GET", path, undefined, {
      timeoutMs: CONVERGE_TIMEOUT_MS,
    });
    if (answer.status === 404) return null;
    if (answer.status !== 200) throw new Error(`${host.name}: ${path}: ${answer.text}`);
    return answer.body as T;
  };
  const list = (await get<{ readonly Id: string }[]>("/containers/json?all=1")) ?? [];
  const containers: Container[] = [];
  for (const { Id } of list) {
    const found = await get<Inspected>(`/containers/${Id}/json`);
    if (found?.Config.Labels["com.docker.swarm.task.id"] === undefined) continue;
    containers.push({
      id: Id,
      host: host.name,
      name: found.Name.slice(1),
      startedAt: found.State.StartedAt,
      running: found.State.Running,
      restarts: found.RestartCount,
      labels: found.Config.Labels,
    });
  }
  return containers;
}

/** The running containers of these hosts. */
export async function census(hosts: readonly LabHost[]): Promise<Container[]> {
  const all = await Promise.all(hosts.map(containersOf));
  return all.flat().filter(container => container.running);
}

/** What has happened to containers since: empty when each still runs, started when it was then. */
export async function disturbances(
  lab: Lab,
  before: readonly Container[],
): Promise<readonly string[]> {
  const hosts = lab.hosts().filter(host => before.some(({ host: name }) => name === host.name));
  const now = new Map((await census(hosts)).map(container => [container.id, container]));
  return before.flatMap(({ id, name, host, startedAt, restarts }) => {
    const after = now.get(id);
    if (after === undefined) return [`${name} on ${host} does not run any more`];
    const same = after.startedAt === startedAt && after.restarts === restarts;
    return same ? [] : [`${name} on ${host} was started again at ${after.startedAt}`];
  });
}

/** Words of a message, whatever the white space between them. */
export function words(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** Where tasks are, sorted; `names` are hosts' by node id. */
export function hostnames(tasks: readonly ApiTask[], names: ReadonlyMap<string, string>): string[] {
  return tasks.map(task => names.get(task.NodeID ?? "") ?? "none").sort();
}

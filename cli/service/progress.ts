import { modeKind, replicasOf } from "../../src/model/service-spec.ts";
import { isTerminal, taskStateOrder } from "../../src/model/task-state.ts";
import { type ApiClient, filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import type { ApiNode, ApiService, ApiTask } from "../types.ts";

const POLL_MS = 200;
const NS_PER_MS = 1e6;
const DEFAULT_MONITOR_NS = 5e9;
const MAX_SHOWN_SLOTS = 20;
const BAR_CHARS = 50;

/** States shown on the way to RUNNING, each one step of the bar. */
const STEPS = [
  "new",
  "pending",
  "assigned",
  "accepted",
  "preparing",
  "ready",
  "starting",
  "running",
];

interface Snapshot {
  readonly service: ApiService;
  readonly tasks: readonly ApiTask[];
  readonly nodes: readonly ApiNode[];
}

interface Slots {
  /** Newest task of each slot (or node), in order. */
  readonly lines: readonly (readonly [string, ApiTask | undefined])[];
  readonly wanted: number;
  readonly done: number;
}

async function read(client: ApiClient, serviceId: string): Promise<Snapshot> {
  const filters = filtersQuery([`service=${serviceId}`, "_up-to-date=true"]);
  const [service, tasks, nodes] = await Promise.all([
    client.get<ApiService>(`/services/${serviceId}`, { insertDefaults: false }),
    client.get<ApiTask[]>("/tasks", { filters }),
    client.get<ApiNode[]>("/nodes"),
  ]);
  return { service, tasks, nodes };
}

function newestBy(tasks: readonly ApiTask[], key: (task: ApiTask) => string): Map<string, ApiTask> {
  const newest = new Map<string, ApiTask>();
  for (const task of tasks) {
    const known = newest.get(key(task));
    const later = known === undefined || Date.parse(task.CreatedAt) > Date.parse(known.CreatedAt);
    if (later) newest.set(key(task), task);
  }
  return newest;
}

function slotsOf({ service, tasks, nodes }: Snapshot): Slots {
  const kind = modeKind(service.Spec);
  const iteration = service.JobStatus?.JobIteration.Index;
  const current =
    iteration === undefined ? tasks : tasks.filter(task => task.JobIteration?.Index === iteration);
  const isJob = kind === "replicated-job" || kind === "global-job";
  const isDone = (task: ApiTask | undefined): boolean =>
    isJob ? task?.Status.State === "complete" : task?.Status.State === "running";
  if (kind === "replicated" || kind === "replicated-job") {
    const wanted =
      kind === "replicated"
        ? replicasOf(service.Spec)
        : (service.Spec.Mode?.ReplicatedJob?.TotalCompletions ?? 1);
    const newest = newestBy(current, task => String(task.Slot ?? 0));
    const lines = Array.from({ length: wanted }, (_, i): [string, ApiTask | undefined] => [
      `${i + 1}/${wanted}`,
      newest.get(String(i + 1)),
    ]);
    return { lines, wanted, done: lines.filter(([, task]) => isDone(task)).length };
  }
  const live = current.filter(task => isJob || task.DesiredState === "running");
  const newest = newestBy(live, task => task.NodeID ?? "");
  const names = new Map(nodes.map(node => [node.ID, node.Description?.Hostname ?? node.ID]));
  const lines = [...newest].map(([nodeId, task]): [string, ApiTask] => [
    names.get(nodeId) ?? nodeId,
    task,
  ]);
  lines.sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
  return { lines, wanted: lines.length, done: lines.filter(([, task]) => isDone(task)).length };
}

function bar(task: ApiTask): string {
  const step = Math.max(0, STEPS.indexOf(task.Status.State)) + 1;
  const filled = Math.round((step / STEPS.length) * BAR_CHARS);
  const arrow = filled < BAR_CHARS ? ">" : "";
  return `[${"=".repeat(Math.max(0, filled - arrow.length))}${arrow}`
    .padEnd(BAR_CHARS + 1)
    .concat("]");
}

function lineOf(label: string, task: ApiTask | undefined): string {
  if (task === undefined) return `${label}:`;
  const problem = task.Status.Err ?? "";
  if (problem !== "") return `${label}: ${problem}`;
  if (isTerminal(task.Status.State) || taskStateOrder(task.Status.State) === 0) {
    return `${label}: ${task.Status.State.padEnd(9)}`;
  }
  return `${label}: ${task.Status.State.padEnd(9)} ${bar(task)}`;
}

/** Draws over itself on a terminal, prints changed lines elsewhere. */
class Screen {
  readonly #context: CliContext;
  #drawn = 0;
  #last = "";

  constructor(context: CliContext) {
    this.#context = context;
  }

  /** `verdict` closes the report. */
  show(lines: readonly string[], verdict?: string): void {
    if (!this.#context.stdoutIsTty) {
      const [headline = ""] = lines;
      if (headline !== this.#last) this.#context.out(`${headline}\n`);
      this.#last = headline;
      if (verdict !== undefined) this.#context.out(`${verdict}\n`);
      return;
    }
    this.#draw(verdict === undefined ? lines : [...lines, verdict]);
  }

  #draw(lines: readonly string[]): void {
    const width = this.#context.columns - 1;
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    const text = lines.map(line => `\x1b[2K${line.slice(0, width)}\n`).join("");
    const below = Math.max(0, this.#drawn - lines.length);
    this.#context.out(`${up}${text}${"\x1b[2K\n".repeat(below)}`);
    this.#drawn = lines.length + below;
  }
}

function headline(slots: Slots, service: ApiService): string {
  const kind = modeKind(service.Spec);
  const word = kind.endsWith("job") ? "job progress" : "overall progress";
  return `${word}: ${slots.done} out of ${slots.wanted} tasks`;
}

function ended(service: ApiService, rolledBack: boolean): CliError | "rolled-back" | null {
  const state = service.UpdateStatus?.State ?? "";
  const message = service.UpdateStatus?.Message ?? "";
  if (state === "paused") return new CliError(`service update paused: ${message}`);
  if (state === "rollback_paused") return new CliError(`service rollback paused: ${message}`);
  if (state === "rollback_completed") {
    return rolledBack ? "rolled-back" : new CliError(`service rolled back: ${message}`);
  }
  return null;
}

export interface WaitOptions {
  readonly quiet: boolean;
  /** The user asked for the rollback, so its completion is success. */
  readonly rollback?: boolean;
}

/**
 * Waits until the service has what its spec asks for and stays so for the monitor period; shows
 * the way there. Throws CliError when the update pauses or is rolled back. Ctrl-C stops watching,
 * not the work.
 */
export async function waitForService(
  context: CliContext,
  serviceId: string,
  options: WaitOptions,
): Promise<void> {
  const client = context.client();
  const screen = new Screen(context);
  const say = (lines: readonly string[], verdict?: string): void => {
    if (!options.quiet) screen.show(lines, verdict);
  };
  let convergedSinceMs: number | null = null;
  for (;;) {
    if (context.signal.aborted) {
      context.out("Operation continuing in background.\n");
      return;
    }
    const snapshot = await read(client, serviceId);
    const { service } = snapshot;
    const outcome = ended(service, options.rollback === true);
    if (outcome instanceof CliError) throw outcome;
    const slots = slotsOf(snapshot);
    const lines = [headline(slots, service)];
    if (slots.wanted <= MAX_SHOWN_SLOTS) lines.push(...slots.lines.map(line => lineOf(...line)));
    const moving = ["updating", "rollback_started"].includes(service.UpdateStatus?.State ?? "");
    const converged = slots.done === slots.wanted && !moving;
    if (!converged) convergedSinceMs = null;
    else convergedSinceMs ??= context.nowMs();
    if (convergedSinceMs !== null) {
      const job = modeKind(service.Spec).endsWith("job");
      const monitorMs = (service.Spec.UpdateConfig?.Monitor ?? DEFAULT_MONITOR_NS) / NS_PER_MS;
      const leftMs = job ? 0 : convergedSinceMs + monitorMs - context.nowMs();
      if (leftMs <= 0) {
        const verdict = job ? `job complete` : `verify: Service ${serviceId} converged`;
        say(lines, verdict);
        return;
      }
      const seconds = Math.ceil(leftMs / 1_000);
      lines.push(`verify: Waiting ${seconds} seconds to verify that tasks are stable...`);
    }
    say(lines);
    await context.sleep(POLL_MS);
  }
}

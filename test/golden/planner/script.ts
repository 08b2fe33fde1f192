import { newAllocators } from "../../../src/allocator/core/allocator.ts";
import type { IdSource } from "../../../src/base/ids.ts";
import type { Change } from "../../../src/model/change.ts";
import { DEFAULT_SWARM_SPEC } from "../../../src/model/defaults.ts";
import type { Planner } from "../../../src/model/planner.ts";
import { type Service, specRowId, type Task } from "../../../src/model/rows.ts";
import { isTerminal, isWanted, TASK_STATES } from "../../../src/model/task-state.ts";
import { constraintEnforcer } from "../../../src/orchestrator/core/constraint-enforcer.ts";
import { nodeHealthPlanner } from "../../../src/orchestrator/core/node-health.ts";
import { checkPlan } from "../../../src/orchestrator/core/plan-check.ts";
import { reaperPlanner } from "../../../src/orchestrator/core/reaper.ts";
import { servicePlanner } from "../../../src/orchestrator/core/service-planner.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { aCluster, aNetwork, aNode, aService, aStatus, createService } from "../../support/rows.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { durationMs, specOf, type Words, wordsOf } from "./spec-words.ts";

const EPOCH_MS = 1_000_000;

const ALLOCATORS = newAllocators();

const PLANNERS: ReadonlyMap<string, Planner> = new Map([
  ["plan", servicePlanner],
  ["reap", reaperPlanner],
  ["orphans", nodeHealthPlanner],
  ["enforce", constraintEnforcer],
  ["allocate", ALLOCATORS.services],
  ["admit", ALLOCATORS.tasks],
]);

/** Ids in order of creation, so that scripts are the same every time. */
class CountingIds implements IdSource {
  #next = 0;

  newId(): string {
    this.#next += 1;
    return `t${String(this.#next).padStart(6, "0")}`;
  }
}

/**
 * A cluster in a few words. Commands change it, planner commands print the changes they decided
 * (and apply them), `show` prints tasks. README.md in this folder has the commands.
 */
export class PlannerScript {
  readonly #clock = new VirtualClock(EPOCH_MS);
  readonly store = new MemoryStore(this.#clock);
  readonly #ids = new CountingIds();
  readonly #words = new Map<string, Words>();
  /** Task id -> name in scripts: service.slot#ordinal. */
  readonly #names = new Map<string, string>();
  readonly #ordinals = new Map<string, number>();
  readonly #commands: ReadonlyMap<string, (args: readonly string[]) => string[]> = new Map([
    ["node", args => this.#node(args)],
    ["rmnode", ([id = ""]) => this.#put({ op: "delete", table: "nodes", id })],
    ["history", ([limit]) => this.#history(Number(limit))],
    ["service", args => this.#service(args)],
    ["update", args => this.#update(args)],
    ["rollback", ([name = ""]) => this.#rollback(name)],
    ["rerun", ([name = ""]) => this.#rerun(name)],
    ["remove", ([name = ""]) => this.#patchService(name, { pendingDelete: true })],
    ["assign", ([name = "", nodeId = ""]) => this.#assign(name, nodeId)],
    ["status", args => this.#status(args)],
    ["run", ([name = ""]) => this.#run(name)],
    ["advance", ([time = ""]) => this.#advance(time)],
    ["show", ([name = ""]) => this.#show(name)],
  ]);

  /** Runs one line; what it prints, a line each. */
  constructor() {
    const spec = { Name: "ingress", Ingress: true };
    this.store.put({ op: "create", table: "networks", row: aNetwork({ id: "ingress", spec }) });
  }

  execute(line: string): string[] {
    const [command = "", ...args] = line.trim().split(/\s+/);
    const planner = PLANNERS.get(command);
    if (planner !== undefined) return this.#plan(planner);
    const run = this.#commands.get(command);
    if (run === undefined) throw new Error(`unknown command: ${line}`);
    return run(args);
  }

  #put(...changes: readonly Change[]): string[] {
    this.store.put(...changes);
    return [];
  }

  #node(args: readonly string[]): string[] {
    const [id = "", ...rest] = args;
    const words = wordsOf(rest);
    const labels: Record<string, string> = {};
    for (const [key, value] of words) {
      if (key.startsWith("label.")) labels[key.slice("label.".length)] = value;
    }
    const availability = ["drain", "pause"].find(word => words.has(word)) ?? "active";
    const state = ["down", "unknown", "disconnected"].find(word => words.has(word)) ?? "ready";
    const base = aNode({ id });
    const fields = {
      spec: { Role: "worker", Availability: availability as "active", Labels: labels },
      status: { state: state as "ready", message: "", addr: "10.0.0.1" },
      description: base.description && {
        ...base.description,
        resources: {
          ...base.description.resources,
          memoryBytes: Number(words.get("memory") ?? "8192") * 2 ** 20,
        },
      },
    } as const;
    if (this.store.view.table("nodes").get(id) !== undefined) {
      return this.#put({ op: "patch", table: "nodes", id, fields });
    }
    return this.#put({ op: "create", table: "nodes", row: { ...base, ...fields } });
  }

  #history(limit: number): string[] {
    const spec = {
      ...DEFAULT_SWARM_SPEC,
      Orchestration: { TaskHistoryRetentionLimit: limit },
    };
    return this.#put({ op: "create", table: "cluster", row: aCluster({ spec }) });
  }

  #service(args: readonly string[]): string[] {
    const [name = "", ...rest] = args;
    const words = wordsOf(rest);
    this.#words.set(name, words);
    const allocated = !words.has("unallocated");
    return this.#put(
      ...createService(aService({ id: name, spec: specOf(name, words), allocated })),
    );
  }

  /** As the control service does: the new spec supersedes whatever update is going on. */
  #update(args: readonly string[]): string[] {
    const [name = "", ...rest] = args;
    const words = new Map([...(this.#words.get(name) ?? []), ...wordsOf(rest)]);
    this.#words.set(name, words);
    return this.#setSpec(name, specOf(name, words), null);
  }

  #rollback(name: string): string[] {
    const { previousSpec } = this.#serviceRow(name);
    if (previousSpec === null) throw new Error(`${name} has no previous spec`);
    return this.#setSpec(name, previousSpec, {
      state: "rollback_started",
      startedAtMs: this.#clock.nowMs(),
      completedAtMs: 0,
      message: "manually requested rollback",
    });
  }

  /** A job is executed again: an update with ForceUpdate, as the control service does it. */
  #rerun(name: string): string[] {
    const { jobIteration } = this.#serviceRow(name);
    return this.#patchService(name, { jobIteration: jobIteration + 1 });
  }

  #setSpec(
    serviceId: string,
    spec: Service["spec"],
    updateStatus: Service["updateStatus"],
  ): string[] {
    const old = this.#serviceRow(serviceId);
    const specVersion = old.specVersion + 1;
    const id = specRowId(serviceId, specVersion);
    return this.#put(
      { op: "create", table: "serviceSpecs", row: { id, serviceId, specVersion, spec } },
      {
        op: "patch",
        table: "services",
        id: serviceId,
        fields: {
          spec,
          specVersion,
          previousSpec: old.spec,
          previousSpecVersion: old.specVersion,
          updateStatus,
        },
      },
    );
  }

  #patchService(id: string, fields: Partial<Omit<Service, "id">>): string[] {
    return this.#put({ op: "patch", table: "services", id, fields });
  }

  #assign(name: string, nodeId: string): string[] {
    const task = this.#taskNamed(name);
    const status = { ...task.status, state: "assigned" } as const;
    return this.#put({ op: "patch", table: "tasks", id: task.id, fields: { nodeId, status } });
  }

  #status(args: readonly string[]): string[] {
    const [name = "", text = ""] = args;
    const state = TASK_STATES.find(known => known === text);
    if (state === undefined) throw new Error(`unknown state ${text}`);
    const task = this.#taskNamed(name);
    return this.#put({ op: "taskStatus", id: task.id, status: aStatus(state) });
  }

  /** Agents do what they are told: live tasks are placed and run, the others stop. */
  #run(name: string): string[] {
    const nodes = [...this.store.view.table("nodes").all()].filter(
      node => node.status.state === "ready" && node.spec.Availability === "active",
    );
    let turn = 0;
    for (const task of this.store.view.tasksOfService(name)) {
      if (isTerminal(task.status.state)) continue;
      if (isWanted(task.desiredState) && task.nodeId === "") {
        const nodeId = nodes[turn % nodes.length]?.id;
        if (nodeId === undefined) continue;
        turn += 1;
        this.#put({ op: "patch", table: "tasks", id: task.id, fields: { nodeId } });
      }
      this.#step(task);
    }
    return [];
  }

  #step(task: Task): void {
    const node = this.store.view.table("nodes").get(task.nodeId);
    if (node?.status.state === "down") return;
    const { desiredState: desired, id } = task;
    const state = desired === "ready" ? "ready" : isWanted(desired) ? "running" : "shutdown";
    this.#put({ op: "taskStatus", id, status: aStatus(state) });
  }

  #advance(time: string): string[] {
    this.#clock.advance(durationMs(time));
    return [];
  }

  #plan(planner: Planner): string[] {
    const out: string[] = [];
    for (const key of planner.allKeys(this.store.view)) {
      const ctx = { nowMs: this.#clock.nowMs(), ids: this.#ids };
      const plan = planner.plan(this.store.view, key, ctx);
      const faults = checkPlan(this.store.view, plan.changes);
      if (faults.length > 0) throw new Error(`bad plan: ${faults.join("; ")}`);
      for (const change of plan.changes) out.push(this.#describe(change));
      for (let i = 0; i < plan.changes.length; i += MAX_CHANGES_PER_TRANSACTION) {
        this.store.put(...plan.changes.slice(i, i + MAX_CHANGES_PER_TRANSACTION));
      }
      for (const note of plan.notes) out.push(`note: ${note.text}`);
      if (plan.wakeAtMs !== null) out.push(`wake ${key} in ${seconds(plan.wakeAtMs - ctx.nowMs)}`);
      const again = planner.plan(this.store.view, key, ctx);
      if (again.changes.length > 0) {
        const more = again.changes.map(change => this.#describe(change));
        throw new Error(`planning again is not idle: ${more.join("; ")}`);
      }
    }
    return out.length === 0 ? ["nothing"] : out;
  }

  #describe(change: Change): string {
    if (change.op === "taskStatus") {
      const why = change.status.err === "" ? "" : ` (${change.status.err})`;
      return `${this.#nameOf(change.id)} is ${change.status.state}${why}`;
    }
    if (change.op === "create" && change.table === "tasks") {
      const { row } = change;
      this.#register(row);
      const delay = row.startAfterMs - this.#clock.nowMs();
      const later = row.startAfterMs === 0 ? "" : ` start in ${seconds(delay)}`;
      const on = row.nodeId === "" ? "" : ` on ${row.nodeId}`;
      return `+ ${this.#nameOf(row.id)} ${row.desiredState}${on} v${row.specVersion}${later}`;
    }
    if (change.op === "patch" && change.table === "tasks") {
      const { networks, desiredState } = change.fields;
      if (desiredState !== undefined) return `${this.#nameOf(change.id)} -> ${desiredState}`;
      const addresses = (networks ?? []).map(net => `${net.networkId} ${net.addresses.join()}`);
      return `${this.#nameOf(change.id)} gets ${addresses.join(", ")}`;
    }
    if (change.op === "patch" && change.table === "services") return this.#describeService(change);
    const id = "row" in change ? change.row.id : change.id;
    return `${change.op} ${change.table} ${change.table === "tasks" ? this.#nameOf(id) : id}`;
  }

  #describeService(change: { readonly id: string; readonly fields: Partial<Service> }): string {
    const { updateStatus, specVersion, endpoint, allocated } = change.fields;
    const parts = [change.id];
    if (specVersion !== undefined) parts.push(`v${specVersion}`);
    if (updateStatus) {
      const message = updateStatus.message.replace(/t\d{6}/g, id => this.#nameOf(id));
      parts.push(`${updateStatus.state} "${message}"`);
    }
    if (endpoint) parts.push(`ports ${endpoint.ports.map(port => port.PublishedPort).join()}`);
    if (allocated) parts.push("allocated");
    return parts.join(" ");
  }

  #show(name: string): string[] {
    const tasks = [...this.store.view.tasksOfService(name)];
    const lines = tasks.map(task => {
      const on = task.nodeId === "" ? "" : ` on ${task.nodeId}`;
      const version = `v${task.specVersion}`;
      return `${this.#nameOf(task.id)} ${version} ${task.desiredState}/${task.status.state}${on}`;
    });
    return lines.length === 0 ? ["no tasks"] : lines.sort();
  }

  #register(task: { id: string; serviceName: string; slot: number; nodeId: string }): void {
    const slot = `${task.serviceName}.${task.slot === 0 ? task.nodeId || "0" : task.slot}`;
    const ordinal = (this.#ordinals.get(slot) ?? 0) + 1;
    this.#ordinals.set(slot, ordinal);
    this.#names.set(task.id, `${slot}#${ordinal}`);
  }

  #nameOf(id: string): string {
    return this.#names.get(id) ?? id;
  }

  #serviceRow(id: string): Service {
    const row = this.store.view.table("services").get(id);
    if (row === undefined) throw new Error(`no service ${id}`);
    return row;
  }

  /** `web.1#2`, or `web.1` for the newest live one of the slot. */
  #taskNamed(name: string): Task {
    const matches = [...this.#names].filter(([id, known]) => {
      const task = this.store.view.table("tasks").get(id);
      if (task === undefined) return false;
      if (known === name) return true;
      return known.startsWith(`${name}#`) && isWanted(task.desiredState);
    });
    const task = this.store.view.table("tasks").get(matches.at(-1)?.[0] ?? "");
    if (task === undefined) throw new Error(`no task ${name}`);
    return task;
  }
}

function seconds(ms: number): string {
  return `${ms / 1000}s`;
}

/** Runs a script: lines that begin with spaces are expected output and are made anew. */
export function runScript(text: string): string {
  const script = new PlannerScript();
  const out: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("  ")) continue;
    out.push(line);
    if (line === "" || line.startsWith("#")) continue;
    for (const printed of script.execute(line)) out.push(`  ${printed}`);
  }
  return out.join("\n");
}

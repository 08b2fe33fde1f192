import { assert } from "../../base/errors.ts";
import type { Change } from "../../model/change.ts";
import { type Service, specRowId, type Task } from "../../model/rows.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, type DesiredState, isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { earliest, type Plan, type PlanContext, type PlanNote } from "./planner.ts";

/** The tasks of one replica: those of a slot number, or of a node for global services. */
export interface Slot {
  /** Slot number in decimal, or node id. */
  readonly key: string;
  readonly slot: number;
  /** Preset node of global services, else empty. */
  readonly nodeId: string;
  /** Oldest first; without those to be removed. */
  readonly tasks: readonly Task[];
}

export interface NewTask {
  readonly slot: number;
  readonly nodeId: string;
  readonly desiredState: DesiredState;
  readonly startAfterMs: number;
}

/** Creation order; the id decides between tasks of one transaction. */
export function compareByAge(a: Task, b: Task): number {
  return a.createdAtMs - b.createdAtMs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** How tasks group into slots. */
export type SlotKind = "number" | "node";

/**
 * A service and its tasks as they will be when the plan is applied. The stages of planning change
 * it in turn, each seeing what those before decided; `finish` gives the difference as changes.
 */
export class ServiceDraft {
  readonly view: StateView;
  readonly nowMs: number;
  readonly kind: SlotKind;
  readonly #ctx: PlanContext;
  readonly #original: Service;
  readonly #tasks = new Map<string, Task>();
  readonly #originals = new Map<string, Task>();
  readonly #touched = new Set<string>();
  readonly #specRows: Change[] = [];
  readonly #notes: PlanNote[] = [];
  readonly #slots = new Map<string, Slot>();
  #order: readonly string[] | null = null;
  #service: Service;
  #wakeAtMs: number | null = null;

  constructor(view: StateView, service: Service, ctx: PlanContext, kind: SlotKind) {
    this.view = view;
    this.nowMs = ctx.nowMs;
    this.kind = kind;
    this.#ctx = ctx;
    this.#original = service;
    this.#service = service;
    for (const task of view.tasksOfService(service.id)) {
      this.#tasks.set(task.id, task);
      this.#originals.set(task.id, task);
    }
    groupBySlot(this.#tasks.values(), kind, this.#slots);
  }

  get service(): Service {
    return this.#service;
  }

  get tasks(): Iterable<Task> {
    return this.#tasks.values();
  }

  /** Slots with any task as of now, those to be removed left out, by slot number or node id. */
  slots(): readonly Slot[] {
    this.#order ??= [...this.#slots.values()].sort(compareSlots).map(slot => slot.key);
    return this.#order.flatMap(key => this.#slots.get(key) ?? []);
  }

  slot(key: string): Slot | undefined {
    return this.#slots.get(key);
  }

  /** Moves desired state forward; asking for less is nothing. */
  setDesired(task: Task, desiredState: DesiredState): void {
    const current = this.#tasks.get(task.id);
    assert(current !== undefined, `task ${task.id} is not of service ${this.#service.id}`);
    if (compareTaskStates(desiredState, current.desiredState) <= 0) return;
    if (isWanted(desiredState) || this.#originals.has(task.id)) {
      this.#put({ ...current, desiredState });
    } else this.#drop(current);
  }

  create(task: NewTask): Task {
    const { id: serviceId, spec, specVersion, jobIteration } = this.#service;
    const row: Task = {
      id: this.#ctx.ids.newId(),
      version: 0,
      createdAtMs: this.nowMs,
      updatedAtMs: this.nowMs,
      serviceId,
      serviceName: spec.Name ?? "",
      specVersion,
      ...task,
      status: {
        state: "new",
        timestampMs: this.nowMs,
        message: "created",
        err: "",
        containerId: "",
        pid: 0,
        exitCode: 0,
        ports: [],
      },
      runningSinceMs: 0,
      endedAtMs: 0,
      jobIteration,
      assignedGeneric: [],
      networks: [],
    };
    this.#put(row);
    return row;
  }

  setService(fields: Partial<Service>): void {
    this.#service = { ...this.#service, ...fields };
  }

  /** A new version of the spec, stored as a version row of its own. */
  setSpec(spec: ServiceSpec, fields: Partial<Service>): void {
    const specVersion = this.#service.specVersion + 1;
    const serviceId = this.#service.id;
    this.setService({ ...fields, spec, specVersion });
    this.#specRows.push({
      op: "create",
      table: "serviceSpecs",
      row: { id: specRowId(serviceId, specVersion), serviceId, specVersion, spec },
    });
  }

  wakeAt(atMs: number): void {
    if (Number.isFinite(atMs)) this.#wakeAtMs = earliest(this.#wakeAtMs, atMs);
  }

  note(kind: PlanNote["kind"], id: string, text: string): void {
    this.#notes.push({ kind, id, text });
  }

  finish(): Plan {
    const changes: Change[] = [...this.#specRows, ...this.#serviceChange()];
    for (const id of this.#touched) {
      const task = this.#tasks.get(id);
      if (task === undefined) continue;
      if (!this.#originals.has(id)) changes.push({ op: "create", table: "tasks", row: task });
      else {
        const { desiredState } = task;
        changes.push({ op: "patch", table: "tasks", id, fields: { desiredState } });
      }
    }
    return { changes, wakeAtMs: this.#wakeAtMs, notes: this.#notes };
  }

  #serviceChange(): Change[] {
    if (this.#service === this.#original) return [];
    const { id, version, createdAtMs, updatedAtMs, ...fields } = this.#service;
    const changed = Object.fromEntries(
      Object.entries(fields).filter(
        ([key, value]) => !Object.is(value, field(this.#original, key)),
      ),
    );
    if (Object.keys(changed).length === 0) return [];
    const ifVersion = this.#original.version;
    return [{ op: "patch", table: "services", id, fields: changed, ifVersion }];
  }

  #put(task: Task): void {
    this.#tasks.set(task.id, task);
    this.#touched.add(task.id);
    this.#reslot(task, task.desiredState !== "remove");
  }

  /** A later stage does not want what an earlier one created: it never comes to be. */
  #drop(task: Task): void {
    this.#tasks.delete(task.id);
    this.#touched.delete(task.id);
    this.#reslot(task, false);
  }

  #reslot(task: Task, stays: boolean): void {
    const key = slotKey(task, this.kind);
    const old = this.#slots.get(key);
    const others = old?.tasks.filter(other => other.id !== task.id) ?? [];
    const tasks = stays ? [...others, task].sort(compareByAge) : others;
    if (tasks.length === 0) this.#slots.delete(key);
    else this.#slots.set(key, newSlot(key, tasks, this.kind));
    if (old === undefined) this.#order = null;
  }
}

function field(row: Service, key: string): unknown {
  return new Map<string, unknown>(Object.entries(row)).get(key);
}

function slotKey(task: Task, kind: SlotKind): string {
  return kind === "number" ? String(task.slot) : task.nodeId;
}

function newSlot(key: string, tasks: readonly Task[], kind: SlotKind): Slot {
  if (kind === "number") return { key, slot: Number(key), nodeId: "", tasks };
  return { key, slot: 0, nodeId: key, tasks };
}

function compareSlots(a: Slot, b: Slot): number {
  return a.slot - b.slot || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
}

/** Adds the slots of `tasks` to `into`. */
export function groupBySlot(tasks: Iterable<Task>, kind: SlotKind, into: Map<string, Slot>): void {
  const groups = new Map<string, Task[]>();
  for (const task of tasks) {
    if (task.desiredState === "remove") continue;
    const key = slotKey(task, kind);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
  }
  for (const [key, group] of groups) {
    if (group.length > 1) group.sort(compareByAge);
    into.set(key, newSlot(key, group, kind));
  }
}

/** The tasks of a slot that the orchestrator wants alive. */
export function wantedOf(slot: Slot | undefined): Task[] {
  return slot === undefined ? [] : slot.tasks.filter(task => isWanted(task.desiredState));
}

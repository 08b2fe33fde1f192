import { assert } from "../../base/errors.ts";
import type { Change } from "../../model/change.ts";
import { earliest, type Plan, type PlanContext, type PlanNote } from "../../model/planner.ts";
import { type Service, specRowId, type Task } from "../../model/rows.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, type DesiredState, isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";

/** The tasks of one replica: those of a slot number, or of a node for global services. */
export interface Slot {
  /** Slot number in decimal, or node id. */
  readonly key: string;
  readonly slot: number;
  /** Preset node of global services, else empty. */
  readonly nodeId: string;
  /** Oldest first; without those to be removed. */
  readonly tasks: readonly Task[];
  /** Those of them that the orchestrator wants alive. */
  readonly wanted: readonly Task[];
}

export interface NewTask {
  readonly slot: number;
  readonly nodeId: string;
  readonly desiredState: DesiredState;
  readonly startAfterMs: number;
  readonly fastFailures?: number;
}

/**
 * The order in which tasks of a slot came to be. Spec versions only go up, so they come first: two
 * leaders' clocks may differ. Of two made in one millisecond the one that ended first is the older.
 */
export function compareByAge(a: Task, b: Task): number {
  return (
    a.specVersion - b.specVersion ||
    a.createdAtMs - b.createdAtMs ||
    compareEnds(a.endedAtMs, b.endedAtMs) ||
    (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  );
}

/** 0 = not ended: last. */
function compareEnds(a: number, b: number): number {
  if (a === b) return 0;
  if (a === 0 || b === 0) return a === 0 ? 1 : -1;
  return a - b;
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
  readonly #before: Service;
  /** New tasks and changed ones, in order of first change. */
  readonly #changed = new Map<string, Task>();
  readonly #specRows: Change[] = [];
  readonly #notes: PlanNote[] = [];
  readonly #slots = new Map<string, Slot>();
  #list: readonly Slot[] | null = null;
  #service: Service;
  #wakeAtMs: number | null = null;

  constructor(view: StateView, service: Service, ctx: PlanContext, kind: SlotKind) {
    this.view = view;
    this.nowMs = ctx.nowMs;
    this.kind = kind;
    this.#ctx = ctx;
    this.#before = service;
    this.#service = service;
    groupBySlot(view.tasksOfService(service.id), kind, this.#slots);
  }

  get service(): Service {
    return this.#service;
  }

  /** Slots with any task as of now, those to be removed left out, by slot number or node id. */
  slots(): readonly Slot[] {
    this.#list ??= [...this.#slots.values()].sort(compareSlots);
    return this.#list;
  }

  slot(key: string): Slot | undefined {
    return this.#slots.get(key);
  }

  /** Moves desired state forward; asking for less is nothing. */
  setDesired(task: Task, desiredState: DesiredState): void {
    const current = this.#changed.get(task.id) ?? this.#original(task.id);
    assert(current !== undefined, `task ${task.id} is not of service ${this.#service.id}`);
    if (compareTaskStates(desiredState, current.desiredState) <= 0) return;
    if (isWanted(desiredState) || this.#original(task.id) !== undefined) {
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
    for (const [id, task] of this.#changed) {
      if (this.#original(id) === undefined)
        changes.push({ op: "create", table: "tasks", row: task });
      else {
        const { desiredState } = task;
        changes.push({ op: "patch", table: "tasks", id, fields: { desiredState } });
      }
    }
    return { changes, wakeAtMs: this.#wakeAtMs, notes: this.#notes };
  }

  #serviceChange(): Change[] {
    if (this.#service === this.#before) return [];
    const { id, version, createdAtMs, updatedAtMs, ...fields } = this.#service;
    const changed = Object.fromEntries(
      Object.entries(fields).filter(([key, value]) => !Object.is(value, field(this.#before, key))),
    );
    if (Object.keys(changed).length === 0) return [];
    const ifVersion = this.#before.version;
    return [{ op: "patch", table: "services", id, fields: changed, ifVersion }];
  }

  #original(id: string): Task | undefined {
    return this.view.table("tasks").get(id);
  }

  #put(task: Task): void {
    this.#changed.set(task.id, task);
    this.#reslot(task, task.desiredState !== "remove");
  }

  /** A later stage does not want what an earlier one created: it never comes to be. */
  #drop(task: Task): void {
    this.#changed.delete(task.id);
    this.#reslot(task, false);
  }

  #reslot(task: Task, stays: boolean): void {
    const key = slotKey(task, this.kind);
    const old = this.#slots.get(key);
    const others = old?.tasks.filter(other => other.id !== task.id) ?? [];
    const tasks = stays ? [...others, task].sort(compareByAge) : others;
    if (tasks.length === 0) this.#slots.delete(key);
    else this.#slots.set(key, newSlot(key, tasks, this.kind));
    this.#list = null;
  }
}

function field(row: Service, key: string): unknown {
  return new Map<string, unknown>(Object.entries(row)).get(key);
}

function slotKey(task: Task, kind: SlotKind): string {
  return kind === "number" ? String(task.slot) : task.nodeId;
}

function newSlot(key: string, tasks: readonly Task[], kind: SlotKind): Slot {
  const wanted = tasks.filter(task => isWanted(task.desiredState));
  if (kind === "number") return { key, slot: Number(key), nodeId: "", tasks, wanted };
  return { key, slot: 0, nodeId: key, tasks, wanted };
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
export function wantedOf(slot: Slot | undefined): readonly Task[] {
  return slot?.wanted ?? [];
}

import type { Change, RowEvent } from "../../model/change.ts";
import { canonicalIp, familyOf } from "../../model/ip.ts";
import { withoutPrefix } from "../../model/overlay.ts";
import { EMPTY_PLAN, type Plan, type PlanContext, type Planner } from "../../model/planner.ts";
import type { NetworkAttachment, Service, Task, TaskStatus, VirtualIp } from "../../model/rows.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../model/task-state.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { AddressBook } from "./address-book.ts";
import { type FixedAddress, fixedMac, fixedOf } from "./fixed-addresses.ts";
import { type Allocation, attachmentsOf, familiesOf, usesVips, vipFamiliesOf } from "./networks.ts";
import { allocatePorts } from "./ports.ts";

/** How soon what got no ports or addresses is tried again when nothing else happens. */
const RETRY_MS = 30_000;

/** The allocator's planners. They share the book of addresses. */
export interface Allocators {
  readonly services: Planner;
  readonly tasks: Planner;
  readonly attachments: Planner;
}

/** For one term of leadership. The service's planner comes before the task's in the loop. */
export function newAllocators(): Allocators {
  const book = new AddressBook();
  return {
    services: new ServiceAllocator(book),
    tasks: new TaskAllocator(book),
    attachments: attachmentAllocator(book),
  };
}

/**
 * Gives services what their spec asks of the cluster: published ports, and a virtual address on
 * each of their networks. Until it has, `allocated` is false and the tasks stay NEW. Keys are
 * service ids; plans read each other's ports, so one follows the other.
 */
class ServiceAllocator implements Planner {
  readonly name = "service-allocator";
  readonly #book: AddressBook;

  constructor(book: AddressBook) {
    this.#book = book;
  }

  /** The service itself; and those that wait, when somebody lets go of ports or addresses. */
  keysOf(event: RowEvent, view: StateView): Iterable<string> {
    const freed = this.#book.observe(event, view);
    if (event.table !== "services") return freed ? idsOf(unallocated(view)) : [];
    const { before, after } = event;
    if (after !== null && !after.allocated && !after.pendingDelete) return [event.id];
    return freed || letsGoOfPorts(before, after) ? idsOf(unallocated(view)) : [];
  }

  allKeys(view: StateView): Iterable<string> {
    this.#book.reset(view);
    return idsOf(unallocated(view));
  }

  plan(view: StateView, key: string, ctx: PlanContext): Plan {
    const service = view.table("services").get(key);
    if (service === undefined || service.allocated || service.pendingDelete) return EMPTY_PLAN;
    const ports = allocatePorts(view, service);
    if (!ports.ok) return refused(key, ports.message, ctx);
    const virtualIps = this.#virtualIps(view, service);
    if (!virtualIps.ok) return refused(key, virtualIps.message, ctx);
    const spec = service.spec.EndpointSpec ?? {};
    const endpoint = { spec, ports: ports.ports, virtualIps: virtualIps.value };
    const fields = { endpoint, allocated: true };
    const ifVersion = service.version;
    const change: Change = { op: "patch", table: "services", id: key, fields, ifVersion };
    return { changes: [change], wakeAtMs: null, notes: [] };
  }

  /** What it has on networks that it stays on, then the new ones in order of its spec. */
  #virtualIps(view: StateView, service: Service): Allocation<Service["endpoint"]["virtualIps"]> {
    const wanted = attachmentsOf(view, service.spec);
    if (!wanted.ok) return wanted;
    const ids = usesVips(service.spec) ? wanted.value.map(({ networkId }) => networkId) : [];
    const had = service.endpoint.virtualIps;
    this.#book.keepNetworks(service.id, new Set([...ids, ...had.map(vip => vip.networkId)]));
    const fixed = fixedOf(view, service.spec).filter(({ isVip }) => isVip);
    const value = had.filter(vip => ids.includes(vip.networkId) && isAsFixed(vip, fixed));
    for (const networkId of ids) {
      for (const family of vipFamiliesOf(view.table("networks").get(networkId))) {
        const isOf = (one: { readonly networkId: string }): boolean => one.networkId === networkId;
        if (value.some(vip => isOf(vip) && familyOf(vip.addr) === family)) continue;
        const exactly = fixed.find(one => isOf(one) && one.family === family)?.address;
        const wish = { networkId, family, exactly, serviceId: service.id };
        const taken = this.#book.take(view, service.id, wish);
        if (!taken.ok) return taken;
        value.push({ networkId, addr: taken.value });
      }
    }
    return { ok: true, value };
  }
}

/** An address that it had stays as long as no label asks for another one. */
function isAsFixed(vip: VirtualIp, fixed: readonly FixedAddress[]): boolean {
  const rule = fixed.find(
    one => one.networkId === vip.networkId && one.family === familyOf(vip.addr),
  );
  return rule === undefined || canonicalIp(withoutPrefix(vip.addr)) === rule.address;
}

function idsOf(services: readonly Service[]): string[] {
  return services.map(service => service.id);
}

function refused(key: string, text: string, ctx: PlanContext): Plan {
  const notes = [{ kind: "service", id: key, text } as const];
  return { changes: [], wakeAtMs: ctx.nowMs + RETRY_MS, notes };
}

function unallocated(view: StateView): Service[] {
  return [...view.table("services").all()].filter(
    service => !service.allocated && !service.pendingDelete,
  );
}

function letsGoOfPorts(before: Service | null, after: Service | null): boolean {
  if (before === null || before.endpoint.ports.length === 0) return false;
  return after === null || after.pendingDelete || after.endpoint !== before.endpoint;
}

/**
 * Gives the tasks of allocated services an address on each of their networks and moves them from
 * NEW to PENDING, where the scheduler takes them. Keys are service ids.
 */
class TaskAllocator implements Planner {
  readonly name = "task-allocator";
  readonly keysAreIndependent = true;
  readonly #book: AddressBook;
  /** Services with tasks that got no address. */
  readonly #waiting = new Set<string>();

  constructor(book: AddressBook) {
    this.#book = book;
  }

  keysOf(event: RowEvent): Iterable<string> {
    if (event.table === "networks") return [...this.#waiting];
    if (event.table === "services") {
      const opened = event.after?.allocated === true && event.before?.allocated !== true;
      return opened ? [event.id] : event.after === null ? [...this.#waiting] : [];
    }
    if (event.table !== "tasks") return [];
    const { before, after } = event;
    if (after === null || (before !== null && mayFreeAddresses(before, after))) {
      return [...this.#waiting];
    }
    return before === null && after.serviceId !== "" ? [after.serviceId] : [];
  }

  allKeys(view: StateView): Iterable<string> {
    this.#book.reset(view);
    this.#waiting.clear();
    return [...view.table("services").all()].map(service => service.id);
  }

  plan(view: StateView, key: string, ctx: PlanContext): Plan {
    this.#waiting.delete(key);
    const service = view.table("services").get(key);
    if (service === undefined || !service.allocated) return EMPTY_PLAN;
    const changes = view
      .tasksOfService(key)
      .filter(isNew)
      .flatMap(task => this.#admit(view, task, ctx.nowMs));
    if (!this.#waiting.has(key)) {
      return changes.length === 0 ? EMPTY_PLAN : { changes, wakeAtMs: null, notes: [] };
    }
    return { changes, wakeAtMs: ctx.nowMs + RETRY_MS, notes: [] };
  }

  #admit(view: StateView, task: Task, nowMs: number): Change[] {
    const vacated = this.#vacate(view, task);
    const networks = this.#attach(view, task);
    if (!networks.ok) {
      this.#waiting.add(task.serviceId);
      if (task.status.err === networks.message) return vacated;
      return [...vacated, statusChange(task, { timestampMs: nowMs, err: networks.message })];
    }
    const message = "pending task scheduling";
    const admitted = statusChange(task, { state: "pending", timestampMs: nowMs, message, err: "" });
    if (networks.value.length === 0 || task.networks.length > 0) return [...vacated, admitted];
    const fields = { networks: networks.value };
    return [...vacated, { op: "patch", table: "tasks", id: task.id, fields }, admitted];
  }

  /**
   * An address that is fixed goes with the service: from a task that is to end, on a node that
   * cannot say when it has, to its successor.
   */
  #vacate(view: StateView, task: Task): Change[] {
    const spec = specOfTask(view, task)?.spec;
    const fixed = spec === undefined ? [] : fixedOf(view, spec);
    if (fixed.length === 0) return [];
    const changes: Change[] = [];
    for (const other of view.tasksOfService(task.serviceId)) {
      if (other.id === task.id || !isLost(view, other)) continue;
      const isFixed = (networkId: string, cidr: string): boolean =>
        fixed.some(one => one.networkId === networkId && one.address === withoutPrefix(cidr));
      const networks = other.networks.map(attachment => ({
        ...attachment,
        addresses: attachment.addresses.filter(cidr => !isFixed(attachment.networkId, cidr)),
      }));
      const gone = other.networks.flatMap(({ networkId, addresses }) =>
        addresses.filter(cidr => isFixed(networkId, cidr)).map(cidr => ({ networkId, cidr })),
      );
      for (const { networkId, cidr } of gone) this.#book.takeFrom(other.id, networkId, cidr);
      if (gone.length === 0) continue;
      changes.push({ op: "patch", table: "tasks", id: other.id, fields: { networks } });
    }
    return changes;
  }

  #attach(view: StateView, task: Task): Allocation<readonly NetworkAttachment[]> {
    const spec = specOfTask(view, task)?.spec;
    if (task.networks.length > 0 || spec === undefined) return { ok: true, value: task.networks };
    const wanted = attachmentsOf(view, spec);
    if (!wanted.ok) return wanted;
    const fixed = fixedOf(view, spec).filter(({ isVip }) => !isVip);
    const value: NetworkAttachment[] = [];
    for (const { networkId, aliases } of wanted.value) {
      const addresses: string[] = [];
      for (const family of familiesOf(view.table("networks").get(networkId))) {
        const isIt = (one: FixedAddress): boolean =>
          one.networkId === networkId && one.family === family;
        const exactly = fixed.find(isIt)?.address;
        const wish = { networkId, family, exactly, serviceId: task.serviceId };
        const taken = this.#book.take(view, task.id, wish);
        if (!taken.ok) return taken;
        addresses.push(taken.value);
      }
      const mac = fixedMac(view, spec, networkId);
      value.push({ networkId, addresses, aliases, ...(mac !== undefined && { mac }) });
    }
    return { ok: true, value };
  }
}

/** It is to end, and its node does not answer: when it has ended nobody can say. */
function isLost(view: StateView, task: Task): boolean {
  if (isWanted(task.desiredState) || isTerminal(task.status.state)) return false;
  const node = view.table("nodes").get(task.nodeId);
  return node === undefined ? task.nodeId !== "" : node.status.state === "down";
}

function mayFreeAddresses(before: Task, after: Task): boolean {
  return before.networks.length > 0 && before.status.state !== after.status.state;
}

function isNew(task: Task): boolean {
  return isWanted(task.desiredState) && compareTaskStates(task.status.state, "pending") < 0;
}

function statusChange(task: Task, fields: Partial<TaskStatus>): Change {
  return { op: "taskStatus", id: task.id, status: { ...task.status, ...fields } };
}

/**
 * Gives plain containers on attachable networks their address: rows of tasks without a service.
 * Who asked waits for it; without a free one the row goes again with that request.
 */
function attachmentAllocator(book: AddressBook): Planner {
  return {
    name: "attachment-allocator",
    keysOf: event =>
      event.table === "tasks" && event.after !== null && lacksAddress(event.after)
        ? [event.id]
        : [],
    allKeys: view => [...view.table("tasks").all()].filter(lacksAddress).map(task => task.id),
    plan: (view, key) => {
      const task = view.table("tasks").get(key);
      const [attachment] = task?.networks ?? [];
      if (task === undefined || attachment === undefined || !lacksAddress(task)) return EMPTY_PLAN;
      const { networkId, asked } = attachment;
      const family = asked?.family ?? "ipv4";
      const taken = book.take(view, task.id, { networkId, family, exactly: asked?.address });
      if (!taken.ok) return givenUp(task, taken.message);
      const fields = { networks: [{ ...attachment, addresses: [taken.value] }] };
      const change: Change = { op: "patch", table: "tasks", id: key, fields };
      return { changes: [change], wakeAtMs: null, notes: [] };
    },
  };
}

/** Who asked reads why, and takes the row away. */
function givenUp(task: Task, err: string): Plan {
  if (task.status.err === err) return EMPTY_PLAN;
  return { changes: [statusChange(task, { err })], wakeAtMs: null, notes: [] };
}

function lacksAddress(task: Task): boolean {
  return task.serviceId === "" && task.networks[0]?.addresses.length === 0;
}

import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import { parseBytes, parseCpus } from "../../src/model/resources.ts";
import type { Availability, Node, NodeRole, NodeState } from "../../src/model/rows.ts";
import type { GenericResourceSpec, PortConfig, ServiceSpec } from "../../src/model/service-spec.ts";
import { isTerminal, TASK_STATES, type TaskState } from "../../src/model/task-state.ts";
import { SCHEDULER_KEY, Scheduler } from "../../src/scheduler/core/scheduler.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { type Directive, valuesOf } from "./datadriven.ts";

/** A plan that has not settled after so many rounds never will. */
const ROUNDS_MAX = 100;
const MS_PER_S = 1000;

type Command = (directive: Directive) => string;

/**
 * A cluster in words, and the scheduler planning on it. Commands are described in
 * test/golden/scheduler/README.md.
 */
export class SchedulerScript {
  readonly #clock = new VirtualClock();
  readonly #store = new MemoryStore(this.#clock);
  readonly #scheduler = new Scheduler();
  readonly #ids = new RngIdSource(new SeededRng(1));
  readonly #commands: Readonly<Record<string, Command>> = {
    node: directive => this.#node(directive),
    "node-rm": directive => this.#put({ op: "delete", table: "nodes", id: nameOf(directive) }),
    service: directive => this.#service(directive),
    task: directive => this.#task(directive),
    advance: directive => this.#advance(directive),
    plan: () => this.#plan(),
    counts: () => this.#counts(),
  };

  constructor() {
    this.#store.onCommit(({ events }) => {
      for (const event of events) this.#scheduler.keysOf(event, this.#store.view);
    });
  }

  run(directive: Directive): string {
    const command = this.#commands[directive.command];
    if (command === undefined) throw new Error(`unknown command ${directive.command}`);
    return command(directive);
  }

  #put(...changes: readonly Change[]): string {
    this.#store.put(...changes);
    return "";
  }

  #node(directive: Directive): string {
    const id = nameOf(directive);
    const known = this.#store.view.table("nodes").get(id);
    const row = withNodeArgs(known ?? aNode({ id }), directive);
    return known === undefined
      ? this.#put({ op: "create", table: "nodes", row })
      : this.#put({ op: "update", table: "nodes", row, ifVersion: known.version });
  }

  #service(directive: Directive): string {
    const id = nameOf(directive);
    const spec = serviceSpec(id, directive);
    const known = this.#store.view.table("services").get(id);
    const specVersion = (known?.specVersion ?? 0) + 1;
    const stored = createService(aService({ id, spec, specVersion }));
    this.#put(
      ...(known === undefined
        ? stored
        : stored.filter(change => "table" in change && change.table === "serviceSpecs")),
    );
    const on = valuesOf(directive, "global");
    const replicas = Number(valuesOf(directive, "replicas")[0] ?? (on.length > 0 ? 0 : 1));
    const nodeIds = [...on, ...Array<string>(replicas).fill("")];
    return this.#put(
      ...nodeIds.map((nodeId, i): Change => {
        const slot = nodeId === "" ? i + 1 : 0;
        const row = aTask({
          id: specVersion > 1 ? `${id}.${i + 1}.v${specVersion}` : `${id}.${i + 1}`,
          serviceId: id,
          serviceName: id,
          specVersion,
          slot,
          nodeId,
          status: aStatus("pending", { message: "pending task scheduling" }),
        });
        return { op: "create", table: "tasks", row };
      }),
    );
  }

  #task(directive: Directive): string {
    const id = nameOf(directive);
    const [state] = valuesOf(directive, "state");
    const [on = ""] = valuesOf(directive, "on");
    const known = this.#store.view.table("tasks").get(id);
    if (known === undefined) {
      const [serviceId = ""] = id.split(".");
      const status = aStatus(stateOf(state), { timestampMs: this.#clock.nowMs() });
      const row = aTask({ id, serviceId, nodeId: on, status, desiredState: "shutdown" });
      return this.#put({ op: "create", table: "tasks", row });
    }
    const status = { ...known.status, state: stateOf(state), timestampMs: this.#clock.nowMs() };
    const ended = isTerminal(status.state) ? { desiredState: "shutdown" as const } : {};
    return this.#put({ op: "patch", table: "tasks", id, fields: { status, ...ended } });
  }

  #advance(directive: Directive): string {
    this.#clock.advance(Number.parseFloat(nameOf(directive)) * MS_PER_S);
    return "";
  }

  /** Plans and applies until nothing is left to do; what changed, and when to look again. */
  #plan(): string {
    const lines: string[] = [];
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const nowMs = this.#clock.nowMs();
      const ctx = { nowMs, ids: this.#ids };
      const plan = this.#scheduler.plan(this.#store.view, SCHEDULER_KEY, ctx);
      for (const change of plan.changes) lines.push(describe(change));
      if (plan.changes.length > 0) this.#store.put(...plan.changes);
      else if (plan.wakeAtMs === null || plan.wakeAtMs > nowMs) {
        const wait = plan.wakeAtMs === null ? null : (plan.wakeAtMs - nowMs) / MS_PER_S;
        if (wait !== null) lines.push(`again in ${wait}s`);
        return lines.length === 0 ? "nothing" : lines.join("\n");
      }
    }
    throw new Error(`planning has not settled after ${ROUNDS_MAX} rounds`);
  }

  #counts(): string {
    const { view } = this.#store;
    return [...view.table("nodes").all()]
      .map(({ id }) => {
        const live = view.tasksOfNode(id).filter(({ status }) => !isTerminal(status.state));
        return `${id} ${live.length}`;
      })
      .join("\n");
  }
}

function nameOf(directive: Directive): string {
  const [first] = directive.args;
  if (first === undefined) throw new Error(`line ${directive.line}: no name`);
  return first.key;
}

function stateOf(text: string | undefined): TaskState {
  const state = TASK_STATES.find(candidate => candidate === text);
  if (state === undefined) throw new Error(`no task state ${text}`);
  return state;
}

function describe(change: Change): string {
  if (change.op !== "patch" || change.table !== "tasks") return JSON.stringify(change);
  const { nodeId, status, assignedGeneric = [] } = change.fields;
  if (nodeId === undefined) return `${change.id} ${status?.state}: ${status?.err}`;
  const generic = assignedGeneric.map(
    ({ NamedResourceSpec: named, DiscreteResourceSpec: discrete }) =>
      ` ${named?.Kind ?? discrete?.Kind}=${named?.Value ?? discrete?.Value}`,
  );
  return `${change.id} -> ${nodeId}${generic.join("")}`;
}

/** Arguments `prefix.key=value` as a record. */
function recordOf(directive: Directive, prefix: string): Record<string, string> {
  return Object.fromEntries(
    directive.args
      .filter(({ key }) => key.startsWith(`${prefix}.`))
      .map(({ key, values }) => [key.slice(prefix.length + 1), values[0] ?? ""]),
  );
}

/** `generic.gpu=2`, or `generic.gpu=(a, b)` for named ones. */
function genericOf(directive: Directive): readonly GenericResourceSpec[] {
  return directive.args
    .filter(({ key }) => key.startsWith("generic."))
    .flatMap(({ key, values }): GenericResourceSpec[] => {
      const Kind = key.slice("generic.".length);
      const [first = ""] = values;
      return /^[0-9]+$/.test(first)
        ? [{ DiscreteResourceSpec: { Kind, Value: Number(first) } }]
        : values.map(Value => ({ NamedResourceSpec: { Kind, Value } }));
    });
}

type NodeDraft = Parameters<typeof aNode>[0] & Pick<Node, "spec" | "status" | "certRole">;

function withNodeArgs(node: NodeDraft, directive: Directive): NodeDraft & ReturnType<typeof aNode> {
  const value = (key: string) => valuesOf(directive, key)[0];
  const base = aNode(node);
  const resources = base.description?.resources ?? { nanoCpus: 0, memoryBytes: 0, generic: [] };
  const generic = genericOf(directive);
  const labels = recordOf(directive, "label");
  return {
    ...base,
    spec: {
      Role: base.spec.Role,
      Availability: (value("availability") as Availability | undefined) ?? base.spec.Availability,
      Labels: { ...base.spec.Labels, ...labels },
    },
    certRole: (value("role") as NodeRole | undefined) ?? base.certRole,
    status: {
      ...base.status,
      state: (value("state") as NodeState | undefined) ?? base.status.state,
      addr: value("addr") ?? base.status.addr,
    },
    description: base.description && {
      ...base.description,
      os: value("os") ?? base.description.os,
      architecture: value("arch") ?? base.description.architecture,
      resources: {
        nanoCpus: parseCpus(value("cpu") ?? String(resources.nanoCpus / 1e9)),
        memoryBytes: parseBytes(value("mem") ?? String(resources.memoryBytes)),
        generic: generic.length > 0 ? generic : resources.generic,
      },
      engineLabels: { ...base.description.engineLabels, ...recordOf(directive, "engine") },
      plugins: [
        ...base.description.plugins,
        ...valuesOf(directive, "plugin").map(text => {
          const [type = "", name = ""] = text.split("/");
          return { type, name };
        }),
      ],
    },
  };
}

function portOf(text: string): PortConfig {
  const [port, protocol = "tcp"] = text.split("/");
  const Protocol = protocol === "udp" ? "udp" : "tcp";
  return { TargetPort: 80, PublishedPort: Number(port), Protocol, PublishMode: "host" };
}

function serviceSpec(name: string, directive: Directive): ServiceSpec {
  const value = (key: string) => valuesOf(directive, key)[0];
  const strategy = value("strategy");
  const log = value("log");
  return {
    Name: name,
    Labels: strategy === undefined ? {} : { "swarmd.placement.strategy": strategy },
    EndpointSpec: { Ports: valuesOf(directive, "port").map(portOf) },
    TaskTemplate: {
      ContainerSpec: {
        Image: "app",
        Mounts: valuesOf(directive, "volume-driver").map((driver, i) => ({
          Type: "volume",
          Target: `/v${i}`,
          VolumeOptions: { DriverConfig: { Name: driver } },
        })),
      },
      ...(log === undefined ? {} : { LogDriver: { Name: log } }),
      Resources: {
        Reservations: {
          NanoCPUs: parseCpus(value("cpu") ?? "0"),
          MemoryBytes: parseBytes(value("mem") ?? "0"),
          GenericResources: genericOf(directive),
        },
      },
      Placement: {
        Constraints: valuesOf(directive, "constraint"),
        Preferences: valuesOf(directive, "spread").map(SpreadDescriptor => ({
          Spread: { SpreadDescriptor },
        })),
        MaxReplicas: Number(value("max") ?? 0),
        Platforms: valuesOf(directive, "platform").map(text => {
          const [OS = "", Architecture = ""] = text.split("/");
          return { OS, Architecture };
        }),
      },
    },
  };
}

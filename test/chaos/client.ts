import { type Rng, randomFloat } from "../../src/base/rng.ts";
import type { LabHost } from "../lab/lab.ts";
import { type Called, call, statusOf, type Versioned } from "./api.ts";
import { pickOne } from "./core/fault-plan.ts";
import type {
  Availability,
  Outcome,
  ReadRecord,
  ServiceShape,
  Value,
  WriteRecord,
} from "./core/history.ts";
import { type Intent, nextIntent } from "./core/workload.ts";
import { pause } from "./pause.ts";
import { serviceSpec, WRITE_LABEL } from "./specs.ts";
import type { World, WorldObject } from "./world.ts";

const MIN_THINK_MS = 150;
const MAX_THINK_MS = 1_000;
const NOT_FOUND = 404;

export interface ClientDeps {
  readonly world: World;
  readonly managers: readonly LabHost[];
  readonly rng: Rng;
}

/** The object as it was read, and the value that its label says. */
interface Seen {
  readonly object: Versioned;
  readonly value: Value;
}

interface Write extends Pick<WriteRecord, "action" | "value" | "shape"> {
  readonly object: WorldObject;
  readonly availability?: Availability;
  readonly base?: number;
}

type Said = Omit<ReadRecord, "id" | "what" | "value">;

interface Request {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

/**
 * A user of the API: one request after the other, each through a manager picked at random, each
 * recorded with its outcome. An object is written by one client at a time.
 */
export class Client {
  readonly #name: string;
  readonly #deps: ClientDeps;

  constructor(name: string, deps: ClientDeps) {
    this.#name = name;
    this.#deps = deps;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { rng, world } = this.#deps;
    while (!signal.aborted) {
      const intent = nextIntent(rng, world.known());
      if (intent !== null) await this.carryOut(intent);
      await pause(MIN_THINK_MS + randomFloat(rng) * (MAX_THINK_MS - MIN_THINK_MS), signal);
    }
  }

  async carryOut(intent: Intent): Promise<void> {
    if (intent.do === "create") {
      const { world } = this.#deps;
      const object = world.add(intent.kind);
      const shape = intent.kind === "service" ? intent.shape : null;
      await this.#alone(object, () => this.create(object, shape));
      return;
    }
    const object = this.#deps.world.objects.get(intent.key);
    if (object === undefined) return;
    await this.#alone(object, () => this.#change(object, intent));
  }

  async #alone(object: WorldObject, work: () => Promise<void>): Promise<void> {
    object.busy = true;
    try {
      await work();
    } finally {
      object.busy = false;
    }
  }

  async #change(
    object: WorldObject,
    intent: Exclude<Intent, { readonly do: "create" }>,
  ): Promise<void> {
    if (intent.do === "remove" || (intent.do === "settle" && object.doomed)) {
      await this.#remove(object);
      return;
    }
    const seen = await this.read(object);
    if (intent.do === "settle" || seen === null) return;
    const shape = this.#deps.world.shapeOf(object.key, seen.value);
    if (object.kind === "node") await this.#updateNode(object, seen, intent.do);
    else if (intent.do === "race") await this.#race(object, seen);
    else if (object.kind !== "service") await this.relabel(object, seen);
    else if (shape !== null) {
      await this.#updateService(object, seen, changed(shape, intent, this.#deps.world));
    }
  }

  async create(object: WorldObject, given: ServiceShape | null): Promise<void> {
    const { world } = this.#deps;
    const value = world.newValue();
    const shape = given === null ? null : { ...given, generation: world.newGeneration() };
    const body =
      shape === null
        ? { Name: object.name, Data: "Y2hhb3M=", Labels: { [WRITE_LABEL]: value } }
        : serviceSpec(object.name, value, shape);
    if (shape !== null) object.shapes.set(value, shape);
    object.shape = shape;
    const path = `/${object.kind}s/create`;
    const { called, outcome } = await this.#write(
      { object, action: "create", value, shape },
      { method: "POST", path, body },
    );
    object.exists = outcome === "acknowledged" ? "yes" : outcome === "refused" ? "no" : "maybe";
    if (outcome === "acknowledged") object.id = (called.body as { readonly ID: string }).ID;
  }

  /** Null when nobody answered. */
  async read(object: WorldObject): Promise<Seen | null> {
    const { world } = this.#deps;
    const via = this.#manager();
    const id = world.newRequestId();
    const called = await call(via, "GET", `/${object.kind}s/${object.id || object.name}`);
    const found = called.verdict.outcome === "acknowledged" ? (called.body as Versioned) : null;
    const gone = statusOf(called) === NOT_FOUND;
    const value = found === null ? (gone ? null : undefined) : labelledValue(found);
    world.record({ what: "read", id, ...this.#said(object, via, called), value });
    // A creation of unknown outcome may still come true; nobody will touch it then.
    if (gone) object.exists = "no";
    if (found === null) return null;
    object.exists = "yes";
    object.id = found.ID;
    object.shape = world.shapeOf(object.key, value ?? null);
    object.availability = world.availabilityOf(object.key, value ?? null);
    return { object: found, value: value ?? null };
  }

  async #updateService(object: WorldObject, seen: Seen, shape: ServiceShape): Promise<void> {
    const value = this.#deps.world.newValue();
    object.shapes.set(value, shape);
    const base = seen.object.Version.Index;
    const path = `/services/${object.id}/update?version=${base}`;
    const body = serviceSpec(object.name, value, shape);
    const { outcome } = await this.#write(
      { object, action: "update", value, shape, base },
      { method: "POST", path, body },
    );
    if (outcome === "acknowledged") object.shape = shape;
  }

  async #updateNode(object: WorldObject, seen: Seen, what: Intent["do"]): Promise<void> {
    const { world } = this.#deps;
    const value = world.newValue();
    const before = world.availabilityOf(object.key, seen.value);
    const availability = what === "drain" ? "drain" : what === "activate" ? "active" : before;
    object.availabilities.set(value, availability);
    const base = seen.object.Version.Index;
    const path = `/nodes/${object.id}/update?version=${base}`;
    const labels = { ...seen.object.Spec.Labels, [WRITE_LABEL]: value };
    const body = { ...seen.object.Spec, Labels: labels, Availability: availability };
    const write = { object, action: "update", value, shape: null, base, availability } as const;
    const { outcome } = await this.#write(write, { method: "POST", path, body });
    // Of unknown outcome: drained until a read says otherwise.
    if (outcome === "acknowledged" || availability === "drain") object.availability = availability;
    if (outcome === "refused") object.availability = before;
  }

  /** Until the node takes tasks again, for the end of a run. */
  async activate(object: WorldObject, signal: AbortSignal): Promise<void> {
    // A drain of unknown outcome may still come true, unless a later write is granted.
    if ([...object.availabilities.values()].includes("drain")) object.availability = "drain";
    while (!signal.aborted && object.availability !== "active") {
      await this.carryOut({ do: "activate", key: object.key });
      await pause(MIN_THINK_MS, signal);
    }
  }

  /** Secrets and configs. */
  async relabel(object: WorldObject, seen: Seen): Promise<void> {
    const { write, request } = this.#relabelling(object, seen);
    await this.#write(write, request);
  }

  #relabelling(
    object: WorldObject,
    seen: Seen,
  ): { readonly write: Write; readonly request: Request } {
    const value = this.#deps.world.newValue();
    const base = seen.object.Version.Index;
    const path = `/${object.kind}s/${object.id}/update?version=${base}`;
    const labels = { ...seen.object.Spec.Labels, [WRITE_LABEL]: value };
    const body = { ...seen.object.Spec, Labels: labels };
    const write = { object, action: "update", value, shape: null, base } as const;
    return { write, request: { method: "POST", path, body } };
  }

  /** The granted one is recorded last: the version it names makes the other void. */
  async #race(object: WorldObject, seen: Seen): Promise<void> {
    const both = [this.#relabelling(object, seen), this.#relabelling(object, seen)];
    const startMs = Date.now();
    const sent = await Promise.all(
      both.map(async ({ write, request }) => ({ write, ...(await this.#send(write, request)) })),
    );
    const order: readonly Outcome[] = ["refused", "unknown", "acknowledged"];
    sent.sort((a, b) => order.indexOf(a.outcome) - order.indexOf(b.outcome));
    for (const { write, said, outcome } of sent) {
      this.#record(write, { ...said, startMs }, outcome);
    }
  }

  async #remove(object: WorldObject): Promise<void> {
    const path = `/${object.kind}s/${object.id || object.name}`;
    const write = { object, action: "remove", value: null, shape: null } as const;
    const { called, outcome, said } = await this.#write(write, { method: "DELETE", path });
    if (outcome === "acknowledged") object.exists = "no";
    if (outcome === "unknown") {
      object.exists = "maybe";
      object.doomed = true;
    }
    if (statusOf(called) !== NOT_FOUND) return;
    object.exists = "no";
    const { world } = this.#deps;
    world.record({ what: "read", id: world.newRequestId(), ...said, value: null });
  }

  async #write(write: Write, request: Request) {
    const sent = await this.#send(write, request);
    this.#record(write, sent.said, sent.outcome);
    return sent;
  }

  #record(write: Write, said: Said, outcome: Outcome): void {
    const { world } = this.#deps;
    const { object: _, ...what } = write;
    const id = world.newRequestId();
    const none = { availability: null, base: 0 };
    world.record({ what: "write", id, ...said, ...none, ...what, outcome });
  }

  async #send({ object }: Write, request: Request) {
    const { world } = this.#deps;
    const { method, path, body } = request;
    const via = this.#manager();
    const called = await call(via, method, path, body);
    const { outcome, odd } = called.verdict;
    if (odd !== null) {
      world.oddAnswers.push({
        atMs: called.endMs,
        text: `${method} ${path} on ${via.name}: ${odd}`,
      });
    }
    return { called, outcome, said: this.#said(object, via, called) };
  }

  #said(object: WorldObject, via: LabHost, called: Called): Said {
    const { startMs, endMs, reply } = called;
    return {
      key: object.key,
      client: this.#name,
      via: via.name,
      startMs,
      endMs,
      status: statusOf(called),
      text: reply.kind === "answer" && reply.status < 400 ? "" : reply.text.trim(),
    };
  }

  #manager(): LabHost {
    const manager = pickOne(this.#deps.rng, this.#deps.managers);
    if (manager === null) throw new Error("a client needs a manager");
    return manager;
  }
}

function labelledValue({ Spec }: Versioned): Value {
  return Spec.Labels?.[WRITE_LABEL] ?? null;
}

function changed(shape: ServiceShape, intent: Intent, world: World): ServiceShape {
  switch (intent.do) {
    case "scale":
      return { ...shape, replicas: intent.replicas };
    case "image":
      return { ...shape, image: intent.image, generation: world.newGeneration() };
    case "force":
      return { ...shape, generation: world.newGeneration() };
    default:
      return shape;
  }
}

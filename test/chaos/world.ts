import type {
  Availability,
  ObjectKind,
  RequestRecord,
  ServiceShape,
  Value,
} from "./core/history.ts";
import type { KnownObject } from "./core/workload.ts";

/** What the clients share: the objects they made, and the record of all they asked for. */

export class WorldObject implements KnownObject {
  readonly key: string;
  readonly kind: ObjectKind;
  readonly name: string;
  id = "";
  exists: KnownObject["exists"] = "maybe";
  busy = false;
  /** Its removal was asked for: it is not written any more. */
  doomed = false;
  shape: ServiceShape | null = null;
  availability: Availability = "active";
  /** Services: by the value of the write. */
  readonly shapes = new Map<string, ServiceShape>();
  /** Nodes: by the value of the write. */
  readonly availabilities = new Map<string, Availability>();

  constructor(kind: ObjectKind, name: string) {
    this.key = `${kind}/${name}`;
    this.kind = kind;
    this.name = name;
  }
}

export class World {
  readonly objects = new Map<string, WorldObject>();
  readonly requests: RequestRecord[] = [];
  /** Answers that the API should not give. */
  readonly oddAnswers: { readonly atMs: number; readonly text: string }[] = [];
  #lastName = 0;
  #lastValue = 0;
  #lastRequest = 0;
  #lastGeneration = 0;

  known(): readonly KnownObject[] {
    return [...this.objects.values()];
  }

  add(kind: ObjectKind, name?: string): WorldObject {
    const object = new WorldObject(kind, name ?? `${kind}-${++this.#lastName}`);
    this.objects.set(object.key, object);
    return object;
  }

  newValue(): string {
    return `w${++this.#lastValue}`;
  }

  newGeneration(): number {
    return ++this.#lastGeneration;
  }

  newRequestId(): number {
    return ++this.#lastRequest;
  }

  record(request: RequestRecord): void {
    this.requests.push(request);
  }

  /** The shape that a service has when its last write was this one. */
  shapeOf(key: string, value: Value): ServiceShape | null {
    return value === null ? null : (this.objects.get(key)?.shapes.get(value) ?? null);
  }

  /** The availability that a node has when its last write was this one. */
  availabilityOf(key: string, value: Value): Availability {
    if (value === null) return "active";
    return this.objects.get(key)?.availabilities.get(value) ?? "active";
  }
}

import type { AssignedTask, AssignmentChange } from "../../model/assignment.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";

/**
 * Encodes assignments as JSON. What is the same for many nodes is encoded once: an item of an
 * overlay network goes to all of them, and one after the other they get tasks of one service.
 */
export class ChangeEncoder {
  /** By item: the items are values, which nobody writes to. They live as long as their tables. */
  readonly #items = new WeakMap<object, string>();
  #spec: ServiceSpec | null = null;
  #specJson = "";

  encode(change: AssignmentChange): string {
    if (change.action === "remove") return JSON.stringify(change);
    const item = change.kind === "task" ? this.#task(change.item) : this.#item(change.item);
    return `{"action":"update","kind":"${change.kind}","item":${item}}`;
  }

  #task({ task, spec }: AssignedTask): string {
    if (spec !== this.#spec) {
      this.#spec = spec;
      this.#specJson = JSON.stringify(spec);
    }
    return `{"task":${JSON.stringify(task)},"spec":${this.#specJson}}`;
  }

  #item(item: object): string {
    let json = this.#items.get(item);
    if (json === undefined) {
      json = JSON.stringify(item);
      this.#items.set(item, json);
    }
    return json;
  }
}

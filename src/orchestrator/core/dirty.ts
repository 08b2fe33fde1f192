import type { Service, Task } from "../../model/rows.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import { sameSpec, taskEssence } from "../../model/spec-equality.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import type { Constraint } from "../../scheduler/core/constraint.ts";
import { constraintsOf, nodeFits, nodeOf } from "./nodes.ts";

type Difference = "none" | "placement" | "task";

/**
 * Tells which tasks are not as the service's present spec says. A change of the spec that does not
 * concern tasks (replicas, labels of the service, update settings) leaves them clean; a change of
 * placement alone leaves those clean whose node still fits (SwarmKit orchestrator/task.go
 * IsTaskDirty). Specs are compared once a version, not once a task.
 */
export class DirtyCheck {
  readonly #view: StateView;
  readonly #service: Service;
  readonly #differences = new Map<number, Difference>();
  #constraints: readonly Constraint[] | null | undefined;

  constructor(view: StateView, service: Service) {
    this.#view = view;
    this.#service = service;
  }

  isDirty(task: Task): boolean {
    if (task.specVersion === this.#service.specVersion) return false;
    const difference = this.#differenceOf(task);
    if (difference === "placement") return !this.#fits(task);
    return difference === "task";
  }

  #differenceOf(task: Task): Difference {
    const known = this.#differences.get(task.specVersion);
    if (known !== undefined) return known;
    const old = specOfTask(this.#view, task);
    const difference = old === undefined ? "task" : compareSpecs(old.spec, this.#service.spec);
    this.#differences.set(task.specVersion, difference);
    return difference;
  }

  #fits(task: Task): boolean {
    const node = nodeOf(this.#view, task.nodeId);
    if (this.#constraints === undefined) this.#constraints = constraintsOf(this.#service.spec);
    return node !== undefined && nodeFits(this.#constraints, node);
  }
}

function compareSpecs(old: ServiceSpec, now: ServiceSpec): Difference {
  if (!sameSpec(taskEssence(old), taskEssence(now))) return "task";
  const samePlacement = sameSpec(old.TaskTemplate?.Placement, now.TaskTemplate?.Placement);
  return samePlacement ? "none" : "placement";
}

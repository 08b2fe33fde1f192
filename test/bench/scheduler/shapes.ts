import type { IdSource } from "../../../src/base/ids.ts";
import type { Change } from "../../../src/model/change.ts";
import { aNode, aService, aStatus, aTask, createService } from "../../support/rows.ts";

export interface Shape {
  readonly name: string;
  readonly nodes: number;
  readonly services: number;
  readonly tasks: number;
  /** Every node but one in ten is refused by it. */
  readonly constrained: boolean;
}

/** Tasks of one service, where a shape says nothing else. */
const TASKS_A_SERVICE = 2_000;
const K = 1_000;
const RESERVED = { MemoryBytes: 4 * 2 ** 20, NanoCPUs: 1e6 };

function shape(nodes: number, tasks: number, constrained = false): Shape {
  const text = (count: number): string =>
    count >= K * K ? `${count / (K * K)}M` : `${count / K}k`;
  const name = `${text(tasks)} tasks, ${text(nodes)} nodes${constrained ? ", constrained" : ""}`;
  return { name, nodes, services: Math.max(1, tasks / TASKS_A_SERVICE), tasks, constrained };
}

/** Those of swarmkit's own benchmarks, and beyond. */
export const SHAPES: readonly Shape[] = [
  shape(K, K),
  shape(K, 10 * K),
  shape(K, 100 * K),
  shape(100 * K, K),
  shape(100 * K, 100 * K),
  shape(K, 10 * K, true),
  shape(5 * K, 100 * K, true),
  { ...shape(100, K), services: K, name: "1k services of 1 task, 0.1k nodes" },
  shape(10 * K, K * K),
  { ...shape(K, 100 * K), services: 1, name: "100k tasks of 1 service, 1k nodes" },
];

/** The rows of a cluster of that shape, its tasks waiting for nodes; ids as a daemon makes them. */
export function* rowsOf(shape: Shape, ids: IdSource): Generator<Change> {
  for (let i = 0; i < shape.nodes; i++) {
    const base = aNode({ id: ids.newId() });
    const Labels = { zone: String(i % 10) };
    yield { op: "create", table: "nodes", row: { ...base, spec: { ...base.spec, Labels } } };
  }
  for (let s = 0; s < shape.services; s++) yield* serviceOf(shape, `service-${s}`, ids);
}

function* serviceOf(shape: Shape, Name: string, ids: IdSource): Generator<Change> {
  const id = ids.newId();
  const Placement = { Constraints: shape.constrained ? ["node.labels.zone==3"] : [] };
  const TaskTemplate = { Resources: { Reservations: RESERVED }, Placement };
  yield* createService(aService({ id, spec: { Name, TaskTemplate } }));
  for (let slot = 1; slot <= shape.tasks / shape.services; slot++) {
    const fields = { serviceId: id, serviceName: Name, slot, status: aStatus("pending") };
    yield { op: "create", table: "tasks", row: aTask({ id: ids.newId(), ...fields }) };
  }
}

import type { Node, Service, ServiceSpecVersion, TableName, Tables, Task } from "./rows.ts";
import { specRowId } from "./rows.ts";

/** Read access to one table; iteration is in order of id. */
export interface TableView<Row> {
  readonly size: number;
  get(id: string): Row | undefined;
  /** All rows in order of id. */
  all(): Iterable<Row>;
  /** The rows behind this id, in order of id: to read a large table in portions. */
  after(id: string): Iterable<Row>;
  /** All rows, in no order: quick even of a large table. */
  unordered(): readonly Row[];
}

/**
 * Synchronous read access to the state as of now. Planners read it and never keep it across an
 * await: it is live.
 */
export interface StateView {
  /** Raft index of the last applied entry. */
  readonly index: number;
  table<T extends TableName>(name: T): TableView<Tables[T]>;
  /** Tasks of a service in order of id; by index. */
  tasksOfService(serviceId: string): readonly Task[];
  /** Tasks assigned to a node in order of id; by index. */
  tasksOfNode(nodeId: string): readonly Task[];
  /** The stored spec versions of a service in order of id; by index. */
  specsOfService(serviceId: string): readonly ServiceSpecVersion[];
  /** The service of that exact name that is not being deleted; by index. */
  serviceByName(name: string): Service | undefined;
  nodesByHostname(hostname: string): readonly Node[];
}

/** The spec version a task was made from. */
export function specOfTask(view: StateView, task: Task): ServiceSpecVersion | undefined {
  return view.table("serviceSpecs").get(specRowId(task.serviceId, task.specVersion));
}

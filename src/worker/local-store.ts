import { ClassicLevel } from "classic-level";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { AssignedTask } from "../model/assignment.ts";
import type { NodeDescription, TaskStatus } from "../model/rows.ts";
import type { Goal, StopReason } from "./core/task-machine.ts";

/** What a node remembers of one task across restarts of swarmd. */
export interface TaskRecord {
  readonly assigned: AssignedTask;
  readonly goal: Goal;
  readonly status: TaskStatus;
  readonly stopReason: StopReason | null;
}

/**
 * The worker's memory on disk. One row a task, bounded by what is assigned to the node. Secrets
 * and configs are never in it. A power cut may take the last writes with it: the containers are
 * dead then too, and the managers send the assignments again.
 */
export interface LocalStore {
  load(): Promise<readonly TaskRecord[]>;
  /** Writes some tasks and forgets others, all or nothing. */
  save(records: readonly TaskRecord[], forget: readonly string[]): Promise<void>;
  loadDescription(): Promise<NodeDescription | null>;
  saveDescription(description: NodeDescription): Promise<void>;
  clear(): Promise<void>;
  close(): Promise<void>;
}

const TASK_PREFIX = "task/";
const TASK_END = "task0";
const DESCRIPTION_KEY = "description";

/** A LocalStore in a LevelDB folder. */
export class LevelLocalStore implements LocalStore {
  readonly #db: ClassicLevel<string, string>;
  /** Rows to write, the newest of each key; null = delete. Bounded by the number of tasks. */
  readonly #pending = new Map<string, string | null>();
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | null = null;

  private constructor(db: ClassicLevel<string, string>) {
    this.#db = db;
  }

  /** Opens or creates it. Throws data_loss when the folder cannot be used. */
  static async open(dir: string): Promise<LevelLocalStore> {
    const db = new ClassicLevel<string, string>(dir);
    try {
      await db.open();
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      const text = `cannot open the worker's task database ${dir}: ${errorMessage(cause)}`;
      throw new SwarmError("data_loss", text, { path: dir }, error);
    }
    return new LevelLocalStore(db);
  }

  async load(): Promise<readonly TaskRecord[]> {
    const values = await this.#db.values({ gt: TASK_PREFIX, lt: TASK_END }).all();
    return values.map(value => JSON.parse(value) as TaskRecord);
  }

  save(records: readonly TaskRecord[], forget: readonly string[]): Promise<void> {
    for (const record of records) {
      this.#pending.set(TASK_PREFIX + record.assigned.task.id, JSON.stringify(record));
    }
    for (const taskId of forget) this.#pending.set(TASK_PREFIX + taskId, null);
    return this.#flush();
  }

  /** One write at a time, in the order of the calls; what comes meanwhile shares the next one. */
  #flush(): Promise<void> {
    this.#next ??= this.#writing.then(
      () => this.#write(),
      () => this.#write(),
    );
    return this.#next;
  }

  #write(): Promise<void> {
    const batch = this.#db.batch();
    for (const [key, value] of this.#pending) {
      if (value === null) batch.del(key);
      else batch.put(key, value);
    }
    this.#pending.clear();
    this.#next = null;
    this.#writing = batch.write();
    return this.#writing;
  }

  async loadDescription(): Promise<NodeDescription | null> {
    const value = await this.#db.get(DESCRIPTION_KEY);
    return value === undefined ? null : (JSON.parse(value) as NodeDescription);
  }

  async saveDescription(description: NodeDescription): Promise<void> {
    await this.#db.put(DESCRIPTION_KEY, JSON.stringify(description));
  }

  async clear(): Promise<void> {
    await this.#flush();
    await this.#db.clear();
  }

  async close(): Promise<void> {
    await this.#flush();
    await this.#db.close();
  }
}

import { assert } from "../../base/errors.ts";
import { newSortedTexts, type SortedSet } from "../../base/sorted-set.ts";
import type {
  Cluster,
  Config,
  Member,
  Network,
  Node,
  RowMeta,
  Secret,
  Service,
  ServiceSpecVersion,
  TableName,
  Tables,
  Task,
} from "../../model/rows.ts";
import { hostnameOf } from "../../model/rows.ts";
import type { StateView, TableView } from "../../model/view.ts";

/** A secondary index, declared as data: the key a row is found under, null = not indexed. */
export interface IndexRule<Row> {
  keyOf(row: Row): string | null;
}

interface Bucket<Row> {
  readonly ids: SortedSet<string>;
  /** As read last; a row that changes is replaced in it, one that comes or goes voids it. */
  rows: Row[] | null;
}

/** Where the row of that id is in rows in order of id; it must be there. */
function positionOf(rows: readonly RowMeta[], id: string): number {
  let low = 0;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((rows[middle]?.id ?? "") < id) low = middle + 1;
    else high = middle;
  }
  assert(rows[low]?.id === id, `row ${id} is missing from its index`);
  return low;
}

/** Rows of one key, in order of id. Buckets hold ids; rows live in the table only. */
export class Index<Row extends RowMeta> {
  readonly #rule: IndexRule<Row>;
  readonly #get: (id: string) => Row | undefined;
  readonly #buckets = new Map<string, Bucket<Row>>();

  constructor(rule: IndexRule<Row>, get: (id: string) => Row | undefined) {
    this.#rule = rule;
    this.#get = get;
  }

  /** May throw on a malformed row. */
  admits(row: Row): boolean {
    const key = this.#rule.keyOf(row);
    return key === null || typeof key === "string";
  }

  /** The table has replaced `before` by `after` (already in the table). */
  changed(before: Row | undefined, after: Row | undefined): void {
    const from = before === undefined ? null : this.#rule.keyOf(before);
    const to = after === undefined ? null : this.#rule.keyOf(after);
    if (from !== to) {
      if (from !== null && before !== undefined) this.#leave(from, before.id);
      if (to !== null && after !== undefined) this.#enter(to, after.id);
      return;
    }
    const rows = to === null ? null : (this.#buckets.get(to)?.rows ?? null);
    if (rows !== null && after !== undefined) rows[positionOf(rows, after.id)] = after;
  }

  rows(key: string): readonly Row[] {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return [];
    bucket.rows ??= this.#collect(bucket.ids);
    return bucket.rows;
  }

  #collect(ids: SortedSet<string>): Row[] {
    const rows: Row[] = [];
    for (const id of ids) {
      const row = this.#get(id);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }

  #enter(key: string, id: string): void {
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      bucket = { ids: newSortedTexts(), rows: null };
      this.#buckets.set(key, bucket);
    }
    bucket.ids.add(id);
    bucket.rows = null;
  }

  #leave(key: string, id: string): void {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return;
    bucket.ids.remove(id);
    bucket.rows = null;
    if (bucket.ids.size === 0) this.#buckets.delete(key);
  }
}

/** One table: rows by id, iteration in order of id, secondary indexes kept up to date. */
export class Table<Row extends RowMeta> implements TableView<Row> {
  readonly #rows = new Map<string, Row>();
  readonly #ids = newSortedTexts();
  readonly #indexes: Index<Row>[] = [];

  get size(): number {
    return this.#rows.size;
  }

  get(id: string): Row | undefined {
    return this.#rows.get(id);
  }

  /** All rows, in no order: quick even of a large table. */
  unordered(): Row[] {
    return [...this.#rows.values()];
  }

  all(): Generator<Row> {
    return this.#rowsOf(this.#ids);
  }

  after(id: string): Generator<Row> {
    return this.#rowsOf(this.#ids.after(id));
  }

  *#rowsOf(ids: Iterable<string>): Generator<Row> {
    for (const id of ids) {
      const row = this.#rows.get(id);
      if (row !== undefined) yield row;
    }
  }

  addIndex(rule: IndexRule<Row>): Index<Row> {
    const index = new Index<Row>(rule, id => this.#rows.get(id));
    this.#indexes.push(index);
    return index;
  }

  /** Whether the row has what the indexes read. A row that has not must not be put. */
  admits(row: Row): boolean {
    try {
      return this.#indexes.every(index => index.admits(row));
    } catch {
      return false;
    }
  }

  /** Sets or, with undefined, deletes a row. */
  put(id: string, after: Row | undefined): void {
    const before = this.#rows.get(id);
    if (after !== undefined) {
      this.#rows.set(id, after);
      if (before === undefined) this.#ids.add(id);
    } else if (before !== undefined) {
      this.#rows.delete(id);
      this.#ids.remove(id);
    }
    for (const index of this.#indexes) index.changed(before, after);
  }
}

type TableSet = { readonly [T in TableName]: Table<Tables[T]> };

function newTables(): TableSet {
  return {
    cluster: new Table<Cluster>(),
    nodes: new Table<Node>(),
    members: new Table<Member>(),
    services: new Table<Service>(),
    serviceSpecs: new Table<ServiceSpecVersion>(),
    tasks: new Table<Task>(),
    secrets: new Table<Secret>(),
    configs: new Table<Config>(),
    networks: new Table<Network>(),
  };
}

/** A unique name: its key (swarm mode compares names without case) and how a conflict reads. */
interface NameRule<Row> extends IndexRule<Row> {
  conflict(row: Row): string;
}

interface Named {
  readonly spec: { readonly Name?: string };
}

function nameOf(row: Named): string {
  return row.spec.Name ?? "";
}

const NAME_RULES = {
  services: {
    // A service on its way out has given its name up: it may be created again at once.
    keyOf: (row: Service) => (row.pendingDelete ? null : nameOf(row).toLowerCase()),
    conflict: row =>
      `name conflicts with an existing object: service ${nameOf(row)} already exists`,
  } satisfies NameRule<Service>,
  secrets: {
    keyOf: (row: Secret) => nameOf(row).toLowerCase(),
    conflict: row => `secret ${nameOf(row)} already exists`,
  } satisfies NameRule<Secret>,
  configs: {
    keyOf: (row: Config) => nameOf(row).toLowerCase(),
    conflict: row => `config ${nameOf(row)} already exists`,
  } satisfies NameRule<Config>,
  networks: {
    keyOf: (row: Network) => nameOf(row).toLowerCase(),
    conflict: row => `network with name ${nameOf(row)} already exists`,
  } satisfies NameRule<Network>,
};

interface UniqueName {
  readonly index: Index<RowMeta>;
  readonly rule: NameRule<RowMeta>;
}

function unique<Row extends RowMeta>(table: Table<Row>, rule: NameRule<Row>): UniqueName {
  return { index: table.addIndex(rule) as Index<RowMeta>, rule: rule as NameRule<RowMeta> };
}

function nonEmpty(key: string): string | null {
  return key === "" ? null : key;
}

export interface StateTablesOptions {
  /**
   * Rows are values, which readers keep: nobody may write to one. Frozen, such a bug shows at once,
   * at more than twice the price of each change; so not in production. Default true.
   */
  readonly freezesRows?: boolean;
}

/** The whole replicated state in memory. Only `apply` and `restore` change it. */
export class StateTables implements StateView {
  /** Raft index of the last applied entry. */
  index = 0;
  /** The leader's clock in the last applied transaction; stamps rows that carry no time. */
  nowMs = 0;
  readonly #tables = newTables();
  readonly #tasksOfService = this.#tables.tasks.addIndex({ keyOf: row => nonEmpty(row.serviceId) });
  readonly #tasksOfNode = this.#tables.tasks.addIndex({ keyOf: row => nonEmpty(row.nodeId) });
  readonly #specsOfService = this.#tables.serviceSpecs.addIndex({ keyOf: row => row.serviceId });
  readonly #nodesByHostname = this.#tables.nodes.addIndex({
    keyOf: row => nonEmpty(hostnameOf(row)),
  });
  readonly #servicesByName = this.#tables.services.addIndex({
    keyOf: row => (row.pendingDelete ? null : nameOf(row)),
  });
  readonly #uniqueNames: { readonly [T in TableName]?: UniqueName } = {
    services: unique(this.#tables.services, NAME_RULES.services),
    secrets: unique(this.#tables.secrets, NAME_RULES.secrets),
    configs: unique(this.#tables.configs, NAME_RULES.configs),
    networks: unique(this.#tables.networks, NAME_RULES.networks),
  };
  readonly freezesRows: boolean;

  constructor(options: StateTablesOptions = {}) {
    this.freezesRows = options.freezesRows ?? true;
  }

  table<T extends TableName>(name: T): TableView<Tables[T]> {
    return this.#tables[name];
  }

  /** The table as `apply` writes it: what all rows have in common. */
  rows(name: TableName): Table<RowMeta> {
    return this.#tables[name] as Table<RowMeta>;
  }

  tasksOfService(serviceId: string): readonly Task[] {
    return this.#tasksOfService.rows(serviceId);
  }

  tasksOfNode(nodeId: string): readonly Task[] {
    return this.#tasksOfNode.rows(nodeId);
  }

  specsOfService(serviceId: string): readonly ServiceSpecVersion[] {
    return this.#specsOfService.rows(serviceId);
  }

  serviceByName(name: string): Service | undefined {
    return this.#servicesByName.rows(name)[0];
  }

  nodesByHostname(hostname: string): readonly Node[] {
    return this.#nodesByHostname.rows(hostname);
  }

  /** The words for it when another row of the table has this row's name; else null. */
  nameConflict(table: TableName, row: RowMeta): string | null {
    const names = this.#uniqueNames[table];
    const key = names?.rule.keyOf(row) ?? null;
    if (names === undefined || key === null) return null;
    const taken = names.index.rows(key).some(other => other.id !== row.id);
    return taken ? names.rule.conflict(row) : null;
  }
}

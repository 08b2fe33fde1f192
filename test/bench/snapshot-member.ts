/** One member of `npm run bench -- snapshot`, in a process of its own; told by messages. */
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { isSwarmError } from "../../src/base/errors.ts";
import { type LogFields, silentLogger } from "../../src/base/logger.ts";
import type { Change } from "../../src/model/change.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import { ReplicatedStore } from "../../src/state/store.ts";
import { realClock } from "../../src/system/real.ts";
import { GrpcNode } from "../support/raft-grpc-node.ts";

export type Order =
  | { readonly do: "start"; readonly raftId: number; readonly dir: string; readonly join: boolean }
  | { readonly do: "add"; readonly peer: PeerInfo }
  | { readonly do: "load"; readonly rows: number; readonly rowBytes: number }
  | { readonly do: "write"; readonly ms: number }
  /** Small writes until a snapshot is nearly due. */
  | { readonly do: "fill" }
  | { readonly do: "measure" }
  | { readonly do: "report" }
  | { readonly do: "stop" };

export interface Report {
  readonly role: string;
  readonly term: number;
  readonly voters: number;
  readonly rows: number;
  readonly held: Held;
  readonly rssMb: number;
  /** Of each snapshot taken, sent or restored since the measurement began. */
  readonly events: readonly string[];
}

/** Of one turn of the event loop: as the clock has it, and as the main thread worked in it. */
export interface Held {
  readonly wallMs: number;
  readonly workMs: number;
  /** How often a turn had more than 50 ms of work. */
  readonly over50: number;
}

const ROWS_PER_WRITE = 100;
const LOADERS = 4;
const WRITE_BYTES = 1_024;
const SNAPSHOT_ENTRIES = 5_000;
/** Entries left to be written by what is measured. */
const NEARLY = 30;
const FILLERS = 32;
const NS_PER_MS = 1e6;
const LONG_TURN_MS = 50;
const never = new AbortController().signal;
const rowBytesOf = new Map<number, string>();

let events: string[] = [];
let node: GrpcNode | null = null;
let held: Held = { wallMs: 0, workMs: 0, over50: 0 };
const store = new ReplicatedStore(
  { freezesRows: false },
  { clock: realClock, logger: silentLogger },
);
const log = {
  ...silentLogger,
  info: (message: string, fields: LogFields = {}) => {
    if (message === "took a snapshot") events.push(`took in ${fields["tookMs"]} ms`);
    if (/snapshot/.test(message)) events.push(`${Math.round(performance.now())}: ${message}`);
  },
  child: () => log,
};

/** Processor time of the main thread; a machine with much else to do makes the clock useless. */
function threadMs(): number {
  const [ns] = readFileSync("/proc/thread-self/schedstat", "utf8").split(" ");
  return Number(ns) / NS_PER_MS;
}

/** A timer of 1 ms as witness: between two of its calls lies a turn of the loop. */
function watchLoop(wallMs: number, workMs: number): void {
  setTimeout(() => {
    const nowMs = performance.now();
    const thread = threadMs();
    const work = thread - workMs;
    held = {
      wallMs: Math.max(held.wallMs, nowMs - wallMs),
      workMs: Math.max(held.workMs, work),
      over50: held.over50 + (work > LONG_TURN_MS ? 1 : 0),
    };
    watchLoop(nowMs, thread);
  }, 1);
}

function row(id: string, bytes: number): Change {
  const data = rowBytesOf.get(bytes) ?? Buffer.alloc(bytes, "x").toString("base64");
  rowBytesOf.set(bytes, data);
  return { op: "create", table: "configs", row: { id, spec: { Name: id, Data: data } } };
}

async function load(rows: number, bytes: number): Promise<void> {
  let next = Math.max(0, store.view.table("configs").size - LOADERS * ROWS_PER_WRITE);
  next -= next % ROWS_PER_WRITE;
  const loader = async (): Promise<void> => {
    while (next < rows) {
      const from = next;
      next += ROWS_PER_WRITE;
      const changes = Array.from({ length: Math.min(ROWS_PER_WRITE, rows - from) }, (_, i) =>
        row(`row-${String(from + i).padStart(9, "0")}`, bytes),
      );
      await store.submit(changes, never).catch((error: unknown) => {
        // Of an earlier try, under another leader.
        if (!isSwarmError(error, "already_exists")) throw error;
      });
    }
  };
  await Promise.all(Array.from({ length: LOADERS }, loader));
}

async function fill(driver: GrpcNode["driver"]): Promise<void> {
  const { appliedIndex } = driver.stats();
  const missing = SNAPSHOT_ENTRIES - (appliedIndex % SNAPSHOT_ENTRIES) - NEARLY;
  for (let i = 0; i < missing; i += FILLERS) {
    const batch = Array.from({ length: FILLERS }, (_, j) =>
      store.submit([row(`fill-${performance.now()}-${i + j}`, 1)], never),
    );
    await Promise.all(batch);
  }
}

/** One write after the other; the latencies in ms. */
async function write(ms: number): Promise<number[]> {
  const latencies: number[] = [];
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) {
    const startMs = performance.now();
    await store.submit([row(`written-${startMs}`, WRITE_BYTES)], never);
    latencies.push(performance.now() - startMs);
  }
  return latencies;
}

function report(driver: GrpcNode["driver"]): Report {
  const { role, term, conf } = driver.status();
  return {
    role,
    term,
    voters: conf.voters.length,
    rows: store.view.table("configs").size,
    held,
    rssMb: Math.round(process.memoryUsage().rss / 2 ** 20),
    events,
  };
}

async function obey(order: Order): Promise<unknown> {
  if (order.do === "start") {
    const { raftId, dir, join } = order;
    node = await GrpcNode.start({
      raftId,
      dir,
      start: join ? "join" : "bootstrap",
      stateMachine: store,
      log,
      snapshotEntries: SNAPSHOT_ENTRIES,
      snapshotBytes: Number.MAX_SAFE_INTEGER,
    });
    store.attach(node.driver);
    return node.self;
  }
  if (node === null) throw new Error("start first");
  const { driver } = node;
  if (order.do === "add") return driver.addMember(order.peer, never);
  if (order.do === "load") return load(order.rows, order.rowBytes);
  if (order.do === "write") return write(order.ms);
  if (order.do === "fill") return fill(driver);
  if (order.do === "report") return report(driver);
  if (order.do === "stop") return node.stop();
  events = [];
  held = { wallMs: 0, workMs: 0, over50: 0 };
  return null;
}

watchLoop(performance.now(), threadMs());
process.on("message", (message: { readonly id: number; readonly order: Order }) => {
  obey(message.order).then(
    result => process.send?.({ id: message.id, result }),
    (error: unknown) => process.send?.({ id: message.id, error: String(error) }),
  );
});

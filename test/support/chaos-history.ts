import type {
  Blow,
  ChaosHistory,
  ContainerRecord,
  FaultKind,
  FaultRecord,
  ReadRecord,
  ServiceShape,
  Value,
  WriteRecord,
} from "../chaos/core/history.ts";

/** Histories of chaos runs, made by hand. Times are small numbers of ms. */

export const SHAPE: ServiceShape = {
  image: "swarmd/app:1",
  generation: 1,
  mode: "replicated",
  replicas: 2,
  workersOnly: false,
  order: "stop-first",
  restart: "any",
  secretId: "",
  secretName: "",
};

let lastId = 0;

export function write(key: string, value: Value, given: Partial<WriteRecord> = {}): WriteRecord {
  const startMs = given.startMs ?? 1_000;
  return {
    what: "write",
    id: ++lastId,
    key,
    client: "client-1",
    via: "m1",
    startMs,
    endMs: startMs + 10,
    status: 200,
    text: "",
    action: value === null ? "remove" : "update",
    value,
    outcome: "acknowledged",
    shape: null,
    availability: null,
    base: 0,
    ...given,
  };
}

export function read(
  key: string,
  value: Value | undefined,
  given: Partial<ReadRecord> = {},
): ReadRecord {
  const { id, client, via, status, text } = write(key, null);
  const startMs = given.startMs ?? 1_000;
  return {
    id,
    key,
    client,
    via,
    status,
    text,
    startMs,
    endMs: startMs + 10,
    ...given,
    what: "read",
    value,
  };
}

export function fault(
  kind: FaultKind,
  blows: readonly Blow[],
  startMs: number,
  endMs: number,
): FaultRecord {
  return { id: ++lastId, kind, blows, startMs, injectedMs: startMs, healMs: endMs, endMs };
}

export function container(given: Partial<ContainerRecord> = {}): ContainerRecord {
  const id = `c${++lastId}`;
  return {
    host: "w1",
    id,
    name: `app.1.${id}`,
    taskId: `task-${id}`,
    service: "app",
    generation: 1,
    startedMs: 2_000,
    end: null,
    ...given,
  };
}

/** The end of a container that the Engine was asked to stop. */
export function stopped(atMs: number): ContainerRecord["end"] {
  return { fromMs: atMs, toMs: atMs, exitCode: 0, asked: true };
}

export function history(given: Partial<ChaosHistory> = {}): ChaosHistory {
  return {
    managers: ["m1", "m2", "m3"],
    workers: ["w1", "w2"],
    requests: [],
    faults: [],
    containers: [],
    leaders: [{ atMs: 0, host: "m1", term: 2 }],
    downs: [],
    sessions: [],
    lags: [],
    ...given,
  };
}

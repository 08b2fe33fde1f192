import type { LabHost } from "../lab/lab.ts";
import type { NodeAnswer, ServiceAnswer, TaskAnswer, Versioned } from "./api.ts";
import { listAll } from "./converge.ts";
import { type FinalState, WRITE_RULE } from "./core/check-writes.ts";
import { differences } from "./core/converged.ts";
import type { Value, Violation } from "./core/history.ts";
import { pause } from "./pause.ts";
import { modeSeen, shapeExpected, shapeSeen, WRITE_LABEL } from "./specs.ts";
import type { World } from "./world.ts";

/** What the cluster holds at the end, through every manager. */

const AGREE_TIMEOUT_MS = 30_000;
const AGREE_EVERY_MS = 500;
const LISTS = ["/services", "/tasks", "/secrets", "/configs", "/nodes"] as const;

export const SAME_RULE = "all managers hold the same state";

type Lists = ReadonlyMap<(typeof LISTS)[number], readonly Versioned[]>;

async function readLists(host: LabHost): Promise<Lists> {
  const lists = await Promise.all(
    LISTS.map(async path => [path, await listAll<Versioned>(host, path)] as const),
  );
  return new Map(lists);
}

/** Empty when, at some moment, all managers gave the same answers to everything. */
export async function checkAgreement(
  managers: readonly LabHost[],
  signal: AbortSignal,
): Promise<readonly Violation[]> {
  const deadlineMs = Date.now() + AGREE_TIMEOUT_MS;
  for (;;) {
    const found = await disagreements(managers).catch((error: Error) => [error.message]);
    if (found.length === 0) return [];
    if (Date.now() > deadlineMs || signal.aborted) {
      return found.map(text => ({ rule: SAME_RULE, text, atMs: 0 }));
    }
    await pause(AGREE_EVERY_MS, signal);
  }
}

async function disagreements(managers: readonly LabHost[]): Promise<readonly string[]> {
  const lists = new Map<string, Lists>();
  for (const host of managers) lists.set(host.name, await readLists(host));
  return LISTS.flatMap(path =>
    differences(path, new Map([...lists].map(([via, all]) => [via, comparable(path, all)]))),
  );
}

/** Mortal services live on while they are looked at; who is reachable differs by who is asked. */
function comparable(path: (typeof LISTS)[number], lists: Lists): ReadonlyMap<string, string> {
  const services = (lists.get("/services") ?? []) as readonly ServiceAnswer[];
  const mortal = new Set(services.filter(one => modeSeen(one) === "mortal").map(one => one.ID));
  const rows = (lists.get(path) ?? []).filter(
    row => path !== "/tasks" || !mortal.has((row as unknown as TaskAnswer).ServiceID ?? ""),
  );
  return new Map(
    rows.map(row => {
      const { ManagerStatus: _, ...same } = row as NodeAnswer;
      return [row.ID, JSON.stringify(same)];
    }),
  );
}

/** The last writes as each manager tells them, and specs and ids that are not what was written. */
export async function readFinal(
  host: LabHost,
  world: World,
): Promise<{ readonly state: FinalState; readonly violations: readonly Violation[] }> {
  const lists = await readLists(host);
  const values = new Map<string, Value>();
  const violations: Violation[] = [];
  const add = (kind: string, name: string, row: Versioned): void => {
    const key = `${kind}/${name}`;
    values.set(key, row.Spec.Labels?.[WRITE_LABEL] ?? null);
    const fault = rowFault(key, row, world);
    if (fault !== null)
      violations.push({ rule: WRITE_RULE, text: `${host.name}: ${fault}`, atMs: 0 });
  };
  for (const kind of ["service", "secret", "config"] as const) {
    for (const row of lists.get(`/${kind}s`) ?? []) add(kind, row.Spec.Name ?? "", row);
  }
  for (const row of (lists.get("/nodes") ?? []) as readonly NodeAnswer[]) {
    add("node", row.Description?.Hostname ?? "", row);
  }
  return { state: { via: host.name, values }, violations };
}

function rowFault(key: string, row: Versioned, world: World): string | null {
  const object = world.objects.get(key);
  if (object === undefined) return `${key} is none of the run's objects`;
  if (object.id !== "" && object.id !== row.ID) {
    return `${key} has id ${row.ID}, and was acknowledged as ${object.id}`;
  }
  const value = row.Spec.Labels?.[WRITE_LABEL] ?? null;
  const availability = row.Spec.Availability ?? "active";
  if (availability !== world.availabilityOf(key, value)) return `${key} is ${availability}`;
  const shape = world.shapeOf(key, value);
  if (shape === null) return null;
  const [seen, expected] = [shapeSeen(row as ServiceAnswer), shapeExpected(shape)];
  return seen === expected ? null : `${key} is ${seen}, and was written as ${expected}`;
}

import type { RecordedRequest, RecordingSwarm } from "../../support/recording-swarm.ts";

/** What came of a case, in a form that does not depend on chance or on the folder. */
export interface StackOutcome {
  /** Of the last run, in the order of their text: within a kind docker's own order is chance. */
  readonly requests: readonly RecordedRequest[];
  /** Kinds of objects in the order in which they are first written. */
  readonly written: readonly string[];
  readonly out: readonly string[];
  readonly err: readonly string[];
  readonly failed: boolean;
}

/** Docker's own notice of a default that it means to change. */
const NOTICE = /^(Since --detach=false was not|In a future release, --detach=false)/;

export function requestsOf(swarm: RecordingSwarm, from: number): readonly RecordedRequest[] {
  return swarm.requests.slice(from);
}

/** Docker keeps references of one name in the order of a map, which is chance. */
const UNORDERED: ReadonlySet<string> = new Set(["Secrets", "Configs"]);

function sortedItems(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return value
    .map(item => JSON.stringify(sortedKeys(item)))
    .sort()
    .map(text => JSON.parse(text) as unknown);
}

function sortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortedKeys);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(
    entries.map(([key, one]) => [key, UNORDERED.has(key) ? sortedItems(one) : sortedKeys(one)]),
  );
}

function writtenOf(requests: readonly RecordedRequest[]): string[] {
  const kinds = requests
    .filter(({ method }) => method === "POST")
    .map(({ path }) => path.split("/")[1] ?? "");
  return [...new Set(kinds)];
}

function plainLines(text: string, dir: string): string[] {
  return text
    .replaceAll(dir, "<files>")
    .split("\n")
    .map(line =>
      line.replace(/^time="[^"]*" level=warning msg=(".*")$/, (_all, quoted: string) =>
        String(JSON.parse(quoted)),
      ),
    )
    .filter(line => !NOTICE.test(line));
}

export function outcomeOf(
  requests: readonly RecordedRequest[],
  ran: { readonly out: string; readonly err: string; readonly failed: boolean },
  dir: string,
  isSorted: boolean,
): StackOutcome {
  const texts = requests.map(one => JSON.stringify(sortedKeys(one)).replaceAll(dir, "<files>"));
  const out = plainLines(ran.out, dir);
  return {
    requests: texts.sort().map(text => JSON.parse(text) as RecordedRequest),
    written: writtenOf(requests),
    out: isSorted ? out.filter(line => line !== "").sort() : out,
    err: plainLines(ran.err, dir)
      .filter(line => line !== "")
      .sort(),
    failed: ran.failed,
  };
}

export function goldenName(name: string): string {
  return `${name.replaceAll(/[^a-z0-9.]+/g, "-")}.json`;
}

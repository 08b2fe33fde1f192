import { BoundedQueue } from "../../base/async.ts";
import { SwarmError } from "../../base/errors.ts";
import { hasLabels, valuesOf } from "../../control/core/filters.ts";
import type { Filters } from "../../control/operations.ts";
import type { SwarmEvent, SwarmEventFeed } from "../../control/swarm-events.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { hideOwnLabel } from "../own-labels.ts";
import { filtersParam } from "../query.ts";
import { withFilter } from "../shared-networks.ts";
import { writeChunk } from "../stream.ts";

/** Lines that wait for a slow reader; more and its stream ends, as it would with the Engine. */
const MAX_QUEUED_LINES = 10_000;
const MS_PER_S = 1_000;

interface Line {
  readonly timeMs: number;
  readonly text: string;
}

interface Range {
  /** Null = from now on. */
  readonly sinceMs: number | null;
  /** Null = until the client goes. */
  readonly untilMs: number | null;
}

/** A worker knows no events of the cluster. */
const NO_FEED: SwarmEventFeed = { recent: () => [], subscribe: () => () => undefined };

/**
 * The Engine's events and the cluster's in one stream. Past events come first, in order of time;
 * new ones as they happen. Without a cluster the Engine's stream is passed through untouched.
 */
async function events(exchange: Exchange): Promise<void> {
  const { lifecycle, proxy, clock } = exchange.deps;
  if (lifecycle.state().localNodeState === "inactive") {
    return proxy.forward(exchange.request, exchange.response);
  }
  const filters = filtersParam(exchange.query);
  await addEngineIds(exchange, valuesOf(filters, "network"));
  const feed = (mayMatch(filters) ? lifecycle.events() : null) ?? NO_FEED;
  const range = {
    sinceMs: timeParam(exchange.query, "since"),
    untilMs: timeParam(exchange.query, "until"),
  };
  const past = range.untilMs !== null && range.untilMs <= clock.nowMs();
  if (past) await replyPast(exchange, feed, filters, range);
  else await follow(exchange, feed, filters, range);
}

/** The Engine's events name networks of the cluster by ids of its own. */
async function addEngineIds(exchange: Exchange, wanted: readonly string[]): Promise<void> {
  const { request, deps, signal } = exchange;
  if (wanted.length === 0) return;
  const ids = await Promise.all(wanted.map(ref => deps.networks.engineId(ref, signal)));
  const known = ids.flatMap(id => id ?? []);
  if (known.length === 0) return;
  request.url = withFilter(request.url ?? "", "network", [...wanted, ...known]);
}

/** Seconds since 1970 with an optional fraction; what the CLI makes of every other form. */
function timeParam(query: URLSearchParams, name: string): number | null {
  const raw = query.get(name) ?? "";
  if (raw === "") return null;
  if (!/^\d{1,12}(?:\.\d{1,9})?$/.test(raw)) {
    const text = `strconv.ParseInt: parsing ${JSON.stringify(raw)}: invalid syntax`;
    throw new SwarmError("invalid_argument", text, { http: 500 });
  }
  return Number(raw) * MS_PER_S;
}

const SWARM_TYPES = ["node", "service", "secret", "config", "network"];

/** False when the filters leave no event of the cluster. */
function mayMatch(filters: Filters): boolean {
  const types = valuesOf(filters, "type");
  const scopes = valuesOf(filters, "scope");
  const isSwarms = types.length === 0 || types.some(type => SWARM_TYPES.includes(type));
  return isSwarms && (scopes.length === 0 || scopes.includes("swarm"));
}

/** Filters that name an object of a type, such as `service=web`. */
function matches(event: SwarmEvent, filters: Filters): boolean {
  const oneOf = (name: string, values: readonly string[]): boolean => {
    const wanted = valuesOf(filters, name);
    return wanted.length === 0 || values.some(value => wanted.includes(value));
  };
  const { name = "" } = event.attributes;
  const named = SWARM_TYPES.every(
    type => valuesOf(filters, type).length === 0 || type === event.type,
  );
  return (
    named &&
    oneOf("type", [event.type]) &&
    oneOf("event", [event.action]) &&
    oneOf(event.type, [name, event.id]) &&
    ["container", "image", "volume", "plugin", "daemon"].every(
      type => valuesOf(filters, type).length === 0,
    ) &&
    hasLabels(event.attributes, valuesOf(filters, "label"))
  );
}

function lineOf(event: SwarmEvent): Line {
  const message = {
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.id, Attributes: event.attributes },
    scope: "swarm",
    time: Math.floor(event.timeMs / MS_PER_S),
    timeNano: 0,
  };
  // Nanoseconds exceed what a JS number holds exactly.
  const text = JSON.stringify(message).replace(
    '"timeNano":0',
    `"timeNano":${BigInt(Math.floor(event.timeMs)) * 1_000_000n}`,
  );
  return { timeMs: event.timeMs, text };
}

function recentLines(feed: SwarmEventFeed, filters: Filters, range: Range): Line[] {
  const { sinceMs, untilMs } = range;
  if (sinceMs === null) return [];
  return feed
    .recent()
    .filter(event => event.timeMs >= Math.floor(sinceMs))
    .filter(event => untilMs === null || event.timeMs <= untilMs)
    .filter(event => matches(event, filters))
    .map(lineOf);
}

/** Everything is known already: one answer, in order of time. */
async function replyPast(
  exchange: Exchange,
  feed: SwarmEventFeed,
  filters: Filters,
  range: Range,
): Promise<void> {
  const { engine, networks } = exchange.deps;
  const answer = await engine.request("GET", exchange.request.url ?? "", {
    signal: exchange.signal,
  });
  const text = hideOwnLabel(answer.body.toString("utf8"));
  if (answer.status !== 200) {
    exchange.response.writeHead(answer.status, { "Content-Type": "application/json" });
    exchange.response.end(text);
    return;
  }
  const local: string[] = [];
  for (const line of text.split("\n")) {
    if (line !== "") local.push(await networks.eventLine(line, exchange.signal));
  }
  const lines = [...local.map(engineLine), ...recentLines(feed, filters, range)];
  lines.sort((a, b) => a.timeMs - b.timeMs);
  exchange.response.writeHead(200, { "Content-Type": "application/json" });
  exchange.response.end(lines.map(line => `${line.text}\n`).join(""));
}

function engineLine(text: string): Line {
  const nano = /"timeNano":(\d{1,20})/.exec(text)?.[1] ?? "0";
  return { timeMs: Number(BigInt(nano) / 1_000_000n), text };
}

async function follow(
  exchange: Exchange,
  feed: SwarmEventFeed,
  filters: Filters,
  range: Range,
): Promise<void> {
  const { response, signal, deps } = exchange;
  const queue = new BoundedQueue<string>({ maxItems: MAX_QUEUED_LINES });
  const push = (text: string): void => {
    if (!queue.push(text)) queue.close();
  };
  const ended = new AbortController();
  const both = AbortSignal.any([signal, ended.signal]);
  const end = (): void => queue.close();
  both.addEventListener("abort", end, { once: true });
  const stop = feed.subscribe(event => {
    if (matches(event, filters)) push(lineOf(event).text);
  });
  for (const line of recentLines(feed, filters, range)) push(line.text);
  const local = deps.engine
    .lines(exchange.request.url ?? "", both, async line =>
      push(await deps.networks.eventLine(hideOwnLabel(line), both)),
    )
    .then(end, (error: unknown) => queue.close(error));
  try {
    response.writeHead(200, { "Content-Type": "application/json" });
    response.flushHeaders();
    for await (const line of queue) {
      if (!(await writeChunk(response, `${line}\n`))) break;
    }
    response.end();
  } catch {
    // The Engine's part broke off: so does the whole, and the client asks again.
    response.destroy();
  } finally {
    stop();
    ended.abort();
    await local;
  }
}

export const EVENT_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/events", handler: events },
];

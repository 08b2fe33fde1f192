import { SwarmError } from "../base/errors.ts";

export type Params = Readonly<Record<string, string>>;

/** One line of the API: `/services/{ref}/update`. A name in braces takes one path segment. */
export interface Route<Handler> {
  readonly method: string;
  readonly pattern: string;
  readonly handler: Handler;
}

interface Compiled<Handler> {
  readonly segments: readonly string[];
  readonly handler: Handler;
}

/** Finds the route of a request; literal segments win over parameters. */
export class Router<Handler> {
  /** By method and number of segments. */
  readonly #routes = new Map<string, Compiled<Handler>[]>();

  constructor(routes: readonly Route<Handler>[]) {
    for (const { method, pattern, handler } of routes) {
      const segments = pattern.split("/").slice(1);
      const key = `${method} ${segments.length}`;
      const list = this.#routes.get(key) ?? [];
      list.push({ segments, handler });
      list.sort((a, b) => countParams(a.segments) - countParams(b.segments));
      this.#routes.set(key, list);
    }
  }

  /** Null when nothing here answers that request. */
  match(method: string, path: string): { handler: Handler; params: Params } | null {
    const segments = path.split("/").slice(1);
    for (const route of this.#routes.get(`${method} ${segments.length}`) ?? []) {
      const params = bind(route.segments, segments);
      if (params !== null) return { handler: route.handler, params };
    }
    return null;
  }
}

const isParam = (segment: string): boolean => segment.startsWith("{");

function countParams(segments: readonly string[]): number {
  return segments.filter(isParam).length;
}

function bind(pattern: readonly string[], segments: readonly string[]): Params | null {
  const params: Record<string, string> = {};
  for (const [i, expected] of pattern.entries()) {
    const given = segments[i] ?? "";
    if (!isParam(expected)) {
      if (expected !== given) return null;
      continue;
    }
    if (given === "") return null;
    params[expected.slice(1, -1)] = decode(given);
  }
  return params;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch (error) {
    throw new SwarmError("invalid_argument", `invalid URL escape in "${segment}"`, {}, error);
  }
}

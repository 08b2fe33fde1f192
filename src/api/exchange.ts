import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { LoopHealth } from "../base/loop-health.ts";
import type { ControlClient } from "../control/ports.ts";
import type { EngineClient } from "./engine.ts";
import { jsonKind, parseJson, readBody } from "./json-body.ts";
import { noManager } from "./node-state.ts";
import type { NodeLifecycle } from "./ports.ts";
import type { EngineProxy } from "./proxy.ts";
import type { Params, Route } from "./router.ts";
import type { SharedNetworks } from "./shared-networks.ts";
import type { ApiVersion } from "./version.ts";

/** What every route works with. */
export interface ApiDeps {
  readonly lifecycle: NodeLifecycle;
  readonly engine: EngineClient;
  readonly proxy: EngineProxy;
  readonly networks: SharedNetworks;
  readonly ids: { newId(): string };
  readonly rng: { uint32(): number };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly loopHealth?: () => LoopHealth;
  /** swarmd's own version. */
  readonly productVersion: string;
}

/** One request and its answer, as a route sees them. */
export class Exchange {
  readonly deps: ApiDeps;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly params: Params;
  readonly query: URLSearchParams;
  readonly version: ApiVersion;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;

  constructor(
    parts: {
      readonly request: IncomingMessage;
      readonly response: ServerResponse;
      readonly params: Params;
      readonly query: URLSearchParams;
      readonly version: ApiVersion;
      readonly signal: AbortSignal;
    },
    deps: ApiDeps,
  ) {
    this.deps = deps;
    this.request = parts.request;
    this.response = parts.response;
    this.params = parts.params;
    this.query = parts.query;
    this.version = parts.version;
    this.signal = parts.signal;
  }

  /** A path parameter; the route's pattern has it. */
  param(name: string): string {
    return this.params[name] ?? "";
  }

  /** The cluster, or Docker's words for why this node cannot speak for it. */
  control(): ControlClient {
    const control = this.deps.lifecycle.control();
    if (control === null) throw noManager(this.deps.lifecycle.state());
    return control;
  }

  async json(): Promise<unknown> {
    const body = await readBody(this.request, this.deps.clock);
    return parseJson(body.toString("utf8"));
  }

  /** The body as an object (null says nothing); Docker's words for anything else. */
  async jsonObject(what: string): Promise<Readonly<Record<string, unknown>>> {
    const value = await this.json();
    if (value === null) return {};
    if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
    const kind = jsonKind(value);
    const text = `json: cannot unmarshal ${kind} into Go value of type ${what}`;
    throw new SwarmError("invalid_argument", text);
  }

  reply(status: number, body: unknown): void {
    const text = Buffer.from(`${JSON.stringify(body)}\n`);
    this.response.writeHead(status, {
      "Content-Type": "application/json",
      "Content-Length": text.length,
    });
    this.response.end(text);
  }

  replyEmpty(status: number): void {
    // 204 has no body and must not say how long it is (RFC 9110, 8.6).
    this.response.writeHead(status, status === 204 ? {} : { "Content-Length": 0 });
    this.response.end();
  }
}

export type Handler = (exchange: Exchange) => Promise<void>;
export type ApiRoute = Route<Handler>;

import http from "node:http";
import type { Readable } from "node:stream";
import { inspect } from "node:util";
import Docker from "dockerode";
import { withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { SwarmError } from "../../base/errors.ts";
import { withDeadline } from "../deadline.ts";
import { engineError } from "./engine-error.ts";

/** The oldest API that has all that swarmd uses (Engine 20.10). */
const API_VERSION = [1, 41] as const;
/** Followed logs hold one each; beyond this, calls would wait for them. */
const MAX_SOCKETS = 4096;
const NEGOTIATE_TIMEOUT_MS = 10_000;

export interface EngineCall {
  readonly method: "GET" | "POST" | "DELETE" | "PUT" | "HEAD";
  /** Without the version prefix. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  /** For `X-Registry-Auth`, base64url; empty = none. */
  readonly registryAuth?: string;
}

/** The part of docker-modem's `dial` that is used. */
interface Modem {
  dial(options: object, callback: (error: unknown, data: unknown) => void): void;
}

/**
 * Connections are not kept: an Engine that shuts down still answers on the ones it has, and says
 * of the containers it stops that they ended by themselves. A new one it refuses.
 */
class PlainAgent extends http.Agent {
  constructor() {
    super({ keepAlive: false, maxSockets: MAX_SOCKETS });
  }

  /** docker-modem formats its options, agent and all its sockets included, at each request. */
  [inspect.custom](): string {
    return "PlainAgent";
  }
}

const SUCCESS: Readonly<Record<number, true>> = { 200: true, 201: true, 204: true, 304: true };

/**
 * The Docker Engine's HTTP API on its unix socket; the only user of dockerode. Errors are
 * SwarmError as Executor has them: `unavailable` when it does not answer, otherwise in its words.
 */
export class DockerEngine {
  readonly socketPath: string;
  readonly #clock: Clock;
  readonly #modem: Modem;
  #prefix: Promise<string> | null = null;

  constructor(options: { readonly socketPath: string }, deps: { readonly clock: Clock }) {
    this.socketPath = options.socketPath;
    this.#clock = deps.clock;
    // The empty ones keep docker-modem from taking DOCKER_HOST and its like from the environment.
    const { socketPath } = options;
    const settings = {
      socketPath,
      agent: new PlainAgent(),
      host: "",
      protocol: "http",
      timeout: 0,
    };
    this.#modem = new Docker(settings as Docker.DockerOptions).modem;
  }

  /** The answer's JSON; undefined when it has none. */
  async call<T>(call: EngineCall, signal: AbortSignal): Promise<T> {
    return (await this.#dial(call, false, signal)) as T;
  }

  /** The answer's body as it comes. The caller must read it to its end or destroy it. */
  async stream(call: EngineCall, signal: AbortSignal): Promise<Readable> {
    return (await this.#dial(call, true, signal)) as Readable;
  }

  async #dial(call: EngineCall, isStream: boolean, signal: AbortSignal): Promise<unknown> {
    this.#prefix ??= this.#negotiate();
    try {
      const prefix = await withSignal(this.#prefix, signal);
      return await this.#request(prefix, call, isStream, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const known = engineError(error, this.socketPath);
      // It may come back as another version.
      if (known.code === "unavailable") this.#prefix = null;
      throw known;
    }
  }

  /** `/v1.41`, or the oldest version that a newer Engine still speaks. */
  async #negotiate(): Promise<string> {
    // All callers share it, so it is no caller's to abort.
    const own = new AbortController().signal;
    const ask = (signal: AbortSignal): Promise<unknown> =>
      this.#request("", { method: "GET", path: "/version" }, false, signal);
    try {
      const answer = (await withDeadline(
        this.#clock,
        "asking the Docker Engine for its version",
        NEGOTIATE_TIMEOUT_MS,
        own,
        ask,
      )) as { readonly ApiVersion?: string; readonly MinAPIVersion?: string };
      const newest = parseVersion(answer.ApiVersion ?? "0.0");
      if (isOlder(newest, API_VERSION)) {
        const speaks = `the Docker Engine speaks API ${newest.join(".")}`;
        const text = `${speaks}, swarmd needs ${API_VERSION.join(".")} (Engine 20.10) or newer`;
        throw new SwarmError("failed_precondition", text);
      }
      const oldest = parseVersion(answer.MinAPIVersion ?? "0.0");
      return `/v${(isOlder(API_VERSION, oldest) ? oldest : API_VERSION).join(".")}`;
    } catch (error) {
      this.#prefix = null;
      throw error;
    }
  }

  #request(
    prefix: string,
    call: EngineCall,
    isStream: boolean,
    signal: AbortSignal,
  ): Promise<unknown> {
    const options = {
      method: call.method,
      path: `${prefix}${call.path}${call.query === undefined ? "" : "?"}`,
      options: { _query: call.query ?? {}, _body: call.body ?? {} },
      statusCodes: SUCCESS,
      abortSignal: signal,
      isStream,
      ...(call.registryAuth && { authconfig: { base64: call.registryAuth } }),
    };
    return new Promise((resolve, reject) => {
      this.#modem.dial(options, (error, data) => {
        if (error) reject(error);
        else resolve(data);
      });
    });
  }
}

type Version = readonly [number, number];

function parseVersion(text: string): Version {
  const [major, minor] = text.split(".").map(Number);
  return [major || 0, minor || 0];
}

function isOlder(a: Version, b: Version): boolean {
  return a[0] !== b[0] ? a[0] < b[0] : a[1] < b[1];
}

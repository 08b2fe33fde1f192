import http from "node:http";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import {
  type ApiVersion,
  FALLBACK_API_VERSION,
  formatApiVersion,
  parseApiVersion,
} from "./version.ts";

/** How long what the Engine said of itself is believed. */
const PING_TTL_MS = 5_000;
const PING_TIMEOUT_MS = 2_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** The largest answer that is read as a whole (`/info`, lists of networks). */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** One event of the Engine. */
const MAX_LINE_CHARS = 1024 * 1024;

/** What `/_ping` says of the Engine. */
export interface EngineIdentity {
  readonly apiVersion: ApiVersion;
  readonly builderVersion: string;
  readonly experimental: string;
  readonly osType: string;
}

const UNKNOWN_ENGINE: EngineIdentity = {
  apiVersion: FALLBACK_API_VERSION,
  builderVersion: "",
  experimental: "false",
  osType: "linux",
};

export interface EngineAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Questions to the local Engine whose answers are read here rather than passed on. */
export class EngineClient {
  readonly #socketPath: string;
  readonly #clock: Clock;
  readonly #agent: http.Agent;
  #identity = UNKNOWN_ENGINE;
  #identityUntilMs = 0;
  #asking: Promise<EngineIdentity> | null = null;

  constructor(options: { readonly socketPath: string; readonly agent: http.Agent }, clock: Clock) {
    this.#socketPath = options.socketPath;
    this.#agent = options.agent;
    this.#clock = clock;
  }

  /** Asked again every few seconds; the last known answer while the Engine is down. */
  async identity(): Promise<EngineIdentity> {
    if (this.#clock.monoMs() < this.#identityUntilMs) return this.#identity;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #ask(): Promise<EngineIdentity> {
    try {
      const { headers } = await this.request("GET", "/_ping", { timeoutMs: PING_TIMEOUT_MS });
      const said = (name: string): string => String(headers[name] ?? "");
      this.#identity = {
        apiVersion: parseApiVersion(said("api-version")) ?? FALLBACK_API_VERSION,
        builderVersion: said("builder-version"),
        experimental: said("docker-experimental") || "false",
        osType: said("ostype") || "linux",
      };
    } catch {
      // The Engine is down or starting: its clients are still told what it was.
    }
    this.#identityUntilMs = this.#clock.monoMs() + PING_TTL_MS;
    return this.#identity;
  }

  /** Asks it now, and waits for two seconds at most. */
  async answers(): Promise<boolean> {
    try {
      const { status } = await this.request("GET", "/_ping", { timeoutMs: PING_TIMEOUT_MS });
      return status === 200;
    } catch {
      // That it does not is the answer.
      return false;
    }
  }

  /** Path under the newest version that the Engine speaks. */
  async versioned(path: string): Promise<string> {
    return `/v${formatApiVersion((await this.identity()).apiVersion)}${path}`;
  }

  /**
   * Reads an endless answer of JSON lines, such as `/events`. Resolves when the Engine ends it or
   * the signal aborts.
   */
  async lines(
    path: string,
    signal: AbortSignal,
    onLine: (line: string) => Promise<void>,
  ): Promise<void> {
    const response = await this.#open(path, signal);
    let rest = "";
    response.setEncoding("utf8");
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        const parts = (rest + chunk).split("\n");
        rest = parts.pop() ?? "";
        if (rest.length > MAX_LINE_CHARS) throw new Error("a line of the answer is too long");
        for (const line of parts) if (line !== "") await onLine(line);
      }
    } catch (error) {
      if (!signal.aborted) throw engineDown(this.#socketPath, error);
    }
  }

  #open(path: string, signal: AbortSignal): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = http.request({
        socketPath: this.#socketPath,
        agent: this.#agent,
        path,
        headers: { Host: "docker" },
        signal,
      });
      request.on("error", error => reject(engineDown(this.#socketPath, error)));
      request.on("response", response => {
        if (response.statusCode === 200) resolve(response);
        else reject(engineDown(this.#socketPath, new Error(`status ${response.statusCode}`)));
      });
      request.end();
    });
  }

  /** Rejects with `unavailable` when the Engine does not answer. */
  request(
    method: string,
    path: string,
    options: {
      readonly headers?: http.OutgoingHttpHeaders;
      readonly body?: Buffer;
      readonly signal?: AbortSignal;
      readonly timeoutMs?: number;
    } = {},
  ): Promise<EngineAnswer> {
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => reject(engineDown(this.#socketPath, error));
      const request = http.request({
        socketPath: this.#socketPath,
        agent: this.#agent,
        method,
        path,
        headers: { Host: "docker", ...options.headers },
        timeout: options.timeoutMs ?? REQUEST_TIMEOUT_MS,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      request.on("error", fail);
      request.on("timeout", () => request.destroy(new Error("no answer in time")));
      request.on("response", response => {
        readAll(response).then(
          body => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
          fail,
        );
      });
      request.end(options.body);
    });
  }
}

async function readAll(response: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new Error("the answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The error of every request that needs the Engine while it does not answer. */
export function engineDown(socketPath: string, cause: unknown): SwarmError {
  const text =
    `Cannot connect to the Docker Engine at unix://${socketPath} (${errorMessage(cause)}). ` +
    "Is the Engine running on this host? Cluster commands work without it.";
  return new SwarmError("unavailable", text, {}, cause);
}

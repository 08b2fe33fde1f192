import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Readable } from "node:stream";
import { CliError } from "./errors.ts";

/** The API version whose shapes this client speaks. */
const API_VERSION = "v1.41";
const MAX_ANSWER_BYTES = 512 * 1024 * 1024;

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface RequestOptions {
  readonly query?: Query;
  readonly body?: unknown;
  /** Sent as it is, instead of a JSON body. */
  readonly stream?: Readable;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/**
 * The daemon says Docker's words. Who follows them to the letter, without a DOCKER_HOST, puts the
 * Engine into a swarm of its own.
 */
function hintOf(message: string): string {
  const verbs = [...message.matchAll(/"docker swarm ([a-z-]+)"/g)].map(([, verb]) => verb);
  if (verbs.length === 0) return "";
  const own = verbs.map(verb => `"swarmd ${verb}"`).join(" or ");
  return `\n(${own}, that is: docker itself speaks to the Engine unless DOCKER_HOST is this socket)`;
}

/** An answer with an error status; `message` is the daemon's own. */
export class ApiError extends CliError {
  readonly status: number;

  constructor(status: number, message: string) {
    super(`Error response from daemon: ${message}${hintOf(message)}`);
    this.name = "ApiError";
    this.status = status;
  }
}

/** No daemon answers at the socket. */
export class NoDaemonError extends CliError {
  constructor(host: string, reason: string) {
    super(
      `Cannot connect to the swarmd daemon at ${host} (${reason}). Is it running? ` +
        "Start it with `swarmd daemon`.",
    );
    this.name = "NoDaemonError";
  }
}

type Target = { readonly socketPath: string } | { readonly host: string; readonly port: number };

function parseHost(host: string): Target {
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length) };
  const tcp = /^tcp:\/\/([^:/]+|\[[^\]]+\]):(\d+)$/.exec(host);
  if (tcp?.[1] !== undefined && tcp[2] !== undefined) {
    return { host: tcp[1], port: Number(tcp[2]) };
  }
  throw new CliError(`invalid host '${host}': use unix:///PATH or tcp://ADDRESS:PORT`, 2);
}

/** The Docker-compatible API over the daemon's socket. */
export class ApiClient {
  readonly host: string;
  readonly #target: Target;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 });

  constructor(host: string) {
    this.host = host;
    this.#target = parseHost(host);
  }

  /** JSON in, JSON out. Throws ApiError on an error status, NoDaemonError without an answer. */
  async call<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.open(method, path, options);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > MAX_ANSWER_BYTES) throw new CliError("the daemon's answer is too long");
    }
    const text = Buffer.concat(chunks).toString("utf8");
    return (text.trim() === "" ? undefined : JSON.parse(text)) as T;
  }

  get<T>(path: string, query: Query = {}): Promise<T> {
    return this.call<T>("GET", path, { query });
  }

  post<T>(path: string, body?: unknown, query: Query = {}): Promise<T> {
    return this.call<T>("POST", path, body === undefined ? { query } : { query, body });
  }

  /** Resolves when a daemon answers. */
  async ping(): Promise<void> {
    (await this.open("GET", "/_ping")).resume();
  }

  /** The raw answer, for streams. Throws as `call`. */
  async open(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const response = await this.#send(method, path, options);
    const status = response.statusCode ?? 0;
    if (status < 400) return response;
    let text = "";
    for await (const chunk of response) text += String(chunk);
    throw new ApiError(status, messageOf(text) ?? `status ${status}`);
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(method: string, path: string, options: RequestOptions): Promise<IncomingMessage> {
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const prefix = path.startsWith("/swarmd/") || path === "/_ping" ? "" : `/${API_VERSION}`;
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          ...this.#target,
          agent: this.#agent,
          method,
          path: `${prefix}${path}${queryString(options.query ?? {})}`,
          headers: {
            Host: "swarmd",
            ...(body === undefined
              ? {}
              : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
            ...options.headers,
          },
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        },
        resolve,
      );
      outgoing.on("error", (error: NodeJS.ErrnoException) => {
        const code = error.code ?? "";
        if (["ENOENT", "ECONNREFUSED", "EACCES"].includes(code)) {
          reject(new NoDaemonError(this.host, reasonOf(code)));
        } else reject(error);
      });
      if (options.stream === undefined) outgoing.end(body);
      else sendStream(options.stream, outgoing, reject);
    });
  }
}

/** The daemon may answer, and refuse, before it has read everything. */
function sendStream(from: Readable, to: ClientRequest, fail: (error: Error) => void): void {
  from.on("error", error => {
    to.destroy();
    fail(error);
  });
  to.on("response", () => from.unpipe(to));
  from.pipe(to);
}

function reasonOf(code: string): string {
  if (code === "EACCES") return "permission denied: be root or in the socket's group";
  return code === "ENOENT" ? "no such socket" : "nothing listens";
}

function messageOf(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "message" in value) {
      return String(value.message);
    }
  } catch {
    return text.trim() === "" ? null : text.trim();
  }
  return null;
}

function queryString(query: Query): string {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined) parts.set(key, String(value));
  }
  const text = parts.toString();
  return text === "" ? "" : `?${text}`;
}

/** Docker's `filters` parameter from `--filter key=value` flags. */
export function filtersQuery(filters: readonly string[]): string | undefined {
  if (filters.length === 0) return undefined;
  const byKey = new Map<string, Record<string, boolean>>();
  for (const filter of filters) {
    const at = filter.indexOf("=");
    if (at <= 0) throw new CliError(`invalid argument "${filter}": use --filter key=value`, 2);
    const key = filter.slice(0, at).trim().toLowerCase();
    const values = byKey.get(key) ?? {};
    values[filter.slice(at + 1).trim()] = true;
    byKey.set(key, values);
  }
  return JSON.stringify(Object.fromEntries(byKey));
}

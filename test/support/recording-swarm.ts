import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";

/**
 * A socket that answers as a manager of a swarm with nothing in it but what is put there, and keeps
 * what it was asked: what a client makes of a compose file, without a daemon.
 */
export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly query?: unknown;
  readonly auth?: unknown;
  readonly body?: unknown;
}

interface Stored {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: Readonly<Record<string, unknown>>;
}

type Kind = "networks" | "secrets" | "configs" | "services";

export interface SwarmWorld {
  /** Networks by name, with their scope. */
  readonly networks?: Readonly<Record<string, string>>;
  readonly secrets?: readonly string[];
  readonly configs?: readonly string[];
  /** Answers of a registry by image. */
  readonly images?: Readonly<Record<string, unknown>>;
  readonly isManager?: boolean;
  /** Answered with 400 and the message: "POST /services/create". */
  readonly refused?: Readonly<Record<string, string>>;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const NOT_FOUND = 404;

function isKind(word: string): word is Kind {
  return ["networks", "secrets", "configs", "services"].includes(word);
}

export class RecordingSwarm {
  readonly socket: string;
  readonly requests: RecordedRequest[] = [];
  readonly #world: SwarmWorld;
  readonly #stored: Readonly<Record<Kind, Map<string, Stored>>> = {
    networks: new Map(),
    secrets: new Map(),
    configs: new Map(),
    services: new Map(),
  };
  readonly #server: Server;

  constructor(dir: string, world: SwarmWorld) {
    this.socket = join(dir, "s");
    this.#world = world;
    for (const name of world.secrets ?? []) this.#put("secrets", { Name: name });
    for (const name of world.configs ?? []) this.#put("configs", { Name: name });
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  async listen(): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(this.socket, resolve));
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of request) text += String(chunk);
    const url = new URL(request.url ?? "/", "http://swarm");
    const path = decodeURIComponent(url.pathname.replace(/^\/v[\d.]+/, ""));
    const method = request.method ?? "";
    const body: unknown = text === "" ? undefined : JSON.parse(text);
    if (path !== "/_ping") this.#record(method, path, url, request, body);
    const refusal = this.#world.refused?.[`${method} ${path}`];
    const answer =
      refusal === undefined
        ? this.#answer(method, path, url, body)
        : { status: 400, body: { message: refusal } };
    response.writeHead(answer.status, {
      "Api-Version": "1.41",
      Ostype: "linux",
      "Content-Type": "application/json",
    });
    response.end(method === "HEAD" ? undefined : JSON.stringify(answer.body));
  }

  #record(method: string, path: string, url: URL, request: IncomingMessage, body: unknown): void {
    const query = [...url.searchParams].map(([key, value]): [string, unknown] => [
      key,
      key === "filters" ? JSON.parse(value) : value,
    ]);
    const auth = request.headers["x-registry-auth"];
    this.requests.push({
      method,
      path,
      ...(query.length === 0 ? {} : { query: Object.fromEntries(query) }),
      ...(typeof auth === "string"
        ? { auth: JSON.parse(Buffer.from(auth, "base64url").toString()) as unknown }
        : {}),
      ...(body === undefined ? {} : { body }),
    });
  }

  #answer(method: string, path: string, url: URL, body: unknown): Answer {
    const [, first = "", second, third] = path.split("/");
    if (first === "_ping") return { status: 200, body: "OK" };
    if (first === "info") {
      const isManager = this.#world.isManager ?? true;
      return { status: 200, body: { Swarm: { ControlAvailable: isManager } } };
    }
    if (first === "distribution") return this.#distribution(path);
    if (!isKind(first)) return missing(path);
    if (method === "POST" && second === "create") return this.#create(first, body);
    if (method === "POST" && third === "update") return this.#update(first, second ?? "", body);
    if (method === "DELETE") return this.#remove(first, second ?? "");
    return second === undefined ? this.#list(first, url) : this.#find(first, second);
  }

  #distribution(path: string): Answer {
    const image = path.replace(/^\/distribution\/(.*)\/json$/, "$1");
    const known = this.#world.images?.[image];
    return known === undefined ? missing(image) : { status: 200, body: known };
  }

  #put(kind: Kind, spec: Readonly<Record<string, unknown>>): Stored {
    const name = String(spec["Name"]);
    const index = (this.#stored[kind].get(name)?.Version.Index ?? 10) + 1;
    const stored = { ID: `id-of-${name}`, Version: { Index: index }, Spec: spec };
    this.#stored[kind].set(name, stored);
    return stored;
  }

  #create(kind: Kind, body: unknown): Answer {
    const { ID } = this.#put(kind, body as Readonly<Record<string, unknown>>);
    return { status: 201, body: kind === "networks" ? { Id: ID } : { ID } };
  }

  #update(kind: Kind, id: string, body: unknown): Answer {
    if (this.#byId(kind, id) === undefined) return missing(id);
    this.#put(kind, body as Readonly<Record<string, unknown>>);
    return { status: 200, body: kind === "services" ? { Warnings: ["mind the gap"] } : {} };
  }

  #remove(kind: Kind, id: string): Answer {
    const held = this.#byId(kind, id);
    if (held === undefined) return missing(id);
    this.#stored[kind].delete(String(held.Spec["Name"]));
    return { status: 200, body: {} };
  }

  #byId(kind: Kind, id: string): Stored | undefined {
    return [...this.#stored[kind].values()].find(one => one.ID === id);
  }

  #find(kind: Kind, name: string): Answer {
    const scope = kind === "networks" ? this.#world.networks?.[name] : undefined;
    if (scope !== undefined) return { status: 200, body: { Id: name, Name: name, Scope: scope } };
    const held = this.#stored[kind].get(name) ?? this.#byId(kind, name);
    return held === undefined ? missing(name) : { status: 200, body: held };
  }

  /** Lists by label or by name; networks show their name outside of a spec. */
  #list(kind: Kind, url: URL): Answer {
    const filters = JSON.parse(url.searchParams.get("filters") ?? "{}") as {
      label?: Record<string, boolean>;
      name?: Record<string, boolean>;
    };
    const labels = Object.keys(filters.label ?? {});
    const names = Object.keys(filters.name ?? {});
    const found = [...this.#stored[kind].values()].filter(({ Spec }) => {
      const own = Object.entries((Spec["Labels"] ?? {}) as Record<string, string>);
      const isLabelled = labels.every(label => own.some(pair => pair.join("=") === label));
      return isLabelled && (names.length === 0 || names.includes(String(Spec["Name"])));
    });
    const shown = kind === "networks" ? found.map(({ ID, Spec }) => ({ ...Spec, Id: ID })) : found;
    return { status: 200, body: shown };
  }
}

function missing(what: string): Answer {
  return { status: NOT_FOUND, body: { message: `${what} not found` } };
}

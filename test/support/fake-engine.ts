import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Answer = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** Stands in for the local Engine: answers what a test says, 404 as the Engine does else. */
export class FakeEngine {
  readonly socketPath: string;
  /** Method and path without version, as received. */
  readonly requests: string[] = [];
  readonly #dir = mkdtempSync(join(tmpdir(), "fake-engine-"));
  readonly #answers = new Map<string, Answer>();
  readonly #server = http.createServer();
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.socketPath = join(this.#dir, "docker.sock");
    this.json("GET /info", { ID: "ENGINE", MemTotal: 1024, Swarm: { LocalNodeState: "inactive" } });
    this.json("GET /version", { ApiVersion: "1.43", MinAPIVersion: "1.12", Components: [] });
    this.json("GET /networks", [{ Name: "bridge", Id: "b".repeat(64), Scope: "local" }]);
    this.on("GET /_ping", (_request, response) => {
      response.writeHead(200, { "Api-Version": "1.43", "Builder-Version": "2", Ostype: "linux" });
      response.end("OK");
    });
    this.#server.on("connection", socket => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("request", (request, response) => {
      const { pathname } = new URL(request.url ?? "/", "http://docker");
      const key = `${request.method} ${pathname.replace(/^\/v\d+\.\d+/, "")}`;
      this.requests.push(key);
      const answer = this.#answers.get(key);
      if (answer !== undefined) return answer(request, response);
      response.writeHead(404, { "Content-Type": "application/json" });
      response.end('{"message":"page not found"}\n');
    });
    // A hijacked connection says who it is and then gives back what it gets.
    this.#server.on("upgrade", (request, socket, head) => {
      this.requests.push(`UPGRADE ${request.url}`);
      socket.on("error", () => socket.destroy());
      socket.write("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
      socket.write(head);
      socket.pipe(socket);
    });
  }

  on(key: string, answer: Answer): void {
    this.#answers.set(key, answer);
  }

  json(key: string, body: unknown, status = 200): void {
    this.on(key, (_request, response) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    });
  }

  start(): Promise<void> {
    return new Promise(resolve => this.#server.listen(this.socketPath, () => resolve()));
  }

  /** Ends every connection and takes the socket away. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON; null when it is none. */
  readonly body: unknown;
}

/** One request over a unix socket. */
export function ask(
  socketPath: string,
  method: string,
  path: string,
  options: {
    readonly json?: unknown;
    readonly text?: string;
    readonly headers?: http.OutgoingHttpHeaders;
    readonly agent?: http.Agent;
  } = {},
): Promise<Reply> {
  const payload = options.json === undefined ? options.text : JSON.stringify(options.json);
  return new Promise((resolve, reject) => {
    const request = http.request({
      socketPath,
      method,
      path,
      ...(options.agent === undefined ? {} : { agent: options.agent }),
      headers: { "Content-Type": "application/json", ...options.headers },
    });
    request.on("error", reject);
    request.on("response", response => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const { statusCode: status = 0, headers } = response;
        resolve({ status, headers, text, body: parsed(text) });
      });
    });
    request.end(payload);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

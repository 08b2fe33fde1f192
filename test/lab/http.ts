import http from "node:http";

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** The decoded body if it is JSON, else its text. */
  readonly body: unknown;
  readonly text: string;
}

export interface RequestOptions {
  readonly timeoutMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * One request over a Unix socket; a body is sent as JSON. Every status is an answer, not an error;
 * it rejects when nothing answers in time, naming the socket.
 */
export function request(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  options: RequestOptions = {},
): Promise<Answer> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const headers = { ...(payload === undefined ? {} : jsonHeaders(payload)), ...options.headers };
  const what = `${method} ${path} on ${socketPath}`;
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(new Error(`${what}: ${error.message}`, { cause: error }));
    // Without an agent every call has its own connection, so a restarted daemon is met afresh.
    const call = http.request(
      {
        socketPath,
        method,
        path,
        headers,
        agent: false,
        signal: AbortSignal.timeout(timeoutMs),
      },
      response => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", fail);
        response.on("end", () => resolve(toAnswer(response, Buffer.concat(chunks).toString())));
      },
    );
    call.on("error", error =>
      fail(error.name === "AbortError" ? new Error(`no answer within ${timeoutMs} ms`) : error),
    );
    call.end(payload);
  });
}

function jsonHeaders(payload: string): Record<string, string> {
  return {
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(payload)),
  };
}

function toAnswer(response: http.IncomingMessage, text: string): Answer {
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: decode(response.headers["content-type"], text),
    text,
  };
}

function decode(contentType: string | undefined, text: string): unknown {
  if (contentType === undefined || !contentType.includes("json")) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** True when something accepts connections there. */
export function accepts(socketPath: string, timeoutMs = 1_000): Promise<boolean> {
  return request(socketPath, "GET", "/_ping", undefined, { timeoutMs }).then(
    () => true,
    () => false,
  );
}

import { errorMessage, SwarmError } from "../../base/errors.ts";

/** Answers that say "not now": the Engine is busy with the same container, or going down. */
const LATER = [
  /is already in progress/,
  /is marked for removal/,
  /is being removed/,
  /daemon is shutting down/i,
  /context canceled/,
  /containerd[^:]*: (?:connection refused|connection error|no such file)/,
  /transport is closing/,
];

const SOCKET_ERRORS: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "EPIPE",
  "EACCES",
  "ENOTDIR",
  "ENOTSOCK",
  "ETIMEDOUT",
  "ERR_STREAM_PREMATURE_CLOSE",
]);

/** dockerode puts its own words before the Engine's. */
const PREFIX = /^\(HTTP code \d+\) (?:unexpected|bad parameter|no such [a-z]+|server error) - /;

/** What dockerode throws for an answer of 400 or more. */
interface HttpError extends Error {
  readonly statusCode?: number;
  readonly json?: unknown;
  readonly code?: string;
}

/** Turns what a call to the Engine threw into the errors that Executor promises. */
export function engineError(error: unknown, socketPath: string): SwarmError {
  if (error instanceof SwarmError) return error;
  if (!(error instanceof Error)) return new SwarmError("internal", String(error));
  const http: HttpError = error;
  if (http.statusCode !== undefined) return httpError(http.statusCode, engineWords(http), error);
  const text = `the Docker Engine does not answer at ${socketPath}: ${errorMessage(error)}`;
  const known = SOCKET_ERRORS.has(http.code ?? "") || /socket hang up|aborted/.test(error.message);
  return new SwarmError(known ? "unavailable" : "internal", text, {}, error);
}

function engineWords(error: HttpError): string {
  const json = error.json;
  if (typeof json === "object" && json !== null && "message" in json) {
    if (typeof json.message === "string") return json.message.trim();
  }
  return error.message.replace(PREFIX, "").trim();
}

function httpError(status: number, words: string, cause: Error): SwarmError {
  const details = { status };
  if (status === 503 || LATER.some(pattern => pattern.test(words))) {
    return new SwarmError("unavailable", words, details, cause);
  }
  if (status === 404) {
    const missing = missingThing(words);
    return new SwarmError("not_found", words, { ...details, missing }, cause);
  }
  if (status === 409) return new SwarmError("already_exists", words, details, cause);
  return new SwarmError(status >= 500 ? "internal" : "invalid_argument", words, details, cause);
}

function missingThing(words: string): string {
  if (/no such image/i.test(words)) return "image";
  return /no such container/i.test(words) ? "container" : "other";
}

import type { IncomingMessage } from "node:http";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import { AFTER_TOP_LEVEL, goSyntaxProblem } from "./json-syntax.ts";

/** A config of 1000 KiB in base64 and its envelope fit several times over. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** Deeper than any Docker document. */
export const MAX_JSON_DEPTH = 64;
/** A client that sends slower than this is not waited for; nor one that sends nothing for a while. */
export const BODY_TIMEOUT_MS = 30_000;
export const BODY_IDLE_TIMEOUT_MS = 10_000;

/**
 * The whole body, bounded in size and time. What is refused is left unread: Node reads it off when
 * the answer has been sent, so the connection stays usable.
 */
export function readBody(request: IncomingMessage, clock: Clock): Promise<Buffer> {
  const declared = Number(request.headers["content-length"] ?? 0);
  if (declared > MAX_BODY_BYTES) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (act: () => void): void => {
      timer.cancel();
      idle.cancel();
      request.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
      act();
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      idle.cancel();
      idle = clock.setTimer("api-body-idle", BODY_IDLE_TIMEOUT_MS, onSlow);
      if (size > MAX_BODY_BYTES) settle(() => reject(tooLarge()));
      else chunks.push(chunk);
    };
    const onEnd = (): void => settle(() => resolve(Buffer.concat(chunks)));
    const onClose = (): void => settle(() => reject(clientGone()));
    const onSlow = (): void => settle(() => reject(tooSlow()));
    const timer = clock.setTimer("api-body", BODY_TIMEOUT_MS, onSlow);
    let idle = clock.setTimer("api-body-idle", BODY_IDLE_TIMEOUT_MS, onSlow);
    request.on("data", onData).on("end", onEnd).on("close", onClose).on("error", onClose);
  });
}

function clientGone(): SwarmError {
  return new SwarmError("canceled", "the client went away");
}

function tooSlow(): SwarmError {
  const [whole, next] = [BODY_TIMEOUT_MS / 1000, BODY_IDLE_TIMEOUT_MS / 1000];
  const text = `the request body did not arrive within ${whole} s, or nothing of it for ${next} s`;
  return new SwarmError("deadline_exceeded", text, { http: 408 });
}

function tooLarge(): SwarmError {
  const text = `request body too large: more than ${MAX_BODY_BYTES} bytes`;
  return new SwarmError("invalid_argument", text, { http: 413 });
}

/** A body is read up to the end of its value, a parameter as a whole: Go has two ways to say so. */
export type JsonKind = "body" | "parameter";

/** Parses a document, with Go's words for what is wrong with it. */
export function parseJson(text: string, kind: JsonKind = "body"): unknown {
  if (kind === "body" && text.trim() === "") {
    throw new SwarmError("invalid_argument", "got EOF while reading request body");
  }
  checkDepth(text);
  try {
    return mayNamePrototype(text) ? JSON.parse(text, dropPrototypeKey) : JSON.parse(text);
  } catch (error) {
    throw new SwarmError("invalid_argument", syntaxError(text, kind), {}, error);
  }
}

function syntaxError(text: string, kind: JsonKind): string {
  const problem = goSyntaxProblem(text);
  if (problem === null) return kind === "body" ? "unexpected EOF" : "unexpected end of JSON input";
  const isAfter = kind === "body" && problem.endsWith(AFTER_TOP_LEVEL);
  return isAfter ? "unexpected content after JSON" : problem;
}

/** The key would be an ordinary property here and a trap for whoever copies it. */
function dropPrototypeKey(key: string, value: unknown): unknown {
  return key === "__proto__" ? undefined : value;
}

function mayNamePrototype(text: string): boolean {
  return text.includes("__proto__") || text.includes("\\u");
}

function checkDepth(text: string): void {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i];
    if (quoted) {
      if (c === "\\") i += 1;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === "{" || c === "[") depth += 1;
    else if (c === "}" || c === "]") depth -= 1;
    if (depth > MAX_JSON_DEPTH) {
      throw new SwarmError("invalid_argument", "exceeded max depth of JSON document");
    }
  }
}

/** What Go calls the type of a JSON value. */
export function jsonKind(value: unknown): string {
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}

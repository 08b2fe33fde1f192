import { SwarmError } from "../../base/errors.ts";
import type { ControlClient, LogRequest } from "../../control/ports.ts";
import type { LogMessage } from "../../model/assignment.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import { oddlyInternal } from "../../model/validate-errors.ts";
import { toHttpError } from "../errors.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { boolParam } from "../query.ts";
import { writeChunk } from "../stream.ts";
import { atLeast } from "../version.ts";

/** Stream ids of Docker's multiplexed format (pkg/stdcopy). */
const STREAM_ID = { stdout: 1, stderr: 2, systemError: 3 } as const;
const FRAME_HEADER_BYTES = 8;
const LENGTH_OFFSET = 4;
const MULTIPLEXED_TYPE = "application/vnd.docker.multiplexed-stream";
const RAW_TYPE = "application/vnd.docker.raw-stream";
const NS_PER_MS = 1_000_000n;
const NS_PER_S = 1_000_000_000n;

interface Selector {
  readonly serviceIds: readonly string[];
  readonly taskIds: readonly string[];
  /** A terminal's output has one stream and no frames. */
  readonly tty: boolean;
}

function isTty(spec: ServiceSpec | null): boolean {
  return spec?.TaskTemplate?.ContainerSpec?.TTY === true;
}

async function ofService(
  control: ControlClient,
  ref: string,
  signal: AbortSignal,
): Promise<Selector> {
  const service = await control.call("service.get", { ref }, signal);
  return { serviceIds: [service.id], taskIds: [], tty: isTty(service.spec) };
}

async function ofTask(control: ControlClient, ref: string, signal: AbortSignal): Promise<Selector> {
  const { task, spec } = await control.call("task.get", { ref }, signal);
  return { serviceIds: [], taskIds: [task.id], tty: isTty(spec) };
}

function readOptions(query: URLSearchParams): LogRequest["options"] {
  const stdout = boolParam(query, "stdout");
  const stderr = boolParam(query, "stderr");
  if (!stdout && !stderr) {
    const text = "Bad parameters: you must choose at least one stream";
    throw new SwarmError("invalid_argument", text, { http: 500 });
  }
  return {
    stdout,
    stderr,
    follow: boolParam(query, "follow"),
    tail: readTail(query.get("tail") ?? ""),
    sinceMs: readSince(query.get("since") ?? ""),
  };
}

function readTail(text: string): number {
  if (text === "" || text === "all") return -1;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  if (/^-\d{1,9}$/.test(text)) throw oddlyInternal("negative tail values not supported");
  throw oddlyInternal('tail value must be a positive integer or "all"');
}

/** Seconds since 1970 with an optional fraction. */
function readSince(text: string): number {
  if (text === "" || text === "0") return 0;
  if (/^\d{1,12}(?:\.\d{1,9})?$/.test(text)) return Math.floor(Number(text) * 1_000);
  throw oddlyInternal(
    `could not parse since timestamp: strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`,
  );
}

function logsOf(
  select: (control: ControlClient, ref: string, signal: AbortSignal) => Promise<Selector>,
): (exchange: Exchange) => Promise<void> {
  return async exchange => {
    const options = readOptions(exchange.query);
    const control = exchange.control();
    const selector = await select(control, exchange.param("ref"), exchange.signal);
    await send(exchange, control, selector, options);
  };
}

async function send(
  exchange: Exchange,
  control: ControlClient,
  selector: Selector,
  options: LogRequest["options"],
): Promise<void> {
  const { response, query, signal, version } = exchange;
  const { serviceIds, taskIds, tty } = selector;
  const lines = control.logs({ serviceIds, taskIds, options }, signal)[Symbol.asyncIterator]();
  const services = new TaskServices(control, serviceIds[0] ?? null, signal);
  const timestamps = boolParam(query, "timestamps");
  const details = boolParam(query, "details");
  const type = tty ? RAW_TYPE : MULTIPLEXED_TYPE;
  // Older clients get no type (moby daemon/server/router/swarm, before API 1.42).
  response.writeHead(200, atLeast(version, 42) ? { "Content-Type": type } : {});
  response.flushHeaders();
  try {
    for (;;) {
      const next = await lines.next();
      if (next.done) break;
      const prefix =
        (timestamps ? `${logTime(next.value.timestampNs)} ` : "") +
        (details ? `${detailsText(next.value, await services.of(next.value.taskId))} ` : "");
      const text = Buffer.concat([Buffer.from(prefix), next.value.data]);
      const id = STREAM_ID[next.value.stream];
      if (!(await writeChunk(response, tty ? text : frame(id, text)))) break;
    }
  } catch (error) {
    // The answer has begun: the error is told inside the stream.
    const text = Buffer.from(`Error grabbing logs: ${toHttpError(error).message}\n`);
    if (!signal.aborted) await writeChunk(response, frame(STREAM_ID.systemError, text));
  } finally {
    await lines.return?.();
  }
  response.end();
}

/** The service of each task, for the details of its lines. */
class TaskServices {
  readonly #known = new Map<string, string>();
  readonly #control: ControlClient;
  readonly #serviceId: string | null;
  readonly #signal: AbortSignal;

  constructor(control: ControlClient, serviceId: string | null, signal: AbortSignal) {
    this.#control = control;
    this.#serviceId = serviceId;
    this.#signal = signal;
  }

  async of(taskId: string): Promise<string> {
    if (this.#serviceId !== null) return this.#serviceId;
    const known = this.#known.get(taskId);
    if (known !== undefined) return known;
    const { task } = await this.#control.call("task.get", { ref: taskId }, this.#signal);
    this.#known.set(taskId, task.serviceId);
    return task.serviceId;
  }
}

function frame(streamId: number, data: Buffer): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt8(streamId, 0);
  header.writeUInt32BE(data.length, LENGTH_OFFSET);
  return Buffer.concat([header, data]);
}

/** RFC 3339 with nine digits, as Docker's logs have it. */
function logTime(timestampNs: string): string {
  const ns = BigInt(timestampNs);
  const seconds = new Date(Number(ns / NS_PER_MS)).toISOString().slice(0, 19);
  return `${seconds}.${(ns % NS_PER_S).toString().padStart(9, "0")}Z`;
}

/** Where the line is from and what its log driver adds, `key=value` in order of key. */
function detailsText(message: LogMessage, serviceId: string): string {
  const all: Readonly<Record<string, string>> = {
    ...message.attrs,
    "com.docker.swarm.node.id": message.nodeId,
    "com.docker.swarm.service.id": serviceId,
    "com.docker.swarm.task.id": message.taskId,
  };
  return Object.keys(all)
    .sort()
    .map(key => `${encodeURIComponent(key)}=${encodeURIComponent(all[key] ?? "")}`)
    .join(",");
}

export const LOG_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/services/{ref}/logs", handler: logsOf(ofService) },
  { method: "GET", pattern: "/tasks/{ref}/logs", handler: logsOf(ofTask) },
];

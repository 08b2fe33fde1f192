import type { IncomingMessage } from "node:http";
import { type ApiClient, ApiError } from "../client.ts";
import type { CliContext } from "../context.ts";
import { shortId } from "../format/human.ts";
import type { ApiNode, ApiService, ApiTask } from "../types.ts";
import { parseDuration, usage } from "./parse.ts";

export interface LogFlags {
  readonly details?: boolean;
  readonly follow?: boolean;
  readonly resolve: boolean;
  readonly taskIds: boolean;
  readonly trunc: boolean;
  readonly raw?: boolean;
  readonly since?: string;
  readonly tail: string;
  readonly timestamps?: boolean;
}

const HEADER_BYTES = 8;
const NS_PER_MS = 1e6;
const PREFIX = "com.docker.swarm.";

interface Frame {
  readonly stderr: boolean;
  readonly data: Buffer;
}

/** Docker's multiplexed stream: 8 bytes of header (stream, size), then the data. */
async function* frames(response: IncomingMessage): AsyncGenerator<Frame, void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of response) {
    rest = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
    for (;;) {
      if (rest.length < HEADER_BYTES) break;
      const size = rest.readUInt32BE(4);
      if (rest.length < HEADER_BYTES + size) break;
      const data = rest.subarray(HEADER_BYTES, HEADER_BYTES + size);
      yield { stderr: rest[0] === 2, data };
      rest = rest.subarray(HEADER_BYTES + size);
    }
  }
}

function sinceQuery(context: CliContext, since: string | undefined): string | undefined {
  if (since === undefined) return undefined;
  if (/^\d+(\.\d+)?$/.test(since)) return since;
  const stamp = Date.parse(since);
  if (!Number.isNaN(stamp)) return String(stamp / 1_000);
  return String((context.nowMs() - parseDuration("since", since) / NS_PER_MS) / 1_000);
}

function tailQuery(tail: string): string {
  if (tail === "all" || /^\d{1,9}$/.test(tail)) return tail;
  throw usage("tail", tail, 'a whole number, 0 or more, or "all" is needed');
}

/** `web.1.abc123@w1`, padded so that the lines stand under each other. */
class Names {
  readonly #client: ApiClient;
  readonly #flags: LogFlags;
  readonly #known = new Map<string, string>();
  #width = 0;

  constructor(client: ApiClient, flags: LogFlags) {
    this.#client = client;
    this.#flags = flags;
  }

  async of(taskId: string, nodeId: string): Promise<string> {
    const known = this.#known.get(taskId) ?? (await this.#resolve(taskId, nodeId));
    this.#known.set(taskId, known);
    this.#width = Math.max(this.#width, known.length);
    return known.padEnd(this.#width);
  }

  async #resolve(taskId: string, nodeId: string): Promise<string> {
    const id = this.#flags.trunc ? shortId(taskId) : taskId;
    if (!this.#flags.resolve) return `${id}@${nodeId}`;
    try {
      const task = await this.#client.get<ApiTask>(`/tasks/${taskId}`);
      const service = await this.#client.get<ApiService>(`/services/${task.ServiceID}`);
      const node = await this.#client.get<ApiNode>(`/nodes/${nodeId}`);
      const slot = task.Slot === undefined || task.Slot === 0 ? task.NodeID : task.Slot;
      const name = `${service.Spec.Name}.${slot}${this.#flags.taskIds ? `.${id}` : ""}`;
      return `${name}@${node.Description?.Hostname ?? nodeId}`;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return `${id}@${nodeId}`;
    }
  }
}

/** Docker puts the details first: `key=value,key=value rest of the line`. */
function splitDetails(line: string): { details: Map<string, string>; rest: string } {
  const at = line.indexOf(" ");
  const words = (at < 0 ? line : line.slice(0, at)).split(",");
  const details = new Map<string, string>();
  for (const word of words) {
    const [key = "", value = ""] = word.split("=");
    details.set(decodeURIComponent(key), decodeURIComponent(value));
  }
  return { details, rest: at < 0 ? "" : line.slice(at + 1) };
}

async function openLogs(
  client: ApiClient,
  ref: string,
  query: Readonly<Record<string, string | number | undefined>>,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const path = `/${encodeURIComponent(ref)}/logs`;
  try {
    return await client.open("GET", `/services${path}`, { query, signal });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
  try {
    return await client.open("GET", `/tasks${path}`, { query, signal });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    throw new ApiError(404, `no such task or service: ${ref}`);
  }
}

/** `service logs`. */
export async function printLogs(context: CliContext, ref: string, flags: LogFlags): Promise<void> {
  const client = context.client();
  const raw = flags.raw === true;
  const query = {
    stdout: 1,
    stderr: 1,
    details: raw && flags.details !== true ? undefined : 1,
    follow: flags.follow === true ? 1 : undefined,
    timestamps: flags.timestamps === true ? 1 : undefined,
    tail: tailQuery(flags.tail),
    since: sinceQuery(context, flags.since),
  };
  const response = await openLogs(client, ref, query, context.signal);
  const names = new Names(client, flags);
  const isNotAbort = (error: unknown): boolean => !context.signal.aborted && error !== undefined;
  try {
    for await (const frame of frames(response)) {
      const text = frame.data.toString("utf8");
      const line = raw ? text : await neat(names, text, flags);
      if (frame.stderr) context.warn(line.replace(/\n$/, ""));
      else context.out(line);
    }
  } catch (error) {
    if (isNotAbort(error)) throw error;
  }
}

async function neat(names: Names, text: string, flags: LogFlags): Promise<string> {
  let line = text;
  let stamp = "";
  if (flags.timestamps === true) {
    const at = line.indexOf(" ");
    stamp = `${line.slice(0, at)} `;
    line = line.slice(at + 1);
  }
  const { details, rest } = splitDetails(line);
  const taskId = details.get(`${PREFIX}task.id`) ?? "";
  const nodeId = details.get(`${PREFIX}node.id`) ?? "";
  for (const key of [...details.keys()]) if (key.startsWith(PREFIX)) details.delete(key);
  const extra =
    flags.details === true && details.size > 0
      ? `${[...details].map(([key, value]) => `${key}=${value}`).join(",")} `
      : "";
  return `${stamp}${await names.of(taskId, nodeId)}    | ${extra}${rest}`;
}

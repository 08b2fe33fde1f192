import http from "node:http";
import { createInterface } from "node:readline";
import { request } from "../lab/http.ts";
import type { LabHost } from "../lab/lab.ts";
import {
  type ContainerLog,
  type Inspected,
  type Labels,
  TASK_LABEL,
} from "./core/container-log.ts";
import type { ContainerSeen } from "./core/converged.ts";
import { pause } from "./pause.ts";

const API = "/v1.41";
const RECONNECT_MS = 200;
const LIST_TIMEOUT_MS = 20_000;
const NS_PER_MS = 1_000_000;

interface RawEvent {
  readonly Action?: string;
  readonly Actor?: { readonly ID?: string; readonly Attributes?: Labels };
  readonly timeNano?: number;
}

interface RawContainer {
  readonly Id: string;
  readonly Names?: readonly string[];
  readonly Labels?: Labels;
  readonly State?: string;
}

interface RawInspect {
  readonly Id: string;
  readonly Name: string;
  readonly Config: { readonly Labels?: Labels };
  readonly State: {
    readonly Running: boolean;
    readonly StartedAt: string;
    readonly FinishedAt: string;
    readonly ExitCode: number;
  };
}

/**
 * Follows the containers of one host by its Engine's own events; whenever it has to connect again
 * it looks at all of them.
 */
export class EngineWatch {
  readonly #host: LabHost;
  readonly #log: ContainerLog;
  #heardMs = Date.now();

  constructor(host: LabHost, log: ContainerLog) {
    this.#host = host;
    this.#log = log;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#follow(signal).catch(() => undefined); // The Engine is away; it is asked again.
      await pause(RECONNECT_MS, signal);
    }
  }

  /** Takes in what is there now; for the end of a run. */
  async look(): Promise<void> {
    const fromMs = Date.now();
    const found = await inspectAll(this.#host);
    this.#log.snapshot(this.#host.name, found, {
      heardMs: this.#heardMs,
      fromMs,
      toMs: Date.now(),
    });
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const response = await openEvents(this.#host, signal);
    const lines = createInterface({ input: response });
    try {
      const looked = this.look();
      looked.catch(() => response.destroy());
      for await (const line of lines) {
        this.#onEvent(JSON.parse(line) as RawEvent);
        this.#heardMs = Date.now();
      }
      await looked;
    } finally {
      lines.close();
      response.destroy();
      this.#heardMs = Math.min(this.#heardMs, Date.now());
    }
  }

  #onEvent({ Action, Actor, timeNano }: RawEvent): void {
    this.#log.event(this.#host.name, {
      action: Action ?? "",
      containerId: Actor?.ID ?? "",
      attributes: Actor?.Attributes ?? {},
      atMs: Math.round((timeNano ?? 0) / NS_PER_MS),
    });
  }
}

function openEvents(host: LabHost, signal: AbortSignal): Promise<http.IncomingMessage> {
  const filters = encodeURIComponent(JSON.stringify({ type: ["container"], label: [TASK_LABEL] }));
  return new Promise((resolve, reject) => {
    const call = http.request(
      {
        socketPath: host.dockerSocketPath,
        path: `${API}/events?filters=${filters}`,
        agent: false,
        signal,
      },
      resolve,
    );
    call.on("error", reject);
    call.end();
  });
}

async function get<T>(host: LabHost, path: string): Promise<T | null> {
  const answer = await request(host.dockerSocketPath, "GET", `${API}${path}`, undefined, {
    timeoutMs: LIST_TIMEOUT_MS,
  });
  if (answer.status === 404) return null;
  if (answer.status !== 200) throw new Error(`${host.name}: ${path}: ${answer.status}`);
  return answer.body as T;
}

async function list(host: LabHost): Promise<readonly RawContainer[]> {
  const filters = encodeURIComponent(JSON.stringify({ label: [TASK_LABEL] }));
  return (await get<RawContainer[]>(host, `/containers/json?all=1&filters=${filters}`)) ?? [];
}

/** The containers of tasks on a host, also ended ones. */
export async function listContainers(host: LabHost): Promise<readonly ContainerSeen[]> {
  return (await list(host)).map(({ Id, Labels: labels, State }) => ({
    host: host.name,
    id: Id,
    taskId: labels?.[TASK_LABEL] ?? "",
    running: State === "running",
  }));
}

async function inspectAll(host: LabHost): Promise<readonly Inspected[]> {
  const found = await Promise.all(
    (await list(host)).map(({ Id }) => get<RawInspect>(host, `/containers/${Id}/json`)),
  );
  return found.flatMap(one => (one === null ? [] : [inspected(one)]));
}

function inspected({ Id, Name, Config, State }: RawInspect): Inspected {
  return {
    id: Id,
    name: Name.replace(/^\//, ""),
    labels: Config.Labels ?? {},
    running: State.Running,
    startedMs: timeMs(State.StartedAt),
    finishedMs: timeMs(State.FinishedAt),
    exitCode: State.ExitCode,
  };
}

/** 0 for Go's zero time. */
function timeMs(text: string): number {
  return Math.max(0, Date.parse(text) || 0);
}

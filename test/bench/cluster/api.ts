import { type Answer, request } from "../../lab/http.ts";

/**
 * The Docker API (v1.41) as both systems speak it, over a daemon's socket. No command line, no
 * client library: what is timed is the daemon.
 */
const API = "/v1.41";
const CALL_TIMEOUT_MS = 60_000;

export interface NodeRow {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: Readonly<Record<string, unknown>>;
  readonly Description?: { readonly Hostname?: string };
  readonly Status?: { readonly State?: string };
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability?: string } | null;
}

export interface TaskRow {
  readonly ID: string;
  readonly NodeID?: string;
  readonly DesiredState: string;
  readonly Status: { readonly State: string };
}

export interface ServiceRow {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: ServiceSpec;
  readonly UpdateStatus?: { readonly State?: string; readonly Message?: string };
}

export interface ServiceSpec {
  readonly Name: string;
  readonly TaskTemplate: {
    readonly ContainerSpec: { readonly Image: string };
    readonly ForceUpdate?: number;
  };
  readonly Mode: { readonly Replicated: { readonly Replicas: number } };
  readonly UpdateConfig?: Readonly<Record<string, unknown>>;
}

export class ApiFault extends Error {
  readonly status: number;

  constructor(what: string, answer: Answer) {
    super(`${what}: ${answer.status} ${answer.text.trim()}`);
    this.status = answer.status;
  }
}

export async function call<T>(
  socket: string,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<T> {
  const answer = await request(socket, method, `${API}${path}`, body, { timeoutMs });
  if (answer.status >= 400) throw new ApiFault(`${method} ${path} on ${socket}`, answer);
  return answer.body as T;
}

export function filtered(
  path: string,
  filters: Readonly<Record<string, readonly string[]>>,
): string {
  return `${path}?filters=${encodeURIComponent(JSON.stringify(filters))}`;
}

import { errorMessage } from "../../src/base/errors.ts";
import { type Answer, request } from "../lab/http.ts";
import type { LabHost } from "../lab/lab.ts";
import { judge, type Reply, type Verdict } from "./core/outcome.ts";

/** The Docker API of one manager, as a client that records what it got. */

const API = "/v1.41";
/** Longer than the daemon's own limit of 15 s: its answer is what is looked at. */
export const CALL_TIMEOUT_MS = 25_000;
/** Errors of connect(2): nothing was sent. */
const UNREACHABLE = ["ENOENT", "ECONNREFUSED"];

export interface Called {
  readonly reply: Reply;
  readonly verdict: Verdict;
  readonly body: unknown;
  readonly startMs: number;
  readonly endMs: number;
}

export async function call(
  host: Pick<LabHost, "socketPath">,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<Called> {
  const startMs = Date.now();
  const { reply, answer } = await send(host, method, `${API}${path}`, body, timeoutMs);
  const called = { reply, verdict: judge(reply), startMs, endMs: Date.now() };
  return { ...called, body: answer?.body };
}

async function send(
  host: Pick<LabHost, "socketPath">,
  method: string,
  path: string,
  body: unknown,
  timeoutMs: number,
): Promise<{ readonly reply: Reply; readonly answer: Answer | null }> {
  try {
    const answer = await request(host.socketPath, method, path, body, { timeoutMs });
    return { reply: { kind: "answer", status: answer.status, text: answer.text }, answer };
  } catch (error) {
    const text = errorMessage(error);
    const sent = !UNREACHABLE.includes(codeOf(error));
    return { reply: { kind: sent ? "lost" : "unreachable", text }, answer: null };
  }
}

function codeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : null;
  const code = cause instanceof Error && "code" in cause ? cause.code : "";
  return typeof code === "string" ? code : "";
}

export function statusOf({ reply }: Called): number {
  return reply.kind === "answer" ? reply.status : 0;
}

/** The parts of the API's objects that are read here. */
export interface Versioned {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: {
    readonly Name?: string;
    /** Nodes only. */
    readonly Availability?: string;
    readonly Labels?: Readonly<Record<string, string>>;
  };
}

export interface ServiceAnswer extends Versioned {
  readonly Spec: Versioned["Spec"] & {
    readonly TaskTemplate: {
      readonly ContainerSpec: {
        readonly Image: string;
        readonly Labels?: Readonly<Record<string, string>>;
      };
      readonly Placement?: { readonly Constraints?: readonly string[] };
    };
    readonly Mode: { readonly Replicated?: { readonly Replicas?: number } };
  };
  readonly UpdateStatus?: { readonly State?: string };
}

export interface TaskAnswer {
  readonly ID: string;
  readonly ServiceID?: string;
  readonly NodeID?: string;
  readonly Slot?: number;
  readonly DesiredState: string;
  readonly Spec: ServiceAnswer["Spec"]["TaskTemplate"];
  readonly Status: {
    readonly State: string;
    readonly Message?: string;
    readonly Err?: string;
    readonly ContainerStatus?: { readonly ContainerID?: string };
  };
}

export interface NodeAnswer extends Versioned {
  readonly Description?: { readonly Hostname?: string };
  readonly Status?: { readonly State?: string };
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability?: string } | null;
}

import { SwarmError } from "../base/errors.ts";
import type { TaskStatusUpdate } from "../model/assignment.ts";
import { parseIp } from "../model/ip.ts";
import { MESH_LAGGING_MAX } from "../model/mesh.ts";
import type { NodeDescription } from "../model/rows.ts";
import { TASK_STATES } from "../model/task-state.ts";

/** Status updates in one message; an honest node sends at most this many. */
export const MAX_UPDATES_PER_MESSAGE = 1_000;
const MAX_TEXT_CHARS = 4_096;
/** 32 bytes in base64. */
const WIREGUARD_KEY = /^[A-Za-z0-9+/]{43}=$/;

/** Ends of the mesh at one node: of the present generation and of the one before. */
const MAX_MESH_KEYS = 2;

const KNOWN_STATES: ReadonlySet<string> = new Set(TASK_STATES);

function parse(json: string, what: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return { ...value };
    }
  } catch (error) {
    throw new SwarmError("invalid_argument", `${what} is not JSON`, {}, error);
  }
  throw new SwarmError("invalid_argument", `${what} is not a JSON object`);
}

/** The fields of what should be an object; none when it is not. */
function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function clip(value: unknown): string {
  return typeof value === "string" ? value.slice(0, MAX_TEXT_CHARS) : "";
}

function count(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : 0;
}

/** An address goes into other nodes' commands: it must be one. */
function overlayOf(value: unknown): Pick<NodeDescription, "overlay"> {
  if (typeof value !== "object" || value === null) return {};
  const fields = fieldsOf(value);
  const addr = clip(fields["addr"]);
  const publicKey = clip(fields["publicKey"]);
  return {
    overlay: {
      addr: parseIp(addr) === null ? "" : addr,
      publicKey: WIREGUARD_KEY.test(publicKey) ? publicKey : "",
      ...(fields["ipv6"] === true && { ipv6: true }),
      ...meshOf(fields),
      problem: clip(fields["problem"]),
    },
  };
}

/** Keys go into other nodes' commands as well. */
function meshOf(fields: Readonly<Record<string, unknown>>): object {
  const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
  const meshKeys = list(fields["meshKeys"])
    .slice(0, MAX_MESH_KEYS)
    .map(value => {
      const { generation, publicKey } = fieldsOf(value);
      return { generation: count(generation), publicKey: clip(publicKey) };
    })
    .filter(key => Number.isInteger(key.generation) && WIREGUARD_KEY.test(key.publicKey));
  const lagging = list(fields["lagging"]).slice(0, MESH_LAGGING_MAX).map(clip);
  return {
    ...(fields["changesKeys"] === true && { changesKeys: true }),
    ...(meshKeys.length > 0 && { meshKeys }),
    ...(lagging.length > 0 && { lagging }),
  };
}

/** A node's description of itself, made safe: the sender may be compromised (T1, T16). */
export function decodeDescription(json: string): NodeDescription {
  const raw = parse(json, "node description");
  const resources = fieldsOf(raw["resources"]);
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(fieldsOf(raw["engineLabels"]))) {
    labels[clip(key)] = clip(value);
  }
  const plugins = Array.isArray(raw["plugins"]) ? (raw["plugins"] as unknown[]) : [];
  return {
    hostname: clip(raw["hostname"]),
    architecture: clip(raw["architecture"]),
    os: clip(raw["os"]),
    resources: {
      nanoCpus: count(resources["nanoCpus"]),
      memoryBytes: count(resources["memoryBytes"]),
      generic: Array.isArray(resources["generic"])
        ? (resources["generic"] as NodeDescription["resources"]["generic"])
        : [],
    },
    engineVersion: clip(raw["engineVersion"]),
    engineLabels: labels,
    plugins: plugins.map(plugin => {
      const fields = fieldsOf(plugin);
      return { type: clip(fields["type"]), name: clip(fields["name"]) };
    }),
    ...overlayOf(raw["overlay"]),
  };
}

/** Task statuses as a node reports them, made safe. */
export function decodeStatusUpdates(updatesJson: readonly string[]): TaskStatusUpdate[] {
  if (updatesJson.length > MAX_UPDATES_PER_MESSAGE) {
    throw new SwarmError(
      "invalid_argument",
      `a status message holds ${updatesJson.length} updates, at most ${MAX_UPDATES_PER_MESSAGE} are taken`,
    );
  }
  return updatesJson.map(json => {
    const { taskId, status } = parse(json, "task status");
    const fields = fieldsOf(status);
    const state = clip(fields["state"]);
    if (typeof taskId !== "string" || !KNOWN_STATES.has(state)) {
      throw new SwarmError("invalid_argument", `a task status has the unknown state '${state}'`);
    }
    return {
      taskId,
      status: {
        state: state as TaskStatusUpdate["status"]["state"],
        timestampMs: count(fields["timestampMs"]),
        message: clip(fields["message"]),
        err: clip(fields["err"]),
        containerId: clip(fields["containerId"]),
        pid: count(fields["pid"]),
        exitCode: typeof fields["exitCode"] === "number" ? fields["exitCode"] : 0,
        ports: Array.isArray(fields["ports"])
          ? (fields["ports"] as TaskStatusUpdate["status"]["ports"])
          : [],
      },
    };
  });
}

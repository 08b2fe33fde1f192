import { validateLabelCount } from "./labels.ts";
import type { NodeSpec, SwarmSpec } from "./rows.ts";
import { decodeJson } from "./validate-decode.ts";
import { badRequest, goQuote, refusal } from "./validate-errors.ts";
import { NODE_SPEC_SHAPE, SWARM_SPEC_SHAPE } from "./validate-shapes.ts";

const ROLES = ["worker", "manager"] as const;
const AVAILABILITIES = ["active", "pause", "drain"] as const;

/** Reads a NodeSpec from parsed JSON, in moby's words. Throws invalid_argument. */
export function validateNodeSpec(input: unknown): NodeSpec {
  const spec = (decodeJson(NODE_SPEC_SHAPE, input) ?? {}) as Partial<NodeSpec>;
  const { Role: role = "", Availability: availability = "" } = spec;
  const knownRole = ROLES.find(candidate => candidate === role.toLowerCase());
  if (knownRole === undefined) throw badRequest(`invalid Role: ${goQuote(role)}`);
  const known = AVAILABILITIES.find(candidate => candidate === availability.toLowerCase());
  if (known === undefined) throw badRequest(`invalid Availability: ${goQuote(availability)}`);
  validateLabelCount(spec.Labels);
  return { ...spec, Role: knownRole, Availability: known };
}

/** What a client sends of a SwarmSpec: any part of it may be missing. */
export type SentSwarmSpec = {
  readonly [K in keyof SwarmSpec]?: SwarmSpec[K] extends object
    ? Partial<SwarmSpec[K]>
    : SwarmSpec[K];
};

/** Reads a SwarmSpec from parsed JSON, before it is merged over another. */
export function normalizeSwarmSpec(input: unknown): SentSwarmSpec {
  const spec = (decodeJson(SWARM_SPEC_SHAPE, input) ?? {}) as SentSwarmSpec;
  if ((spec.Name ?? "default") !== "default" && spec.Name !== "") {
    throw badRequest('swarm spec must be named "default"');
  }
  for (const authority of spec.CAConfig?.ExternalCAs ?? []) {
    const protocol = String(authority["Protocol"] ?? "");
    if (protocol.toLowerCase() !== "cfssl") {
      throw badRequest(`invalid protocol: ${goQuote(protocol)}`);
    }
  }
  return spec;
}

const NS_PER_HOUR = 3_600_000_000_000;

/** The least life of a node's certificate (SwarmKit ca.MinNodeCertExpiration). */
export const MIN_CERT_EXPIRY_NS = NS_PER_HOUR;

/** Rules of a merged SwarmSpec, in SwarmKit's words. Throws invalid_argument. */
export function validateSwarmSpec(spec: SwarmSpec): void {
  if (spec.CAConfig.NodeCertExpiry < MIN_CERT_EXPIRY_NS) {
    throw refusal("minimum certificate expiry time is: 1h0m0s");
  }
  if (spec.Dispatcher.HeartbeatPeriod < 0) {
    throw refusal("heartbeat time period cannot be a negative duration");
  }
  if (spec.Name !== "default") throw refusal("modification of cluster name is not allowed");
  const { ElectionTick: election, HeartbeatTick: heartbeat } = spec.Raft;
  if (heartbeat < 1 || election <= heartbeat) {
    throw refusal(
      `invalid raft ticks: HeartbeatTick (${heartbeat}) must be at least 1 ` +
        `and ElectionTick (${election}) above it`,
    );
  }
  validateLabelCount(spec.Labels);
}

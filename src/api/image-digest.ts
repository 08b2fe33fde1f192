import { isSwarmError } from "../base/errors.ts";
import { type ImageReference, parseImageReference } from "../model/reference.ts";
import type { Exchange } from "./exchange.ts";
import { parseJson } from "./json-body.ts";
import { atLeast } from "./version.ts";

type Json = Readonly<Record<string, unknown>>;

/** From this version on clients ask the registry themselves. */
const CLIENTS_ASK_SINCE = 30;
const REGISTRY_TIMEOUT_MS = 30_000;

/** A spec for the cluster, and what its client should know of it. */
export interface PinnedSpec {
  readonly spec: object;
  readonly warnings: readonly string[];
}

/**
 * For old clients the image's tag becomes the digest that it has at the registry now, so that every
 * node runs the same (moby daemon/cluster/services.go). Without an answer it stays, with a warning.
 */
export async function pinImage(exchange: Exchange, spec: object): Promise<PinnedSpec> {
  const template = objectAt(spec, "TaskTemplate");
  const container = objectAt(template, "ContainerSpec");
  const image = container["Image"];
  const asked = !atLeast(exchange.version, CLIENTS_ASK_SINCE);
  if (!asked || typeof image !== "string" || image === "") return { spec, warnings: [] };
  const pinned = await withDigest(exchange, image);
  if (pinned === null) return { spec, warnings: [warningFor(image)] };
  const ContainerSpec = { ...container, Image: pinned };
  return { spec: { ...spec, TaskTemplate: { ...template, ContainerSpec } }, warnings: [] };
}

function objectAt(value: object, key: string): Json {
  const found = (value as Json)[key];
  return typeof found === "object" && found !== null ? (found as Json) : {};
}

/** Null when the registry does not say; what has a digest is not asked for. */
async function withDigest(exchange: Exchange, image: string): Promise<string | null> {
  let reference: ImageReference;
  try {
    reference = parseImageReference(image);
  } catch (error) {
    // Refused a moment later, in the words of the cluster.
    if (isSwarmError(error, "invalid_argument")) return image;
    throw error;
  }
  if (reference.digest !== "") return image;
  const { engine } = exchange.deps;
  const auth = exchange.request.headers["x-registry-auth"];
  const path = await engine.versioned(`/distribution/${image}/json`);
  const answer = await engine.request("GET", path, {
    signal: exchange.signal,
    timeoutMs: REGISTRY_TIMEOUT_MS,
    ...(typeof auth === "string" ? { headers: { "X-Registry-Auth": auth } } : {}),
  });
  if (answer.status !== 200) return null;
  const { digest } = objectAt(parseJson(answer.body.toString("utf8")) as Json, "Descriptor");
  if (typeof digest !== "string") return null;
  return `${reference.tag === "" ? `${image}:latest` : image}@${digest}`;
}

function warningFor(image: string): string {
  return (
    `image ${image} could not be accessed on a registry to record\n` +
    `its digest. Each node will access ${image} independently,\n` +
    "possibly leading to different nodes running different\nversions of the image.\n"
  );
}

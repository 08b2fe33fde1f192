import { isSwarmError } from "../base/errors.ts";
import { badRequest } from "./validate-errors.ts";

/** A reference to an image, normalized as Docker does (distribution reference grammar). */
export interface ImageReference {
  /** "docker.io" when not said. */
  readonly domain: string;
  /** "library/nginx": official images get their prefix. */
  readonly path: string;
  /** Empty when not said. */
  readonly tag: string;
  /** "sha256:…"; empty when not said. */
  readonly digest: string;
}

const DEFAULT_DOMAIN = "docker.io";
const LEGACY_DOMAIN = "index.docker.io";
const OFFICIAL_PREFIX = "library/";

/** Characters of domain and path together. */
const NAME_LENGTH_MAX = 255;
/** Beyond any valid reference; bounds the work of the patterns. */
const REFERENCE_LENGTH_MAX = 1024;

const DOMAIN_COMPONENT = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const IPV6 = String.raw`\[[a-fA-F0-9:]+\]`;
const DOMAIN = new RegExp(
  String.raw`^(?:${DOMAIN_COMPONENT}(?:\.${DOMAIN_COMPONENT})*|${IPV6})(?::[0-9]+)?$`,
);
const PATH_COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const PATH = new RegExp(`^${PATH_COMPONENT}(?:/${PATH_COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;

/** Hexadecimal digits of a digest, by algorithm (OCI image specification). */
const DIGEST_LENGTHS: ReadonlyMap<string, number> = new Map([
  ["sha256", 64],
  ["sha384", 96],
  ["sha512", 128],
]);

/** Reads an image reference. Throws invalid_argument in the words of Docker's library. */
export function parseImageReference(text: string): ImageReference {
  if (text.length > REFERENCE_LENGTH_MAX) throw badRequest("invalid reference format");
  if (/^[a-f0-9]{64}$/.test(text)) {
    throw badRequest(
      `invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`,
    );
  }
  const { domain, remainder } = splitDomain(text);
  const { path, tag, digest } = splitRemainder(remainder);
  if (path.toLowerCase() !== path) {
    throw badRequest(`invalid reference format: repository name (${path}) must be lowercase`);
  }
  const wellFormed =
    DOMAIN.test(domain) &&
    PATH.test(path) &&
    (tag === null || TAG.test(tag)) &&
    (digest === null || isDigest(digest));
  if (!wellFormed) throw badRequest("invalid reference format");
  if (domain.length + 1 + path.length > NAME_LENGTH_MAX) {
    throw badRequest("repository name must not be more than 255 characters");
  }
  return { domain, path, tag: tag ?? "", digest: digest ?? "" };
}

/** Whether `text` names an image. */
export function isImageReference(text: string): boolean {
  try {
    parseImageReference(text);
    return true;
  } catch (error) {
    if (isSwarmError(error, "invalid_argument")) return false;
    throw error;
  }
}

/** The first component is a host when it has a dot, a port, a capital, or is "localhost". */
function splitDomain(text: string): { domain: string; remainder: string } {
  const slash = text.indexOf("/");
  const first = text.slice(0, Math.max(slash, 0));
  const isHost = /[.:]/.test(first) || first === "localhost" || first.toLowerCase() !== first;
  const said = slash >= 0 && isHost ? first : DEFAULT_DOMAIN;
  const remainder = slash >= 0 && isHost ? text.slice(slash + 1) : text;
  const domain = said === LEGACY_DOMAIN ? DEFAULT_DOMAIN : said;
  const official = domain === DEFAULT_DOMAIN && !remainder.includes("/");
  return { domain, remainder: official ? OFFICIAL_PREFIX + remainder : remainder };
}

function splitRemainder(text: string): {
  path: string;
  tag: string | null;
  digest: string | null;
} {
  const at = text.indexOf("@");
  const named = at < 0 ? text : text.slice(0, at);
  const colon = named.indexOf(":");
  return {
    path: colon < 0 ? named : named.slice(0, colon),
    tag: colon < 0 ? null : named.slice(colon + 1),
    digest: at < 0 ? null : text.slice(at + 1),
  };
}

function isDigest(text: string): boolean {
  const [algorithm = "", hex = "", ...rest] = text.split(":");
  const length = DIGEST_LENGTHS.get(algorithm);
  return rest.length === 0 && hex.length === length && /^[a-f0-9]+$/.test(hex);
}

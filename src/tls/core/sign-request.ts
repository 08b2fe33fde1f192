import { SwarmError } from "../../base/errors.ts";
import { type NodeName, unitOfRole } from "../../pki/core/names.ts";

/** Profile that a CA keeps for certificates of other CAs (SwarmKit ca/external.go). */
const CROSS_SIGN_PROFILE = "CA";
/** Managers answer under this name too, as in swarm mode. */
const CA_UNIT = "swarm-ca";
const BASIC_CONSTRAINTS = "2.5.29.19";
/** The most that is told on of what an external CA says. */
const MAX_QUOTED_CHARS = 300;

/** CFSSL's request for a node's certificate (api/v1/cfssl/sign); its subject is the cluster's. */
export function nodeSignRequest(csrPem: string, { nodeId, role, clusterId }: NodeName): string {
  const unit = unitOfRole(role);
  return JSON.stringify({
    hosts: [unit, nodeId, ...(role === "manager" ? [CA_UNIT] : [])],
    certificate_request: csrPem,
    subject: { CN: nodeId, names: [{ O: clusterId, OU: unit }] },
    profile: "",
    crl_override: "",
    label: "",
  });
}

/** CFSSL's request for a certificate of the next root; it copies no extension from the request. */
export function crossSignRequest(
  csrPem: string,
  root: { readonly commonName: string; readonly basicConstraintsHex: string },
): string {
  const isCa = { id: BASIC_CONSTRAINTS, critical: true, value: root.basicConstraintsHex };
  return JSON.stringify({
    hosts: [],
    certificate_request: csrPem,
    subject: { CN: root.commonName, names: [] },
    profile: CROSS_SIGN_PROFILE,
    crl_override: "",
    label: "",
    extensions: [isCa],
  });
}

/**
 * The certificate of CFSSL's answer, PEM. Throws unavailable for what may pass (no JSON, another
 * status), failed_precondition when the CA has looked and says no.
 */
export function certificateOfAnswer(status: number, body: string): string {
  if (status !== 200) {
    throw new SwarmError("unavailable", `it answered with status ${status}: ${quoted(body)}`);
  }
  const answer = parsed(body);
  const certificate = fieldOf(fieldOf(answer, "result"), "certificate");
  if (fieldOf(answer, "success") === true && typeof certificate === "string") return certificate;
  const errors = fieldOf(answer, "errors");
  const said = Array.isArray(errors) && errors.length > 0 ? JSON.stringify(errors) : body;
  throw new SwarmError("failed_precondition", `it refused: ${quoted(said)}`);
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new SwarmError("unavailable", `its answer is no JSON: ${quoted(body)}`, {}, error);
  }
}

function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Readonly<Record<string, unknown>>)[name];
}

function quoted(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > MAX_QUOTED_CHARS ? `${line.slice(0, MAX_QUOTED_CHARS)}…` : line;
}

import { externalCaUrls, normalizePem, type Root } from "../../model/external-ca.ts";
import type { Cluster, SwarmSpec } from "../../model/rows.ts";
import type { OperationContext } from "../context.ts";
import { rpcError } from "../core/errors.ts";

type RootFields = Partial<
  Pick<Cluster, "rootCa" | "nextRoot" | "rootRotationInProgress" | "rootGeneration">
>;

function refusal(text: string): Error {
  return rpcError("invalid_argument", text);
}

/**
 * What a new CAConfig changes of the cluster's root (SwarmKit controlapi/ca_rotation.go). A
 * rotation begins when it is asked for by a higher count, or when another root comes, with its key
 * or with an external CA that has it. One under way is replaced. A root whose key the cluster has
 * not needs an external CA that can be reached.
 */
export async function rootChange(
  ctx: OperationContext,
  cluster: Cluster,
  { CAConfig: config }: SwarmSpec,
): Promise<RootFields> {
  const given = {
    certPem: normalizePem(config.SigningCACert ?? ""),
    keyPem: config.SigningCAKey ?? "",
  };
  if (given.certPem === "" && given.keyPem !== "") {
    throw refusal("if a signing CA key is provided, the signing CA cert must also be provided");
  }
  const needs = new Authorities(ctx, cluster, config);
  const bringsKey = isSame(given, cluster.rootCa) && given.keyPem !== "";
  if (cluster.rootCa.keyPem === "" && !bringsKey) {
    await needs.one(cluster.rootCa.certPem, "current");
  }
  if (given.certPem !== "") return givenRoot(ctx, cluster, given, needs);
  const before = cluster.spec.CAConfig.ForceRotate ?? 0;
  if ((config.ForceRotate ?? before) !== before) return rotation(ctx, cluster, null, needs);
  const { nextRoot } = cluster;
  if (nextRoot?.keyPem === "") await needs.one(nextRoot.certPem, "next");
  return {};
}

function isSame(a: Root, b: Root): boolean {
  return normalizePem(a.certPem) === normalizePem(b.certPem);
}

async function givenRoot(
  ctx: OperationContext,
  cluster: Cluster,
  given: Root,
  needs: Authorities,
): Promise<RootFields> {
  const { rootCa, nextRoot } = cluster;
  ctx.tokens.checkRoot(given);
  if (given.keyPem === "") await needs.one(given.certPem, "desired");
  if (isSame(given, rootCa)) {
    const fields = { rootCa: { certPem: rootCa.certPem, keyPem: given.keyPem } };
    return nextRoot ? { ...fields, ...rotationAborted(cluster) } : fields;
  }
  if (given.keyPem !== "" && given.keyPem === rootCa.keyPem) {
    throw refusal("Cannot update to a cert with an identical key");
  }
  // The rotation under way goes on; what changes is who signs.
  if (nextRoot && isSame(given, nextRoot))
    return { nextRoot: { ...nextRoot, keyPem: given.keyPem } };
  return rotation(ctx, cluster, given, needs);
}

/** Certificates of the root that is not to come any more are renewed. */
function rotationAborted({ rootGeneration = 0 }: Cluster): RootFields {
  return { nextRoot: null, rootRotationInProgress: false, rootGeneration: rootGeneration + 1 };
}

async function rotation(
  ctx: OperationContext,
  cluster: Cluster,
  given: Root | null,
  needs: Authorities,
): Promise<RootFields> {
  const { rootCa } = cluster;
  const isExternal = rootCa.keyPem === "";
  if (isExternal && given?.keyPem === "") {
    throw refusal("rotating from one external CA to a different external CA is not supported");
  }
  const urls = isExternal ? needs.urlsOf(rootCa.certPem) : [];
  const nextRoot = await ctx.tokens.nextRoot(rootCa, given, urls, ctx.signal);
  return { nextRoot, rootRotationInProgress: true };
}

/** The external CAs of the spec that is to be. */
class Authorities {
  readonly #ctx: OperationContext;
  readonly #cluster: Cluster;
  readonly #config: SwarmSpec["CAConfig"];

  constructor(ctx: OperationContext, cluster: Cluster, config: SwarmSpec["CAConfig"]) {
    this.#ctx = ctx;
    this.#cluster = cluster;
    this.#config = config;
  }

  urlsOf(rootPem: string): readonly string[] {
    return externalCaUrls(this.#config.ExternalCAs, rootPem, this.#cluster.rootCa.certPem);
  }

  /** Throws invalid_argument unless one of them can be reached. */
  async one(rootPem: string, which: "current" | "next" | "desired"): Promise<void> {
    const { tokens, signal } = this.#ctx;
    if (await tokens.reachesCa(this.urlsOf(rootPem), rootPem, signal)) return;
    throw refusal(
      "there must be at least one valid, reachable external CA corresponding to the " +
        `${which} CA certificate`,
    );
  }
}

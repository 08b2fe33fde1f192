import { SwarmError } from "../../base/errors.ts";
import { DEFAULT_SWARM_SPEC } from "../../model/defaults.ts";
import type { Cluster, SwarmSpec } from "../../model/rows.ts";
import { normalizeSwarmSpec, validateSwarmSpec } from "../../model/validate-cluster.ts";
import type { StateView } from "../../model/view.ts";
import type { OperationContext } from "../context.ts";
import { outOfSequence } from "../core/errors.ts";
import { mergeSwarmSpec } from "../core/swarm-spec.ts";
import type { OperationArgs, OperationResult, PublicCluster, Roots } from "../operations.ts";
import { rootChange } from "./root-change.ts";

export function clusterOf(view: StateView): Cluster {
  for (const cluster of view.table("cluster").all()) return cluster;
  throw new SwarmError("not_found", "This node is not part of a swarm");
}

/** The keys stay where they are. */
function withoutKey(cluster: Cluster): PublicCluster {
  const { rootCa: _root, nextRoot: _next, unlockKey: _key, mesh: _mesh, ...rest } = cluster;
  return { ...rest, ...rootsOf(cluster) };
}

export function rootsOf({ rootCa, nextRoot }: Cluster): Roots {
  return { rootCertPem: rootCa.certPem, nextRootCertPem: nextRoot?.certPem ?? "" };
}

export function getSwarm(ctx: OperationContext): OperationResult<"swarm.get"> {
  return withoutKey(clusterOf(ctx.view));
}

export async function updateSwarm(
  ctx: OperationContext,
  args: OperationArgs<"swarm.update">,
): Promise<OperationResult<"swarm.update">> {
  const spec = mergeSwarmSpec(DEFAULT_SWARM_SPEC, normalizeSwarmSpec(args.spec));
  validateSwarmSpec(spec);
  await ctx.exclusive(["swarm"], async () => {
    const cluster = clusterOf(ctx.view);
    if (cluster.version !== args.version) throw outOfSequence();
    const { certPem } = cluster.rootCa;
    const { joinTokens: old } = cluster;
    const { tokens } = ctx;
    const joinTokens = {
      worker: args.rotateWorkerToken ? tokens.newJoinToken("worker", certPem) : old.worker,
      manager: args.rotateManagerToken ? tokens.newJoinToken("manager", certPem) : old.manager,
    };
    await ctx.submit([
      {
        op: "patch",
        table: "cluster",
        id: cluster.id,
        fields: {
          spec: storedSpec(cluster, spec),
          joinTokens,
          unlockKey: nextUnlockKey(ctx, cluster, spec, args),
          ...(await rootChange(ctx, cluster, spec)),
        },
        ifVersion: cluster.version,
      },
    ]);
  });
  return {};
}

/**
 * A given root and its key have their place beside the spec, and no client sees them in it: one
 * that reads, changes and sends the spec would send half a root. A client that says nothing of
 * forced rotations asks for none.
 */
function storedSpec(cluster: Cluster, spec: SwarmSpec): SwarmSpec {
  const { SigningCAKey: _key, SigningCACert: _cert, ...CAConfig } = spec.CAConfig;
  const { ForceRotate } = cluster.spec.CAConfig;
  return {
    ...spec,
    CAConfig: { ...(ForceRotate === undefined ? {} : { ForceRotate }), ...CAConfig },
  };
}

/** There is one exactly while autolock is on (SwarmKit controlapi UpdateCluster). */
function nextUnlockKey(
  ctx: OperationContext,
  cluster: Cluster,
  spec: SwarmSpec,
  args: OperationArgs<"swarm.update">,
): string {
  if (!spec.EncryptionConfig.AutoLockManagers) return "";
  return args.rotateUnlockKey || !cluster.unlockKey ? ctx.tokens.newUnlockKey() : cluster.unlockKey;
}

export function systemInfo(ctx: OperationContext): OperationResult<"system.info"> {
  return {
    cluster: withoutKey(clusterOf(ctx.view)),
    nodes: ctx.view.table("nodes").size,
    managers: ctx.view.table("members").size,
  };
}

export function systemStatus(ctx: OperationContext): OperationResult<"system.status"> {
  return ctx.status();
}

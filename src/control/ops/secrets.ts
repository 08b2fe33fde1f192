import type { Change } from "../../model/change.ts";
import type { Config, Secret } from "../../model/rows.ts";
import {
  normalizeConfigSpec,
  normalizeSecretSpec,
  validateConfigSpec,
  validateSecretSpec,
} from "../../model/validate-objects.ts";
import type { OperationContext } from "../context.ts";
import { outOfSequence, rpcError } from "../core/errors.ts";
import { configTest, secretTest } from "../core/filters.ts";
import { findConfig, findSecret } from "../core/lookup.ts";
import { configsOf, refuseInUse, sameObject, secretsOf, usersOf } from "../core/references.ts";
import type { OperationArgs, OperationResult } from "../operations.ts";

/** Secret data goes to the nodes whose tasks need it and to nobody else. */
function withoutData(secret: Secret): Secret {
  const { Data: _, ...spec } = secret.spec;
  return { ...secret, spec };
}

export function listSecrets(
  ctx: OperationContext,
  args: OperationArgs<"secret.list">,
): OperationResult<"secret.list"> {
  const wanted = secretTest(args.filters);
  return [...ctx.view.table("secrets").all()].filter(wanted).map(withoutData);
}

export function getSecret(
  ctx: OperationContext,
  args: OperationArgs<"secret.get">,
): OperationResult<"secret.get"> {
  return withoutData(findSecret(ctx.view, args.ref));
}

export async function createSecret(
  ctx: OperationContext,
  args: OperationArgs<"secret.create">,
): Promise<OperationResult<"secret.create">> {
  const spec = normalizeSecretSpec(args.spec);
  validateSecretSpec(spec);
  const { id } = args;
  const existing = ctx.view.table("secrets").get(id);
  if (!sameObject(id, spec.Name, existing?.spec.Name)) {
    await ctx.submit([{ op: "create", table: "secrets", row: { id, spec } }]);
  }
  return { id };
}

export async function updateSecret(
  ctx: OperationContext,
  args: OperationArgs<"secret.update">,
): Promise<OperationResult<"secret.update">> {
  const sent = normalizeSecretSpec(args.spec);
  const secret = findSecret(ctx.view, args.ref);
  checkOnlyLabels(secret, sent);
  if (secret.version !== args.version) throw outOfSequence();
  const spec = { ...secret.spec, Labels: sent.Labels ?? {} };
  const { id, version: ifVersion } = secret;
  await ctx.submit([{ op: "patch", table: "secrets", id, fields: { spec }, ifVersion }]);
  return {};
}

export async function removeSecret(
  ctx: OperationContext,
  args: OperationArgs<"secret.remove">,
): Promise<OperationResult<"secret.remove">> {
  const { id, spec } = findSecret(ctx.view, args.ref);
  await ctx.exclusive([`secret/${id}`], async () => {
    const users = usersOf(ctx.view, of => secretsOf(of).some(ref => ref.SecretID === id));
    refuseInUse("secret", spec.Name, users);
    await ctx.submit([{ op: "delete", table: "secrets", id }]);
  });
  return {};
}

export function listConfigs(
  ctx: OperationContext,
  args: OperationArgs<"config.list">,
): OperationResult<"config.list"> {
  return [...ctx.view.table("configs").all()].filter(configTest(args.filters));
}

export function getConfig(
  ctx: OperationContext,
  args: OperationArgs<"config.get">,
): OperationResult<"config.get"> {
  return findConfig(ctx.view, args.ref);
}

export async function createConfig(
  ctx: OperationContext,
  args: OperationArgs<"config.create">,
): Promise<OperationResult<"config.create">> {
  const spec = normalizeConfigSpec(args.spec);
  validateConfigSpec(spec);
  const { id } = args;
  const existing = ctx.view.table("configs").get(id);
  if (!sameObject(id, spec.Name, existing?.spec.Name)) {
    await ctx.submit([{ op: "create", table: "configs", row: { id, spec } }]);
  }
  return { id };
}

export async function updateConfig(
  ctx: OperationContext,
  args: OperationArgs<"config.update">,
): Promise<OperationResult<"config.update">> {
  const sent = normalizeConfigSpec(args.spec);
  const config = findConfig(ctx.view, args.ref);
  checkOnlyLabels(config, sent);
  if (config.version !== args.version) throw outOfSequence();
  const spec = { ...config.spec, Labels: sent.Labels ?? {} };
  const { id, version: ifVersion } = config;
  const change: Change = { op: "patch", table: "configs", id, fields: { spec }, ifVersion };
  await ctx.submit([change]);
  return {};
}

export async function removeConfig(
  ctx: OperationContext,
  args: OperationArgs<"config.remove">,
): Promise<OperationResult<"config.remove">> {
  const { id, spec } = findConfig(ctx.view, args.ref);
  await ctx.exclusive([`config/${id}`], async () => {
    const users = usersOf(ctx.view, of => configsOf(of).some(ref => ref.ConfigID === id));
    refuseInUse("config", spec.Name, users);
    await ctx.submit([{ op: "delete", table: "configs", id }]);
  });
  return {};
}

/** Name and data are for life (SwarmKit controlapi UpdateSecret, UpdateConfig). */
function checkOnlyLabels(row: Secret | Config, sent: Secret["spec"] | Config["spec"]): void {
  const dataChanges = (sent.Data ?? "") !== "" && sent.Data !== row.spec.Data;
  if (sent.Name === row.spec.Name && !dataChanges) return;
  throw rpcError("invalid_argument", "only updates to Labels are allowed");
}

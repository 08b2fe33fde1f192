import { SwarmError } from "../../base/errors.ts";
import type { Service } from "../../model/rows.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import {
  normalizeServiceSpec,
  validateServiceSpec,
  validateServiceUpdate,
} from "../../model/validate-service.ts";
import type { StateView } from "../../model/view.ts";
import type { OperationContext } from "../context.ts";
import { outOfSequence } from "../core/errors.ts";
import { serviceTest } from "../core/filters.ts";
import { checkFixedAddresses, fixesAddresses } from "../core/fixed-addresses.ts";
import { findService, visibleServices } from "../core/lookup.ts";
import { checkPortConflicts } from "../core/ports.ts";
import {
  checkReferences,
  configsOf,
  networksOf,
  resolveNetworks,
  sameObject,
  secretsOf,
} from "../core/references.ts";
import { registryAuthOf, withRegistryAuth } from "../core/registry-auth.ts";
import { refuseLarge, rehearse, rehearsedSpec } from "../core/rehearsal.ts";
import {
  checkNetworksKept,
  createServiceChanges,
  rollbackOf,
  updateServiceChanges,
} from "../core/service-rows.ts";
import { serviceStatus } from "../core/status.ts";
import type { OperationArgs, OperationResult } from "../operations.ts";

export function listServices(
  ctx: OperationContext,
  args: OperationArgs<"service.list">,
): OperationResult<"service.list"> {
  const wanted = serviceTest(args.filters);
  return [...visibleServices(ctx.view)].filter(wanted).map(service => ({
    service,
    status: args.status ? serviceStatus(ctx.view, service) : null,
  }));
}

export function getService(
  ctx: OperationContext,
  args: OperationArgs<"service.get">,
): OperationResult<"service.get"> {
  return findService(ctx.view, args.ref);
}

/** What a service's creation or update must have to itself while it is checked and written. */
function lockKeys(spec: ServiceSpec): readonly string[] {
  return [
    ...((spec.EndpointSpec?.Ports ?? []).length > 0 ? ["ports"] : []),
    ...(fixesAddresses(spec) ? ["addresses"] : []),
    ...secretsOf(spec).map(ref => `secret/${ref.SecretID}`),
    ...configsOf(spec).map(ref => `config/${ref.ConfigID}`),
    ...networksOf(spec).map(ref => `network/${ref.Target}`),
  ];
}

/** Docker's order of checks: form, networks, rules, then what the spec refers to. */
function readSpec(view: StateView, input: unknown, fallbackName: string): ServiceSpec {
  const given = normalizeServiceSpec(input);
  const named = (given.Name ?? "") === "" ? { ...given, Name: fallbackName } : given;
  const spec = resolveNetworks(view, named);
  validateServiceSpec(spec);
  return spec;
}

export async function createService(
  ctx: OperationContext,
  args: OperationArgs<"service.create">,
): Promise<OperationResult<"service.create">> {
  const spec = withRegistryAuth(
    readSpec(ctx.view, args.spec, args.fallbackName),
    args.registryAuth,
  );
  const name = spec.Name ?? "";
  return ctx.exclusive(lockKeys(spec), async () => {
    const existing = ctx.view.table("services").get(args.id);
    if (sameObject(args.id, name, existing?.spec.Name)) return { id: args.id };
    checkPortConflicts(spec, visibleServices(ctx.view), "");
    checkReferences(ctx.view, spec);
    checkFixedAddresses(ctx.view, spec, args.id);
    await ctx.submit(createServiceChanges(args.id, spec, ctx.nowMs));
    return { id: args.id };
  });
}

export async function updateService(
  ctx: OperationContext,
  args: OperationArgs<"service.update">,
): Promise<OperationResult<"service.update">> {
  const given = readSpec(ctx.view, args.spec, args.fallbackName);
  await ctx.exclusive(lockKeys(given), async () => {
    const service = findService(ctx.view, args.ref);
    const auth = args.registryAuth || inheritedAuth(service, args.registryAuthFrom);
    const spec = withRegistryAuth(given, auth);
    const rollback = isRollback(args.rollback);
    if (JSON.stringify(spec.EndpointSpec) !== JSON.stringify(service.spec.EndpointSpec)) {
      checkPortConflicts(spec, visibleServices(ctx.view), service.id);
    }
    checkReferences(ctx.view, spec);
    checkFixedAddresses(ctx.view, spec, service.id);
    checkNetworksKept(service.spec, spec);
    validateServiceUpdate(service.spec, spec);
    const update = rollback ? rollbackOf(service, ctx.nowMs) : { spec, updateStatus: null };
    if (service.version !== args.version) throw outOfSequence();
    if (rollback) checkReferences(ctx.view, update.spec);
    await ctx.submit(updateServiceChanges(ctx.view, service, update, ctx.nowMs));
  });
  return {};
}

/** One at a time: each has a copy of the state. */
export async function planService(
  ctx: OperationContext,
  args: OperationArgs<"service.plan">,
): Promise<OperationResult<"service.plan">> {
  return ctx.exclusive(["plan"], () => planAlone(ctx, args));
}

/** The checks of a creation or an update, and then the planners instead of the write. */
async function planAlone(
  ctx: OperationContext,
  args: OperationArgs<"service.plan">,
): Promise<OperationResult<"service.plan">> {
  const { view, nowMs } = ctx;
  const spec = readSpec(view, args.spec, args.fallbackName);
  const service = args.ref === "" ? null : findService(view, args.ref);
  checkPortConflicts(spec, visibleServices(view), service?.id ?? "");
  checkReferences(view, spec);
  checkFixedAddresses(view, spec, service?.id ?? args.id);
  refuseLarge(spec);
  if (service === null) {
    return rehearse(ctx, args.id, createServiceChanges(args.id, spec, nowMs));
  }
  refuseLarge(service.spec);
  checkNetworksKept(service.spec, spec);
  validateServiceUpdate(service.spec, spec);
  const rehearsed = rehearsedSpec(spec, view.tasksOfService(service.id).length);
  const update = { spec: rehearsed, updateStatus: null };
  return rehearse(ctx, service.id, updateServiceChanges(view, service, update, nowMs));
}

/** The credentials to keep when an update brings none (Docker's `registryAuthFrom`). */
function inheritedAuth(service: Service, from: string): string {
  switch (from) {
    case "":
    case "spec":
      return registryAuthOf(service.spec);
    case "previous-spec":
      if (service.previousSpec === null) {
        throw new SwarmError("internal", "service does not have a previous spec");
      }
      return registryAuthOf(service.previousSpec);
    default:
      throw new SwarmError("internal", "unsupported registryAuthFrom value");
  }
}

function isRollback(option: string): boolean {
  if (option === "" || option === "none") return false;
  if (option === "previous") return true;
  throw new SwarmError("internal", `unrecognized rollback option ${option}`);
}

/** The service vanishes for its users at once; its row goes when its last task has stopped. */
export async function removeService(
  ctx: OperationContext,
  args: OperationArgs<"service.remove">,
): Promise<OperationResult<"service.remove">> {
  const { id } = findService(ctx.view, args.ref);
  await ctx.submit([{ op: "patch", table: "services", id, fields: { pendingDelete: true } }]);
  return {};
}

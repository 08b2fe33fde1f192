import { isSwarmError, SwarmError } from "../../base/errors.ts";
import { withoutPrefix } from "../../model/overlay.ts";
import type { Node, Task } from "../../model/rows.ts";
import { oddlyInternal } from "../../model/validate-errors.ts";
import { normalizeNetworkSpec, validateNetworkSpec } from "../../model/validate-objects.ts";
import type { StateView } from "../../model/view.ts";
import type { OperationContext } from "../context.ts";
import { rpcError } from "../core/errors.ts";
import { findNetwork, taskName } from "../core/lookup.ts";
import { planNetwork } from "../core/network-plan.ts";
import { nodesOn } from "../core/network-status.ts";
import { isIngress, refuseNetworkInUse, sameObject } from "../core/references.ts";
import type { NetworkService, NetworkView, OperationArgs, OperationResult } from "../operations.ts";
import { clusterOf } from "./swarm.ts";

export function listNetworks(ctx: OperationContext): OperationResult<"network.list"> {
  return [...ctx.view.table("networks").all()].map(network => ({
    network,
    services: [],
    peers: [],
  }));
}

export function getNetwork(
  ctx: OperationContext,
  args: OperationArgs<"network.get">,
): OperationResult<"network.get"> {
  const network = findNetwork(ctx.view, args.ref);
  const peers = nodesOn(ctx.view, network).map(node => ({ nodeId: node.id, addr: addrOf(node) }));
  return { network, services: servicesOf(ctx.view, network.id), peers } satisfies NetworkView;
}

/** Where other hosts send the packets of its networks. */
function addrOf(node: Node | undefined): string {
  return node?.description?.overlay?.addr || node?.status.addr || "";
}

function servicesOf(view: StateView, networkId: string): NetworkService[] {
  const byService = new Map<string, Task[]>();
  for (const task of tasksOn(view, networkId)) {
    const list = byService.get(task.serviceId);
    if (list === undefined) byService.set(task.serviceId, [task]);
    else list.push(task);
  }
  const places = (own: readonly Task[]): NetworkService["tasks"] =>
    own.map(task => ({
      name: task.serviceId === "" ? task.id : taskName(task),
      addr: addressOn(task, networkId),
      hostAddr: addrOf(view.table("nodes").get(task.nodeId)),
    }));
  return [...byService].flatMap(([id, own]) => {
    if (id === "") return [{ name: "", vip: "", ports: [], tasks: places(own) }];
    const service = view.table("services").get(id);
    if (service === undefined) return [];
    const { ports, virtualIps } = service.endpoint;
    const vip = virtualIps.find(one => one.networkId === networkId);
    const name = service.spec.Name ?? "";
    return [{ name, vip: withoutPrefix(vip?.addr ?? ""), ports, tasks: places(own) }];
  });
}

function addressOn(task: Task, networkId: string): string {
  const attachment = task.networks.find(one => one.networkId === networkId);
  return withoutPrefix(attachment?.addresses[0] ?? "");
}

function tasksOn(view: StateView, networkId: string): readonly Task[] {
  return [...view.table("tasks").all()].filter(
    task =>
      task.status.state === "running" &&
      task.networks.some(attachment => attachment.networkId === networkId),
  );
}

export async function createNetwork(
  ctx: OperationContext,
  args: OperationArgs<"network.create">,
): Promise<OperationResult<"network.create">> {
  const spec = normalizeNetworkSpec(args.spec);
  refuseTakenName(ctx.view, args.id, spec.Name);
  validateNetworkSpec(spec);
  await ctx.exclusive(["networks"], async () => {
    const existing = ctx.view.table("networks").get(args.id);
    if (sameObject(args.id, spec.Name, existing?.spec.Name)) return;
    if (spec["Ingress"] === true) checkOnlyIngress(ctx.view);
    const row = { id: args.id, spec, ...planNetwork(ctx.view, clusterOf(ctx.view), spec) };
    await ctx.submit([{ op: "create", table: "networks", row }]).catch(inPlainWords);
  });
  return { id: args.id };
}

/** Every Engine has these; swarm mode keeps them in its state, so they are taken. */
const PREDEFINED: ReadonlySet<string> = new Set(["bridge", "host"]);

/** Docker looks for the name before it looks at the rest. */
function refuseTakenName(view: StateView, id: string, name: string): void {
  if (name === "") throw oddlyInternal("invalid name: ");
  const isTaken = [...view.table("networks").all()].some(
    network => network.spec.Name === name && network.id !== id,
  );
  if (!isTaken && !PREDEFINED.has(name)) return;
  throw new SwarmError("already_exists", `network with name ${name} already exists`);
}

/** Docker finds a taken name before its control API is asked. */
function inPlainWords(error: unknown): never {
  if (!isSwarmError(error, "already_exists")) throw error;
  throw new SwarmError("already_exists", error.message, {}, error);
}

function checkOnlyIngress(view: StateView): void {
  for (const network of view.table("networks").all()) {
    if (!isIngress(network)) continue;
    const text = `ingress network (${network.id}) is already present`;
    throw rpcError("already_exists", text);
  }
}

export async function removeNetwork(
  ctx: OperationContext,
  args: OperationArgs<"network.remove">,
): Promise<OperationResult<"network.remove">> {
  const { id } = findNetwork(ctx.view, args.ref);
  await ctx.exclusive([`network/${id}`], async () => {
    refuseNetworkInUse(ctx.view, findNetwork(ctx.view, id));
    await ctx.submit([{ op: "delete", table: "networks", id }]);
  });
  return {};
}

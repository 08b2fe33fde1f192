import { toHttpError } from "../../src/api/errors.ts";
import type { OperationArgs, OperationName } from "../../src/control/operations.ts";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import type { ControlRig } from "./control-rig.ts";

export const never = new AbortController().signal;
let nextId = 0;

export function anId(): string {
  nextId += 1;
  return `${nextId}`.padStart(25, "a");
}

export function aSpec(name: string, fields: Partial<ServiceSpec> = {}): ServiceSpec {
  return { Name: name, TaskTemplate: { ContainerSpec: { Image: "app:1" } }, ...fields };
}

export async function create(rig: ControlRig, spec: unknown, registryAuth = ""): Promise<string> {
  const args = { id: anId(), spec, fallbackName: "quiet_lark7", registryAuth };
  return (await rig.client.call("service.create", args, never)).id;
}

export async function update(
  rig: ControlRig,
  ref: string,
  spec: unknown,
  more: Partial<OperationArgs<"service.update">> = {},
): Promise<void> {
  const { version } = await rig.client.call("service.get", { ref }, never);
  const args = {
    ref,
    spec,
    version,
    fallbackName: "other_name1",
    registryAuth: "",
    registryAuthFrom: "",
    rollback: "",
    ...more,
  };
  await rig.client.call("service.update", args, never);
}

/** Status and words as a Docker client gets them. */
export async function refusal<K extends OperationName>(
  rig: ControlRig,
  op: K,
  args: OperationArgs<K>,
): Promise<string> {
  return refused(rig.client.call(op, args, never));
}

export async function refused(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    const { status, message } = toHttpError(error);
    return `${status} ${message}`;
  }
  return "done";
}

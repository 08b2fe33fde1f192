import type { LogSource, NodeAsker } from "../../src/control/ports.ts";
import { type ApiRig, apiRig, type ControlRig, controlRig } from "./control-rig.ts";
import { ask, FakeEngine, type Reply } from "./fake-engine.ts";

interface Test {
  teardown(undo: () => Promise<void>): void;
}

export interface ManagerRig extends ControlRig {
  readonly engine: FakeEngine;
  readonly api: ApiRig;
  ask(method: string, path: string, options?: Parameters<typeof ask>[3]): Promise<Reply>;
}

/** A manager's API over a memory store, beside a fake Engine; ends with the test. */
export async function managerRig(
  t: Test,
  options: { readonly logs?: LogSource; readonly asker?: NodeAsker } = {},
): Promise<ManagerRig> {
  const engine = new FakeEngine();
  await engine.start();
  const control = controlRig(options);
  const api = await apiRig(control, engine.socketPath);
  t.teardown(async () => {
    await api.close();
    await engine.close();
  });
  return {
    ...control,
    engine,
    api,
    ask: (method, path, request) => ask(api.socketPath, method, path, request),
  };
}

/** The least that makes a service. */
export const SPEC = { Name: "web", TaskTemplate: { ContainerSpec: { Image: "app:1" } } };

/** Status and message of a refusal. */
export function message(reply: Reply): string {
  return `${reply.status} ${(reply.body as { message?: string } | null)?.message}`;
}

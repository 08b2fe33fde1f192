import { isTerminal } from "../../src/model/task-state.ts";
import type { StateView } from "../../src/model/view.ts";

/** What belongs to whom, each thing to one owner; remembers the first that has two. */
class Owners {
  readonly #owners = new Map<string, string>();
  clash = "";

  add(thing: string, owner: string): void {
    const before = this.#owners.get(thing) ?? owner;
    this.#owners.set(thing, owner);
    if (before !== owner) this.clash ||= `${before} and ${owner} both have ${thing}`;
  }
}

/** Empty, or a published port or an address of a network that two have. */
export function sharedAddress(view: StateView): string {
  const owners = new Owners();
  for (const service of view.table("services").all()) {
    if (!service.allocated) continue;
    for (const { networkId, addr } of service.endpoint.virtualIps) {
      owners.add(`${addr} of network ${networkId}`, `service ${service.id}`);
    }
    if (service.pendingDelete) continue;
    for (const port of service.endpoint.ports) {
      if (port.PublishMode === "host" || (port.PublishedPort ?? 0) === 0) continue;
      owners.add(`${port.PublishedPort}/${port.Protocol ?? "tcp"}`, `service ${service.id}`);
    }
  }
  for (const task of view.table("tasks").all()) {
    if (isTerminal(task.status.state)) continue;
    for (const { networkId, addresses } of task.networks) {
      for (const address of addresses) {
        owners.add(`${address} of network ${networkId}`, `task ${task.id}`);
      }
    }
  }
  return owners.clash;
}

import type { Clock } from "../../base/clock.ts";
import { isSwarmError } from "../../base/errors.ts";
import { familyOf } from "../../model/ip.ts";
import {
  NETWORK_ATTACHABLE_LABEL,
  NETWORK_ID_LABEL,
  type OverlayNetwork,
} from "../../model/overlay.ts";
import { CLUSTER_LABEL } from "../core/container-config.ts";
import { withDeadline } from "../deadline.ts";
import type { DockerEngine, EngineCall } from "./engine.ts";

/** Long enough for the Engine to ask its plugin and be answered late. */
const CALL_TIMEOUT_MS = 30_000;
const ID_CHARS = 12;

export interface EngineNetworksOptions {
  readonly clusterId: string;
  /** Name of the plugin, and its option that names the cluster's network. */
  readonly driver: string;
  readonly networkOption: string;
}

interface NetworkAnswer {
  readonly Id: string;
  readonly Name: string;
  readonly Driver?: string;
  readonly Labels?: Readonly<Record<string, string>> | null;
}

/** The cluster's networks as the local Engine must know them before a container can be on one. */
export class EngineNetworks {
  readonly #options: EngineNetworksOptions;
  readonly #engine: DockerEngine;
  readonly #clock: Clock;
  readonly #making = new Map<string, Promise<string>>();

  constructor(
    options: EngineNetworksOptions,
    deps: { readonly engine: DockerEngine; readonly clock: Clock },
  ) {
    this.#options = options;
    this.#engine = deps.engine;
    this.#clock = deps.clock;
  }

  /** The Engine's id of the network; makes it there when it is missing. */
  ensure(network: OverlayNetwork, signal: AbortSignal): Promise<string> {
    let making = this.#making.get(network.id);
    if (making === undefined) {
      making = this.#ensure(network, signal).finally(() => this.#making.delete(network.id));
      this.#making.set(network.id, making);
    }
    return making;
  }

  /** By the Engine's id. One that has containers, or is gone, is left alone. */
  async remove(engineId: string, signal: AbortSignal): Promise<void> {
    const call: EngineCall = { method: "DELETE", path: `/networks/${engineId}` };
    try {
      await this.#call(call, signal);
    } catch (error) {
      if (isSwarmError(error, "unavailable")) throw error;
      if (isSwarmError(error, "deadline_exceeded")) throw error;
    }
  }

  /** The cluster's networks that the Engine has: the Engine's id and the cluster's. */
  async list(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const filters = JSON.stringify({
      label: [`${CLUSTER_LABEL}=${this.#options.clusterId}`],
      driver: [this.#options.driver],
    });
    const call: EngineCall = { method: "GET", path: "/networks", query: { filters } };
    const found = await this.#call<readonly NetworkAnswer[]>(call, signal);
    return new Map(found.map(({ Id, Labels }) => [Id, Labels?.[NETWORK_ID_LABEL] ?? ""]));
  }

  async #ensure(network: OverlayNetwork, signal: AbortSignal): Promise<string> {
    for (const [engineId, networkId] of await this.list(signal)) {
      if (networkId === network.id) return engineId;
    }
    try {
      return await this.#create(network, network.name, signal);
    } catch (error) {
      if (!isSwarmError(error, "already_exists")) throw error;
    }
    // The user has a network of that name on this host: theirs keeps it.
    const name = `${network.name}-${network.id.slice(0, ID_CHARS)}`;
    return this.#create(network, name, signal);
  }

  async #create(network: OverlayNetwork, name: string, signal: AbortSignal): Promise<string> {
    const { driver, networkOption, clusterId } = this.#options;
    const options = { [networkOption]: network.id };
    const body = {
      Name: name,
      CheckDuplicate: true,
      Driver: driver,
      EnableIPv6: network.subnets.some(({ subnet }) => familyOf(subnet) === "ipv6"),
      Internal: network.internal,
      Attachable: true,
      Options: options,
      Labels: {
        [CLUSTER_LABEL]: clusterId,
        [NETWORK_ID_LABEL]: network.id,
        [NETWORK_ATTACHABLE_LABEL]: String(network.attachable),
      },
      IPAM: {
        Driver: driver,
        Options: options,
        Config: network.subnets.map(({ subnet, gateway }) => ({
          Subnet: subnet,
          Gateway: gateway,
        })),
      },
    };
    const call: EngineCall = { method: "POST", path: "/networks/create", body };
    const { Id } = await this.#call<{ readonly Id: string }>(call, signal);
    return Id;
  }

  #call<T>(call: EngineCall, signal: AbortSignal): Promise<T> {
    const what = `${call.method} ${call.path} of the Docker Engine`;
    return withDeadline(this.#clock, what, CALL_TIMEOUT_MS, signal, inner =>
      this.#engine.call<T>(call, inner),
    );
  }
}

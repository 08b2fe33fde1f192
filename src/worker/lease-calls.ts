import { Metadata } from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import type { SwarmError } from "../base/errors.ts";
import type { AskedAddress } from "../model/rows.ts";
import type { DispatcherClient } from "../rpc/gen/swarmd/v1/dispatcher.ts";

/** The Engine waits for it. */
const LEASE_TIMEOUT_MS = 10_000;

/** An address, CIDR, and the row that holds it. */
export interface LeasedAddress {
  readonly taskId: string;
  readonly address: string;
}

export interface LeaseCallsDeps {
  readonly client: DispatcherClient;
  readonly clock: Clock;
  readonly toError: (error: unknown) => SwarmError;
}

/** Addresses of plain containers, asked of the leader that serves this node's session. */
export class LeaseCalls {
  readonly #deps: LeaseCallsDeps;

  constructor(deps: LeaseCallsDeps) {
    this.#deps = deps;
  }

  lease(networkId: string, asked: AskedAddress): Promise<LeasedAddress> {
    const { client, toError } = this.#deps;
    const request = { networkId, ipv6: asked.family === "ipv6", address: asked.address ?? "" };
    return new Promise((resolve, reject) => {
      client.leaseAddress(request, new Metadata(), this.#options(), (error, lease) => {
        if (error !== null) reject(toError(error));
        else resolve(lease);
      });
    });
  }

  release(taskId: string): Promise<void> {
    const { client, toError } = this.#deps;
    return new Promise((resolve, reject) => {
      const lease = { taskId, address: "" };
      client.releaseAddress(lease, new Metadata(), this.#options(), error => {
        if (error !== null) reject(toError(error));
        else resolve();
      });
    });
  }

  #options(): { readonly deadline: number } {
    return { deadline: this.#deps.clock.nowMs() + LEASE_TIMEOUT_MS };
  }
}

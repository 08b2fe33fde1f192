import { hostname } from "node:os";
import type { JoinRequest } from "../api/ports.ts";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError, toSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import { RpcClients } from "../rpc/clients.ts";
import { callLeader } from "../rpc/leader-call.ts";
import type { Identity } from "../rpc/ports.ts";
import { joinRequest } from "../tls/join.ts";
import { requestLeave } from "./membership.ts";
import { timeoutSignal } from "./timeout-signal.ts";

export const LEAVE_GROUP_TIMEOUT_MS = 3_000;

export interface AdmissionDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** Asks for a certificate with the join token, through the first of the addresses that answers. */
export async function askAdmission(
  request: JoinRequest,
  advertiseAddr: string,
  signal: AbortSignal,
  deps: AdmissionDeps,
): Promise<Identity> {
  let failure = new SwarmError("invalid_argument", "at least 1 RemoteAddr is required to join");
  for (const addr of request.remoteAddrs) {
    try {
      const { joinToken: token, availability } = request;
      const asked = { addr, token, availability, advertiseAddr, hostname: hostname(), signal };
      return (await joinRequest(asked, deps)).identity;
    } catch (error) {
      failure = toSwarmError(error);
      if (failure.code !== "unavailable") break;
    }
  }
  throw failure;
}

/**
 * Takes back the admission of a node that could not be made: the cluster forgets it. Best effort.
 * After `run` has ended.
 */
export async function takeBackAdmission(
  addrs: readonly string[],
  admitted: Identity,
  deps: AdmissionDeps,
): Promise<void> {
  // It may be that the disk could not take it.
  const identity = { current: () => admitted, onChange: () => () => undefined };
  const clients = new RpcClients({}, { ...deps, identity });
  const signal = timeoutSignal(deps.clock, LEAVE_GROUP_TIMEOUT_MS);
  try {
    await leaveThrough(clients, { addrs, forget: true, signal }, deps);
  } catch (error) {
    deps.logger.warn("the cluster still lists this node", { error: errorMessage(error) });
  } finally {
    clients.close();
  }
}

/** Leaves the Raft group, and with `forget` the cluster, through whoever leads. */
export async function leaveThrough(
  clients: RpcClients,
  how: {
    readonly addrs: readonly string[];
    readonly forget: boolean;
    readonly signal: AbortSignal;
  },
  deps: { readonly clock: Clock; readonly rng: Rng },
): Promise<void> {
  const { addrs, forget, signal } = how;
  const timeoutMs = LEAVE_GROUP_TIMEOUT_MS;
  await callLeader(
    addr => requestLeave(clients, addr, { forget }, { signal, timeoutMs }),
    { addrs, signal, timeoutMs, idempotent: true },
    deps,
  );
}

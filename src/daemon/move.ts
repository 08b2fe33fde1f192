import { errorMessage, isSwarmError } from "../base/errors.ts";
import { hostOf, type Interfaces, resolveAdvertiseAddr } from "./addresses.ts";
import type { DaemonConfig } from "./config.ts";
import type { AdvertisedBy, NodeState } from "./node-state.ts";

type Addresses = Pick<DaemonConfig, "advertiseAddr">;

/**
 * The node's state with the address it is to be reached at from this start on; the same object
 * when nothing has changed. An address that `init` or `join` was given stays until the daemon's own
 * setting changes; one that came from the setting, or from the interfaces, follows them. Throws
 * invalid_argument when the setting names no address of this host.
 */
export function movedState(state: NodeState, config: Addresses, interfaces: Interfaces): NodeState {
  const setting = config.advertiseAddr;
  const addr = addressNow(state, setting, interfaces);
  const { advertised } = state;
  if (addr === state.advertiseAddr) {
    if (advertised === undefined || advertised.setting === setting) return state;
    return { ...state, advertised: { setting, asked: setting === "" } };
  }
  const decided: AdvertisedBy = { setting, asked: false };
  const others = state.managers.filter(manager => manager !== state.advertiseAddr);
  const wasManager = others.length < state.managers.length;
  return {
    ...state,
    advertiseAddr: addr,
    // Who listens on one address only can listen on it no more.
    listenAddr: state.listenAddr.replace(prefix(state.advertiseAddr), prefix(addr)),
    advertised: decided,
    managers: wasManager ? [...others, addr] : state.managers,
  };
}

/** host: of host:port. */
function prefix(addr: string): string {
  return addr.slice(0, addr.lastIndexOf(":") + 1);
}

function addressNow(state: NodeState, setting: string, interfaces: Interfaces): string {
  const { advertised, advertiseAddr, listenAddr } = state;
  if (setting !== "") {
    if (advertised?.asked === true && advertised.setting === setting) return advertiseAddr;
    return resolveAdvertiseAddr(setting, listenAddr, interfaces);
  }
  // Behind address translation the advertised address is no interface's; only a found one is.
  const found = advertised !== undefined && !advertised.asked && advertised.setting === "";
  if (!found || isLocal(hostOf(advertiseAddr), interfaces)) return advertiseAddr;
  try {
    return resolveAdvertiseAddr("", listenAddr, interfaces);
  } catch (error) {
    // More than one address to choose from, or none at the moment: the old one may come back.
    if (isSwarmError(error, "invalid_argument")) return advertiseAddr;
    throw new Error(`the address of this host: ${errorMessage(error)}`, { cause: error });
  }
}

function isLocal(host: string, interfaces: Interfaces): boolean {
  return Object.values(interfaces).some(list => list.some(({ address }) => address === host));
}

import { AddressBook } from "../../allocator/core/address-book.ts";
import { fixedMac, fixedOf, strayLabels } from "../../allocator/core/fixed-addresses.ts";
import { networksOf } from "../../allocator/core/networks.ts";
import { networkLabelsOf } from "../../model/network-labels.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";
import { rpcError } from "./errors.ts";

export function fixesAddresses(spec: ServiceSpec): boolean {
  return networkLabelsOf(spec.Labels).length > 0;
}

/**
 * Refuses labels for networks that the service is not on, and addresses that are somebody's or
 * nobody's. Costs a look at every address there is, so only where there are such labels.
 */
export function checkFixedAddresses(view: StateView, spec: ServiceSpec, selfId: string): void {
  if (!fixesAddresses(spec)) return;
  const [stray] = strayLabels(view, spec);
  if (stray !== undefined) {
    throw rpcError("invalid_argument", `label ${stray}: the service is not on that network`);
  }
  const book = new AddressBook();
  book.reset(view);
  for (const fixed of fixedOf(view, spec)) {
    const why = book.objection(view, selfId, fixed);
    if (why !== "") throw rpcError("invalid_argument", why);
  }
  checkMacs(view, spec, selfId);
}

/** Networks are routed and would carry two of one MAC; whoever tells devices by it would not. */
function checkMacs(view: StateView, spec: ServiceSpec, selfId: string): void {
  for (const { Target = "" } of networksOf(spec)) {
    const mac = fixedMac(view, spec, Target);
    if (mac === undefined) continue;
    for (const other of view.table("services").all()) {
      if (other.id === selfId || other.pendingDelete) continue;
      if (fixedMac(view, other.spec, Target) !== mac) continue;
      const network = view.table("networks").get(Target)?.spec.Name ?? Target;
      const text = `MAC address ${mac} on network ${network} is in use by service`;
      throw rpcError("invalid_argument", `${text} '${other.spec.Name}'`);
    }
  }
}

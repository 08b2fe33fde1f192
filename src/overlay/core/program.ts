import { familyOf, type IpFamily } from "../../model/ip.ts";
import {
  hostGateway,
  hostMac,
  hostMark,
  hostPrefix,
  hostTable,
  TUNNEL_DEVICE,
  UPLINK,
} from "./names.ts";
import {
  hostElement,
  INGRESS_TABLE,
  ingressTable,
  NftChanges,
  VIP_TABLE,
  vipTable,
  zoneElement,
} from "./nft.ts";
import type { NetworkPlan, TunnelConfig } from "./plan.ts";
import { nextSlots } from "./slots.ts";

/** What a namespace holds, as far as this host has put it there. */
export interface Programmed {
  readonly tunnel: TunnelConfig;
  readonly peers: ReadonlyMap<number, string>;
  readonly routes: ReadonlyMap<string, number>;
  /** Virtual addresses that the namespace answers for. */
  readonly vips: ReadonlySet<string>;
  readonly rules: RulesByFamily;
}

export type RulesByFamily = Readonly<Record<IpFamily, Rules>>;

/** The part of one family that one nft transaction changes. */
export interface Rules {
  readonly hosts: ReadonlySet<number>;
  readonly self: ReadonlySet<string>;
  /** Virtual address, or "tcp . 8080", to slots; a slot is an element's data. */
  readonly slots: ReadonlyMap<string, readonly string[]>;
  /** Numbers of backends that there are chains for. */
  readonly chains: ReadonlySet<number>;
}

const NONE: Rules = { hosts: new Set(), self: new Set(), slots: new Map(), chains: new Set() };

export const NO_RULES: RulesByFamily = { ipv4: NONE, ipv6: NONE };

/** UDP flows of this backend are to choose anew. */
export interface StaleFlows {
  readonly originalDst: string;
  readonly backend: string;
}

/** Commands to run in this order; empty parts are left out. */
export interface Batch {
  /** `ip -batch` lines that may find their object there already: for each of `families`. */
  readonly ipEnsure: readonly string[];
  readonly families: readonly IpFamily[];
  /** `ip -batch` lines. */
  readonly ipAdd: readonly string[];
  /** `bridge -batch` lines. */
  readonly bridgeAdd: readonly string[];
  /** `nft -f` text. */
  readonly nft: string;
  /** These may find their object gone; the first for each of `families`. */
  readonly ipForget: readonly string[];
  readonly ipDelete: readonly string[];
  readonly bridgeDelete: readonly string[];
  readonly stale: readonly StaleFlows[];
}

export interface Step {
  readonly batch: Batch;
  /** What is there when the batch has succeeded. */
  readonly next: Programmed;
}

export function isEmpty(batch: Batch): boolean {
  const { ipEnsure, ipAdd, bridgeAdd, nft, ipForget, ipDelete, bridgeDelete, stale } = batch;
  const lists = [ipEnsure, ipAdd, bridgeAdd, ipForget, ipDelete, bridgeDelete, stale];
  return lists.every(list => list.length === 0) && nft === "";
}

/**
 * From what is programmed to what is planned. `reload`: the rules are made anew in the same
 * transaction, because what is there of them is not known. The tunnel must be the plan's already.
 */
export function diffNetwork(now: Programmed, plan: NetworkPlan, reload: boolean): Step {
  const lines = noLines();
  const { ipAdd, ipDelete } = lines;
  diffPeers(now, plan, lines);
  for (const [addr, index] of plan.routes) {
    if (now.routes.get(addr) !== index) ipAdd.push(routeLine(addr, index));
  }
  for (const addr of now.routes.keys()) {
    if (!plan.routes.has(addr)) ipDelete.push(`route del ${hostPrefix(addr)} dev ${TUNNEL_DEVICE}`);
  }
  for (const vip of plan.vips.keys()) {
    if (!now.vips.has(vip)) ipAdd.push(`addr replace ${hostPrefix(vip)} dev lo`);
  }
  for (const vip of now.vips) {
    if (!plan.vips.has(vip)) ipDelete.push(`addr del ${hostPrefix(vip)} dev lo`);
  }
  const { nft, rules, stale } = diffFamilies(reload ? NO_RULES : now.rules, plan, reload);
  return {
    batch: { ...lines, families: plan.families, nft, stale },
    next: {
      tunnel: plan.tunnel,
      peers: plan.peers,
      routes: plan.routes,
      vips: new Set(plan.vips.keys()),
      rules,
    },
  };
}

function baseTable(plan: NetworkPlan, family: IpFamily): string {
  const gateway = plan.gateways.find(one => familyOf(one) === family) ?? "";
  return plan.ingress ? ingressTable(family) : vipTable(gateway);
}

function routeLine(addr: string, index: number): string {
  const gateway = hostGateway(index, familyOf(addr));
  return `route replace ${hostPrefix(addr)} via ${gateway} dev ${TUNNEL_DEVICE} onlink`;
}

type Lines = Record<
  "ipEnsure" | "ipAdd" | "bridgeAdd" | "ipForget" | "ipDelete" | "bridgeDelete",
  string[]
>;

function noLines(): Lines {
  return { ipEnsure: [], ipAdd: [], bridgeAdd: [], ipForget: [], ipDelete: [], bridgeDelete: [] };
}

/** One neighbour and one forwarding entry a host; on ingress also the way back to it. */
function diffPeers(now: Programmed, plan: NetworkPlan, lines: Lines): void {
  for (const [index, vtep] of plan.peers) {
    const known = now.peers.get(index);
    if (known === vtep) continue;
    const mac = hostMac(index);
    for (const family of plan.families) {
      const gateway = hostGateway(index, family);
      lines.ipAdd.push(`neigh replace ${gateway} lladdr ${mac} dev ${TUNNEL_DEVICE} nud permanent`);
    }
    lines.bridgeAdd.push(`fdb replace ${mac} dev ${TUNNEL_DEVICE} dst ${vtep} self permanent`);
    if (plan.ingress && known === undefined) wayBack(index, plan.families, lines);
  }
  for (const [index, vtep] of now.peers) {
    if (plan.peers.has(index)) continue;
    const mac = hostMac(index);
    for (const family of plan.families) {
      lines.ipDelete.push(`neigh del ${hostGateway(index, family)} dev ${TUNNEL_DEVICE}`);
    }
    lines.bridgeDelete.push(`fdb del ${mac} dev ${TUNNEL_DEVICE} dst ${vtep} self`);
    if (plan.ingress) {
      lines.ipForget.push(`rule del pref ${hostTable(index)}`);
      lines.ipForget.push(`route del default table ${hostTable(index)}`);
    }
  }
}

/** Answers to what came in by that host go back to it. */
function wayBack(index: number, families: readonly IpFamily[], lines: Lines): void {
  const table = hostTable(index);
  const mark = `0x${hostMark(index).toString(16)}`;
  lines.ipEnsure.push(`rule add pref ${table} fwmark ${mark} lookup ${table}`);
  for (const family of families) {
    const via = `via ${hostGateway(index, family)} dev ${TUNNEL_DEVICE} onlink`;
    lines.ipAdd.push(`route replace ${EVERYWHERE[family]} ${via} table ${table}`);
  }
}

const EVERYWHERE: Readonly<Record<IpFamily, string>> = { ipv4: "default", ipv6: "::/0" };

interface RulesStep {
  readonly nft: string;
  readonly rules: Rules;
  readonly stale: readonly StaleFlows[];
}

/** One transaction for both families. */
function diffFamilies(
  now: RulesByFamily,
  plan: NetworkPlan,
  reload: boolean,
): Omit<RulesStep, "rules"> & { readonly rules: RulesByFamily } {
  let nft = "";
  const rules = { ...NO_RULES };
  const stale: StaleFlows[] = [];
  for (const family of plan.families) {
    const step = diffRules(now[family], plan, family);
    nft += (reload ? baseTable(plan, family) : "") + step.nft;
    rules[family] = step.rules;
    stale.push(...step.stale);
  }
  return { nft, rules, stale };
}

function diffRules(now: Rules, plan: NetworkPlan, family: IpFamily): RulesStep {
  const changes = new NftChanges(plan.ingress ? INGRESS_TABLE : VIP_TABLE, family);
  const hosts = new Set(plan.ingress ? plan.peers.keys() : []);
  for (const index of now.hosts) if (!hosts.has(index)) deleteHost(changes, index);
  for (const index of hosts) if (!now.hosts.has(index)) addHost(changes, index);
  const isOwn = (addr: string): boolean => !plan.ingress && familyOf(addr) === family;
  const self = new Set([...plan.locals].filter(isOwn));
  for (const addr of now.self) if (!self.has(addr)) changes.delete("self", `${addr} . ${addr}`);
  for (const addr of self) if (!now.self.has(addr)) changes.add("self", `${addr} . ${addr}`);
  const chains = new Set(now.chains);
  const slots = new Map<string, readonly string[]>();
  const stale: StaleFlows[] = [];
  const wanted = wantedSlots(plan, family);
  for (const [key, backends] of wanted) {
    const before = now.slots.get(key) ?? [];
    const after = nextSlots(before, backends);
    slots.set(key, after);
    changeSlots(changes, key, before, after, chains);
    stale.push(...goneOf(plan, family, key, before, after));
  }
  for (const [key, before] of now.slots) {
    if (wanted.has(key)) continue;
    changeSlots(changes, key, before, [], chains);
    stale.push(...goneOf(plan, family, key, before, []));
  }
  return { nft: changes.script(), rules: { hosts, self, slots, chains }, stale };
}

function addHost(changes: NftChanges, index: number): void {
  changes.add("hosts", hostElement(index));
  changes.add("zones", zoneElement(index));
}

function deleteHost(changes: NftChanges, index: number): void {
  changes.delete("hosts", hostMac(index));
  changes.delete("zones", hostMac(index));
}

function wantedSlots(plan: NetworkPlan, family: IpFamily): ReadonlyMap<string, readonly string[]> {
  if (!plan.ingress) return new Map([...plan.vips].filter(([vip]) => familyOf(vip) === family));
  return new Map(
    [...plan.ports].map(([key, { target, backends }]) => [
      key,
      backends
        .filter(backend => familyOf(backend) === family)
        .map(backend => `${backend} . ${target}`),
    ]),
  );
}

function changeSlots(
  changes: NftChanges,
  key: string,
  before: readonly string[],
  after: readonly string[],
  chains: Set<number>,
): void {
  if (before.length !== after.length) {
    if (before.length > 0) changes.delete("svc", key);
    if (after.length > 0) changes.add("svc", `${key} : jump n${after.length}`);
  }
  if (after.length > 0 && !chains.has(after.length)) {
    changes.chain(after.length);
    chains.add(after.length);
  }
  for (let slot = 0; slot < Math.max(before.length, after.length); slot += 1) {
    if (before[slot] === after[slot]) continue;
    if (slot < before.length) changes.delete("be", `${key} . ${slot}`);
    if (slot < after.length) changes.add("be", `${key} . ${slot} : ${after[slot]}`);
  }
}

/** Connections without an end of their own stay with a backend until they are forgotten. */
function goneOf(
  plan: NetworkPlan,
  family: IpFamily,
  key: string,
  before: readonly string[],
  after: readonly string[],
): StaleFlows[] {
  if (plan.ingress && !key.startsWith("udp")) return [];
  const inner = family === "ipv6" ? UPLINK.innerAddr6 : UPLINK.innerAddr;
  const originalDst = plan.ingress ? inner : key;
  return before
    .filter(backend => !after.includes(backend))
    .map(backend => ({ originalDst, backend: backend.split(" ")[0] ?? "" }));
}

/** What a namespace holds that was just made. */
export function nothingYet(tunnel: TunnelConfig): Programmed {
  return { tunnel, peers: new Map(), routes: new Map(), vips: new Set(), rules: NO_RULES };
}

import { hostMac, hostMark, UPLINK } from "./names.ts";

/** nftables scripts of the data path (nft(8)); each one is a transaction: all of it or nothing. */

/** In a network's namespace: virtual addresses. */
export const VIP_TABLE = "sw";
/** In the ingress namespace: published ports. */
export const INGRESS_TABLE = "swin";
/** In the host's own namespace. */
export const HOST_TABLE = "swarmd";

/** Marks connections of this host's own containers to a published port. */
const OWN_CONTAINER_MARK = "0x53570000";
/** Devices of the Engine's bridges. */
const ENGINE_BRIDGES = ["docker0", "docker_gwbridge", "br-*"];

/** Makes the table anew, whatever was there before. */
function fresh(table: string, body: readonly string[]): string {
  const lines = body.map(line => `  ${line}`).join("\n");
  return `table ip ${table}\ndelete table ip ${table}\ntable ip ${table} {\n${lines}\n}\n`;
}

/** `gateway` answers in place of a task that is connected with itself. */
export function vipTable(gateway: string): string {
  return fresh(VIP_TABLE, [
    "map be { type ipv4_addr . mark : ipv4_addr; }",
    "map svc { type ipv4_addr : verdict; }",
    "set self { type ipv4_addr . ipv4_addr; }",
    "chain pre {",
    "  type nat hook prerouting priority dstnat;",
    "  ip daddr vmap @svc",
    "}",
    "chain post {",
    "  type nat hook postrouting priority srcnat;",
    `  ip saddr . ip daddr @self snat to ${gateway}`,
    "}",
  ]);
}

/**
 * Connections are marked by the host they came in through, known by its MAC address, and answers
 * go back through it: so the client's address need not be replaced. The zone keeps apart one
 * client's connections with one port that come by two hosts.
 */
export function ingressTable(subnet: string): string {
  return fresh(INGRESS_TABLE, [
    "map hosts { type ether_addr : mark; }",
    "map zones { typeof ether saddr : ct zone; }",
    "map be { type inet_proto . inet_service . mark : ipv4_addr . inet_service; }",
    "map svc { type inet_proto . inet_service : verdict; }",
    "chain zone {",
    "  type filter hook prerouting priority raw;",
    `  iifname "vx0" ct original zone set ether saddr map @zones`,
    "}",
    "chain entry {",
    "  type filter hook prerouting priority mangle;",
    `  iifname "vx0" ct state new ct mark set ether saddr map @hosts`,
    `  iifname != "vx0" ct direction reply meta mark set ct mark`,
    "}",
    "chain pre {",
    "  type nat hook prerouting priority dstnat;",
    `  iifname "${UPLINK.innerDevice}" ip daddr ${UPLINK.innerAddr} ` +
      "meta l4proto . th dport vmap @svc",
    "}",
    "chain post {",
    "  type nat hook postrouting priority srcnat + 5;",
    `  oifname "${UPLINK.innerDevice}" ct direction original ip saddr ${subnet} masquerade`,
    "}",
    "chain iso {",
    "  type filter hook forward priority filter;",
    `  iifname != { "${UPLINK.innerDevice}", "vx0" } oifname != "${UPLINK.innerDevice}" ` +
      "ct direction original drop",
    "}",
  ]);
}

/** What a chain that shares connections out among `count` backends does. */
export function shareRule(table: string, count: number): string {
  const slot = `meta mark set numgen random mod ${count}`;
  return table === VIP_TABLE
    ? `${slot} dnat to ip daddr . meta mark map @be`
    : `${slot} dnat ip to ip protocol . th dport . meta mark map @be`;
}

/** The marks of entry hosts: elements of `hosts` and `zones`. */
export function hostElement(index: number): string {
  return `${hostMac(index)} : 0x${hostMark(index).toString(16)}`;
}

export function zoneElement(index: number): string {
  return `${hostMac(index)} : ${index}`;
}

/** What the host's own namespace is to hold. */
export interface HostRules {
  /** Address that stands for this host's own clients; empty: ingress is off here. */
  readonly addr: string;
  /** "tcp . 8080" of each published port, sorted. */
  readonly ports: readonly string[];
  /** UDP port of encrypted tunnels that nothing but the mesh's devices may use; 0: none. */
  readonly guardedPort: number;
}

/** The whole table: it is small, and one transaction replaces it. */
export function hostTableScript(rules: HostRules): string {
  return fresh(HOST_TABLE, [...publishChains(rules), ...guardChains(rules.guardedPort)]);
}

function publishChains({ addr, ports }: HostRules): readonly string[] {
  if (addr === "") return [];
  const { hostDevice, innerAddr, net } = UPLINK;
  const published = "fib daddr type local meta l4proto . th dport @pub";
  const elements = ports.length === 0 ? "" : ` elements = { ${ports.join(", ")} }`;
  const own = ENGINE_BRIDGES.map(
    device =>
      `  iifname "${device}" ${published} ct mark set ${OWN_CONTAINER_MARK} dnat to ${innerAddr}`,
  );
  return [
    `set pub { type inet_proto . inet_service;${elements}`,
    "}",
    "chain pre {",
    "  type nat hook prerouting priority dstnat - 5;",
    ...own,
    `  ${published} dnat to ${innerAddr}`,
    "}",
    "chain out {",
    "  type nat hook output priority -105;",
    `  oifname != "${hostDevice}" ${published} dnat to ${innerAddr}`,
    "}",
    "chain post {",
    "  type nat hook postrouting priority srcnat - 5;",
    `  oifname "${hostDevice}" ct mark ${OWN_CONTAINER_MARK} snat to ${addr}`,
    `  oifname "${hostDevice}" ip saddr { 127.0.0.0/8, ${net} } snat to ${addr}`,
    `  oifname != "${hostDevice}" ip saddr ${innerAddr} masquerade`,
    "}",
  ];
}

/** An encrypted network's frames neither leave nor enter but through the mesh (CVE-2023-28841). */
function guardChains(port: number): readonly string[] {
  if (port === 0) return [];
  return [
    "chain guard_in {",
    "  type filter hook input priority raw;",
    `  udp dport ${port} iifname != "swg*" counter drop`,
    "}",
    "chain guard_out {",
    "  type filter hook output priority raw;",
    `  udp dport ${port} oifname != "swg*" counter drop`,
    "}",
  ];
}

/** Elements to take out of and put into named sets and maps of a table, and chains they need. */
export class NftChanges {
  readonly #table: string;
  readonly #out = new Map<string, string[]>();
  readonly #in = new Map<string, string[]>();
  readonly #chains: number[] = [];

  constructor(table: string) {
    this.#table = table;
  }

  get empty(): boolean {
    return this.#out.size + this.#in.size + this.#chains.length === 0;
  }

  add(name: string, element: string): void {
    this.#in.set(name, [...(this.#in.get(name) ?? []), element]);
  }

  delete(name: string, element: string): void {
    this.#out.set(name, [...(this.#out.get(name) ?? []), element]);
  }

  /** The chain `n<count>`, shared by all that have so many backends. */
  chain(count: number): void {
    if (!this.#chains.includes(count)) this.#chains.push(count);
  }

  script(): string {
    const lines: string[] = [];
    for (const [name, elements] of this.#out) {
      lines.push(`delete element ip ${this.#table} ${name} { ${elements.join(", ")} }`);
    }
    for (const count of this.#chains) {
      lines.push(
        `add chain ip ${this.#table} n${count}`,
        `flush chain ip ${this.#table} n${count}`,
        `add rule ip ${this.#table} n${count} ${shareRule(this.#table, count)}`,
      );
    }
    for (const [name, elements] of this.#in) {
      lines.push(`add element ip ${this.#table} ${name} { ${elements.join(", ")} }`);
    }
    return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
  }
}

import { familyOf, type IpFamily } from "../../model/ip.ts";
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

/** What nftables calls things of a family. */
interface Words {
  /** Of tables, and of fields of the IP header. */
  readonly ip: "ip" | "ip6";
  readonly addr: "ipv4_addr" | "ipv6_addr";
  /** The field that tells TCP from UDP. */
  readonly protocol: string;
  readonly innerAddr: string;
}

const WORDS: Readonly<Record<IpFamily, Words>> = {
  ipv4: { ip: "ip", addr: "ipv4_addr", protocol: "ip protocol", innerAddr: UPLINK.innerAddr },
  ipv6: { ip: "ip6", addr: "ipv6_addr", protocol: "meta l4proto", innerAddr: UPLINK.innerAddr6 },
};

/** Each family has tables of its own, of the same names. */
export function tableFamily(family: IpFamily): "ip" | "ip6" {
  return WORDS[family].ip;
}

/** Makes the table anew, whatever was there before. */
function fresh(family: IpFamily, table: string, body: readonly string[]): string {
  const name = `${WORDS[family].ip} ${table}`;
  const lines = body.map(line => `  ${line}`).join("\n");
  return `table ${name}\ndelete table ${name}\ntable ${name} {\n${lines}\n}\n`;
}

/** A router's advice on shorter ways is of no use where every way is given. */
const NO_REDIRECTS = [
  "chain redirects {",
  "  type filter hook output priority filter;",
  "  icmpv6 type nd-redirect drop",
  "}",
];

/**
 * `gateway` answers in place of a task that is connected with itself. All connections are tracked,
 * also those to no virtual address: else one to such an address could be given the same ports at
 * both ends. Leaving those untracked that begin elsewhere costs more: an entry is made for each packet
 * of one that comes by, and thrown away.
 */
export function vipTable(gateway: string): string {
  const family = familyOf(gateway);
  const { ip, addr } = WORDS[family];
  return fresh(family, VIP_TABLE, [
    `map be { type ${addr} . mark : ${addr}; }`,
    `map svc { type ${addr} : verdict; }`,
    `set self { type ${addr} . ${addr}; }`,
    "chain pre {",
    "  type nat hook prerouting priority dstnat;",
    `  ${ip} daddr vmap @svc`,
    "}",
    "chain post {",
    "  type nat hook postrouting priority srcnat;",
    `  ${ip} saddr . ${ip} daddr @self snat to ${gateway}`,
    "}",
    ...(family === "ipv6" ? NO_REDIRECTS : []),
  ]);
}

/**
 * Connections are marked by the host they came in through, known by its MAC address, and answers
 * go back through it: so the client's address need not be replaced. The zone keeps apart one
 * client's connections with one port that come by two hosts.
 */
export function ingressTable(family: IpFamily): string {
  const { ip, addr, innerAddr } = WORDS[family];
  return fresh(family, INGRESS_TABLE, [
    "map hosts { type ether_addr : mark; }",
    "map zones { typeof ether saddr : ct zone; }",
    `map be { type inet_proto . inet_service . mark : ${addr} . inet_service; }`,
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
    `  iifname "${UPLINK.innerDevice}" ${ip} daddr ${innerAddr} ` +
      "meta l4proto . th dport vmap @svc",
    "}",
    "chain post {",
    "  type nat hook postrouting priority srcnat + 5;",
    `  oifname "${UPLINK.innerDevice}" ct direction original masquerade`,
    "}",
    "chain iso {",
    "  type filter hook forward priority filter;",
    `  iifname != { "${UPLINK.innerDevice}", "vx0" } oifname != "${UPLINK.innerDevice}" ` +
      "ct direction original drop",
    "}",
    ...(family === "ipv6" ? NO_REDIRECTS : []),
  ]);
}

/** What a chain that shares connections out among `count` backends does. */
export function shareRule(table: string, family: IpFamily, count: number): string {
  const { ip, protocol } = WORDS[family];
  const slot = `meta mark set numgen random mod ${count}`;
  return table === VIP_TABLE
    ? `${slot} dnat to ${ip} daddr . meta mark map @be`
    : `${slot} dnat ${ip} to ${protocol} . th dport . meta mark map @be`;
}

/** The marks of entry hosts: elements of `hosts` and `zones`. */
export function hostElement(index: number): string {
  return `${hostMac(index)} : 0x${hostMark(index).toString(16)}`;
}

export function zoneElement(index: number): string {
  return `${hostMac(index)} : ${index}`;
}

export interface HostPort {
  /** "tcp . 8080". */
  readonly key: string;
  /** Addresses of hosts, or networks of them, at which it answers; empty: all. */
  readonly at: readonly string[];
}

/** What the host's own namespace is to hold. */
export interface HostRules {
  /** Address that stands for this host's own clients; empty: ingress is off here. */
  readonly addr: string;
  /** Published ports answer on IPv6 addresses too. */
  readonly ipv6: boolean;
  /** Published ports, sorted. */
  readonly ports: readonly HostPort[];
  /** UDP port of encrypted tunnels that nothing but the mesh's devices may use; 0: none. */
  readonly guardedPort: number;
}

/** The whole tables: they are small, and one transaction replaces them. */
export function hostTableScript(rules: HostRules): string {
  const own = fresh("ipv4", HOST_TABLE, [
    ...publishChains(rules),
    ...guardChains(rules.guardedPort),
  ]);
  return rules.ipv6 ? own + fresh("ipv6", HOST_TABLE, publishChains6(rules)) : own;
}

function publishChains({ addr, ports }: HostRules): readonly string[] {
  if (addr === "") return [];
  const { hostDevice, innerAddr, net } = UPLINK;
  return [
    ...publishedSets("ipv4", ports),
    ...publishHooks(matchesOf("ipv4", ports), innerAddr),
    "chain post {",
    "  type nat hook postrouting priority srcnat - 5;",
    `  oifname "${hostDevice}" ct mark ${OWN_CONTAINER_MARK} snat to ${addr}`,
    `  oifname "${hostDevice}" ip saddr { 127.0.0.0/8, ${net} } snat to ${addr}`,
    `  oifname != "${hostDevice}" ip saddr ${innerAddr} masquerade`,
    "}",
  ];
}

/**
 * A link-local client is never forwarded (RFC 4291 section 2.5.6), so its requests are left to
 * whatever listens there. The host's end of the link stands for clients that have no address of
 * their own to come back to: answers to it go back through this host, as all do.
 */
function publishChains6({ addr, ports }: HostRules): readonly string[] {
  if (addr === "") return [];
  const { hostDevice, hostAddr6, innerAddr6 } = UPLINK;
  const matches = matchesOf("ipv6", ports).map(match => `ip6 daddr != fe80::/10 ${match}`);
  return [
    ...publishedSets("ipv6", ports),
    ...publishHooks(matches, innerAddr6),
    "chain post {",
    "  type nat hook postrouting priority srcnat - 5;",
    `  oifname "${hostDevice}" ct mark ${OWN_CONTAINER_MARK} snat to ${hostAddr6}`,
    `  oifname "${hostDevice}" ip6 saddr ::1 snat to ${hostAddr6}`,
    `  oifname != "${hostDevice}" ip6 saddr ${innerAddr6} masquerade`,
    "}",
  ];
}

/** Elements of `pub_at`: ports that answer at some addresses only. */
function placedPorts(family: IpFamily, ports: readonly HostPort[]): readonly string[] {
  return ports.flatMap(({ key, at }) =>
    at.filter(place => familyOf(place) === family).map(place => `${key} . ${place}`),
  );
}

function publishedSets(family: IpFamily, ports: readonly HostPort[]): readonly string[] {
  const everywhere = ports.filter(({ at }) => at.length === 0).map(({ key }) => key);
  const placed = placedPorts(family, ports);
  const elements = (list: readonly string[]): string =>
    list.length === 0 ? "" : ` elements = { ${list.join(", ")} }`;
  const pub = [`set pub { type inet_proto . inet_service;${elements(everywhere)}`, "}"];
  if (placed.length === 0) return pub;
  const type = `type inet_proto . inet_service . ${WORDS[family].addr}; flags interval;`;
  return [...pub, `set pub_at { ${type}${elements(placed)}`, "}"];
}

/** What tells a connection to a published port. */
function matchesOf(family: IpFamily, ports: readonly HostPort[]): readonly string[] {
  const toPort = "fib daddr type local meta l4proto . th dport";
  const placed = placedPorts(family, ports).length > 0;
  const at = `${toPort} . ${WORDS[family].ip} daddr @pub_at`;
  return [`${toPort} @pub`, ...(placed ? [at] : [])];
}

function publishHooks(matches: readonly string[], innerAddr: string): readonly string[] {
  const own = ENGINE_BRIDGES.flatMap(device =>
    matches.map(
      match =>
        `  iifname "${device}" ${match} ct mark set ${OWN_CONTAINER_MARK} dnat to ${innerAddr}`,
    ),
  );
  return [
    "chain pre {",
    "  type nat hook prerouting priority dstnat - 5;",
    ...own,
    ...matches.map(match => `  ${match} dnat to ${innerAddr}`),
    "}",
    "chain out {",
    "  type nat hook output priority -105;",
    ...matches.map(match => `  oifname != "${UPLINK.hostDevice}" ${match} dnat to ${innerAddr}`),
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
  readonly #family: IpFamily;
  readonly #out = new Map<string, string[]>();
  readonly #in = new Map<string, string[]>();
  readonly #chains: number[] = [];

  constructor(table: string, family: IpFamily) {
    this.#table = table;
    this.#family = family;
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
    const table = `${WORDS[this.#family].ip} ${this.#table}`;
    for (const [name, elements] of this.#out) {
      lines.push(`delete element ${table} ${name} { ${elements.join(", ")} }`);
    }
    for (const count of this.#chains) {
      lines.push(
        `add chain ${table} n${count}`,
        `flush chain ${table} n${count}`,
        `add rule ${table} n${count} ${shareRule(this.#table, this.#family, count)}`,
      );
    }
    for (const [name, elements] of this.#in) {
      lines.push(`add element ${table} ${name} { ${elements.join(", ")} }`);
    }
    return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
  }
}

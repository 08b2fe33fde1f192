import { type IpFamily, parseIp } from "../../model/ip.ts";
import { hostElement, tableFamily, zoneElement } from "./nft.ts";
import type { Rules, RulesByFamily } from "./program.ts";

/** What `nft -s list table` says, against what was put there. Pure. */

/** The part of a listing that does not change while a table lives. */
export interface RuleBase {
  /** All lines but elements and the chains that share connections out. */
  readonly fixed: string;
  /** What those chains do, by family; their number of backends left out. */
  readonly share: Readonly<Record<string, string>>;
}

export interface Judgement {
  /** Null: nothing is wrong. */
  readonly wrong: string | null;
  readonly base: RuleBase;
}

interface Listing {
  readonly fixed: string[];
  /** By "ip be". */
  readonly elements: Map<string, Set<string>>;
  /** By "ip n3". */
  readonly chains: Map<string, string>;
}

const SHARE_CHAIN = /^chain (n\d+) \{$/;
const NAMED = /^(?:map|set) (\S+) \{$/;
const TABLE = /^table (\S+) \S+ \{$/;

/** `before`: what an earlier listing of the same tables had; null: this is the first. */
export function judgeRules(
  text: string,
  expected: RulesByFamily,
  families: readonly IpFamily[],
  before: RuleBase | null,
): Judgement {
  const listing = parseListing(text);
  const fixed = listing.fixed.join("\n");
  const share: Record<string, string> = { ...before?.share };
  const verdicts = families.map(family => judgeFamily(listing, family, expected[family], share));
  const others = before !== null && before.fixed !== fixed ? "its chains are not as loaded" : null;
  return {
    wrong: others ?? verdicts.find(wrong => wrong !== null) ?? null,
    base: { fixed, share },
  };
}

function judgeFamily(
  { elements, chains }: Listing,
  family: IpFamily,
  rules: Rules,
  share: Record<string, string>,
): string | null {
  const ip = tableFamily(family);
  for (const [name, wanted] of expectedElements(rules)) {
    const found = elements.get(`${ip} ${name}`) ?? new Set();
    const should = new Set([...wanted].map(normal));
    const lacks = [...should].find(element => !found.has(element));
    if (lacks !== undefined) return `its rules: ${name} lacks ${lacks}`;
    const extra = [...found].find(element => !should.has(element));
    if (extra !== undefined) return `its rules: ${name} has ${extra}`;
  }
  for (const count of rules.chains) {
    const body = chains.get(`${ip} n${count}`);
    if (body === undefined) return `its rules: chain n${count} is gone`;
    const [, mod = ""] = / mod (\d+) /.exec(body) ?? [];
    const does = body.replace(/ mod \d+ /, " mod # ");
    share[ip] ??= does;
    if (mod !== String(count) || does !== share[ip]) return `its rules: chain n${count} is another`;
  }
  return null;
}

function expectedElements({ hosts, self, slots }: Rules): ReadonlyMap<string, readonly string[]> {
  const served = [...slots].filter(([, backends]) => backends.length > 0);
  return new Map([
    ["hosts", [...hosts].map(hostElement)],
    ["zones", [...hosts].map(zoneElement)],
    ["self", [...self].map(addr => `${addr} . ${addr}`)],
    ["svc", served.map(([key, backends]) => `${key} : jump n${backends.length}`)],
    ["be", served.flatMap(([key, backends]) => backends.map((one, i) => `${key} . ${i} : ${one}`))],
  ]);
}

/** How nft names protocols on a host without /etc/protocols. */
const PROTOCOLS: ReadonlyMap<string, string> = new Map([
  ["6", "tcp"],
  ["17", "udp"],
  ["132", "sctp"],
]);

/** The same text for the same element, however its numbers and addresses are written. */
function normal(element: string): string {
  const [first = "", ...words] = element.trim().split(/\s+/).map(normalWord);
  return [PROTOCOLS.get(first) ?? first, ...words].join(" ");
}

function normalWord(word: string): string {
  if (/^0x[0-9a-f]+$/i.test(word)) return String(Number.parseInt(word, 16));
  if (!word.includes("::") && !/^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}$/i.test(word)) return word;
  return parseIp(word)?.toString(16) ?? word;
}

function parseListing(text: string): Listing {
  const listing: Listing = { fixed: [], elements: new Map(), chains: new Map() };
  let [family, named, chain] = ["", "", ""];
  let isInElements = false;
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    if (line === "") continue;
    family = TABLE.exec(line)?.[1] ?? family;
    named = NAMED.exec(line)?.[1] ?? named;
    const begun = SHARE_CHAIN.exec(line)?.[1];
    if (begun !== undefined) chain = begun;
    else if (chain !== "" && line === "}") chain = "";
    else if (chain !== "") {
      const key = `${family} ${chain}`;
      listing.chains.set(key, `${listing.chains.get(key) ?? ""} ${line} `);
    } else if (isInElements || line.startsWith("elements = {")) {
      isInElements = !line.endsWith("}");
      takeElements(listing, `${family} ${named}`, line);
    } else listing.fixed.push(line);
  }
  return listing;
}

function takeElements({ elements }: Listing, key: string, line: string): void {
  const found = elements.get(key) ?? new Set();
  elements.set(key, found);
  for (const part of line.replace("elements = {", "").replace(/\}$/, "").split(",")) {
    if (part.trim() !== "") found.add(normal(part));
  }
}

import { hostOfGateway, indexOfMac } from "../../src/overlay/core/names.ts";
import type { Batch } from "../../src/overlay/core/program.ts";

/**
 * What a namespace holds after batches of `ip`, `bridge` and `nft` lines, as strict as the kernel:
 * deleting an element that is not there, or adding one with another value, throws.
 */
export class FakeKernel {
  readonly routes = new Map<string, number>();
  readonly neighbours = new Set<string>();
  readonly fdb = new Map<number, string>();
  readonly addrs = new Set<string>();
  readonly rules = new Set<string>();
  /** By the family of their table, and name. */
  readonly maps = new Map<string, Map<string, string>>();
  readonly chains = new Set<string>();

  apply(batch: Batch): void {
    for (const family of batch.families) {
      for (const line of batch.ipEnsure) this.#rule(family, line.split(" "));
    }
    for (const line of batch.ipAdd) this.#ip(line.split(" "));
    for (const line of batch.bridgeAdd) this.#fdb(line.split(" "));
    for (const line of batch.nft.split("\n")) this.#nft(line.trim());
    for (const family of batch.families) {
      for (const line of batch.ipForget) this.#rule(family, line.split(" "));
    }
    for (const line of batch.ipDelete) this.#ip(line.split(" "));
    for (const line of batch.bridgeDelete) this.#fdb(line.split(" "));
  }

  map(name: string, family = "ip"): Map<string, string> {
    return this.#map(`${family} ${name}`);
  }

  #map(name: string): Map<string, string> {
    let map = this.maps.get(name);
    if (map === undefined) {
      map = new Map();
      this.maps.set(name, map);
    }
    return map;
  }

  /** What a connection to each virtual address (or published port) may end at. */
  balance(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.#balance("ip"), ...this.#balance("ip6")]);
  }

  *#balance(family: string): Generator<readonly [string, readonly string[]]> {
    for (const [key, verdict] of this.map("svc", family)) {
      const count = Number(/^jump n(\d+)$/.exec(verdict)?.[1]);
      if (!this.chains.has(`${family} n${count}`)) throw new Error(`no chain n${count}`);
      const backends = Array.from({ length: count }, (_, slot) => {
        const backend = this.map("be", family).get(`${key} . ${slot}`);
        if (backend === undefined) throw new Error(`slot ${slot} of ${key} is empty`);
        return backend;
      });
      yield [`${family} ${key}`, backends.sort()];
    }
  }

  #rule(family: string, words: readonly string[]): void {
    const [object = "", verb = ""] = words;
    if (object !== "rule") return;
    const rule = `${family} ${words[words.indexOf("pref") + 1] ?? ""}`;
    if (verb === "add") this.rules.add(rule);
    else this.rules.delete(rule);
  }

  #ip(words: readonly string[]): void {
    const [object = "", verb = "", subject = ""] = words;
    const after = (word: string): string => words[words.indexOf(word) + 1] ?? "";
    if (object === "route" && subject !== "default" && subject !== "::/0") {
      const addr = addressOf(subject);
      if (verb === "replace") this.routes.set(addr, hostOfGateway(after("via")) ?? 0);
      else this.routes.delete(addr);
    } else if (object === "addr") {
      if (verb === "replace") this.addrs.add(addressOf(subject));
      else this.addrs.delete(addressOf(subject));
    } else if (object === "neigh") {
      if (verb === "replace") this.neighbours.add(subject);
      else this.neighbours.delete(subject);
    }
  }

  #fdb(words: readonly string[]): void {
    const index = indexOfMac(words[2] ?? "") ?? 0;
    if (words[1] === "replace") this.fdb.set(index, words[words.indexOf("dst") + 1] ?? "");
    else this.fdb.delete(index);
  }

  #nft(line: string): void {
    const chain = /^add chain (ip6?) \w+ (n\d+)$/.exec(line);
    if (chain !== null) this.chains.add(`${chain[1]} ${chain[2]}`);
    const gone = /^delete table (ip6?) /.exec(line);
    if (gone !== null) {
      const isIn = (name: string): boolean => name.startsWith(`${gone[1]} `);
      for (const name of [...this.maps.keys()].filter(isIn)) this.maps.delete(name);
      for (const name of [...this.chains].filter(isIn)) this.chains.delete(name);
    }
    const change = /^(add|delete) element (ip6?) \w+ (\w+) \{ (.*) \}$/.exec(line);
    if (change === null) return;
    const [, verb, family, name, elements = ""] = change;
    for (const element of elements.split(", ")) {
      this.#element(verb === "add", `${family} ${name}`, element);
    }
  }

  #element(add: boolean, name: string, element: string): void {
    const map = this.#map(name);
    const mac = /^((?:[0-9a-f]{2}:){5}[0-9a-f]{2})(?: : (.*))?$/.exec(element);
    const [key = "", value = ""] = mac !== null ? mac.slice(1) : element.split(" : ");
    if (!add) {
      if (!map.delete(key)) throw new Error(`nft: no element ${key} in ${name}`);
      return;
    }
    if (map.has(key)) throw new Error(`nft: element ${key} is in ${name} already`);
    map.set(key, value);
  }
}

function addressOf(subject: string): string {
  return subject.replace(/\/(32|128)$/, "");
}

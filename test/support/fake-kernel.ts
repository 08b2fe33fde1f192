import { hostOfGateway, indexOfMac } from "../../src/overlay/core/names.ts";
import type { Batch } from "../../src/overlay/core/program.ts";

/**
 * What a namespace holds after batches of `ip`, `bridge` and `nft` lines, as strict as the kernel:
 * deleting an element that is not there, or adding one with another value, throws.
 */
export class FakeKernel {
  readonly routes = new Map<string, number>();
  readonly neighbours = new Set<number>();
  readonly fdb = new Map<number, string>();
  readonly addrs = new Set<string>();
  readonly rules = new Set<number>();
  readonly maps = new Map<string, Map<string, string>>();
  readonly chains = new Set<string>();

  apply(batch: Batch): void {
    for (const line of [...batch.ipEnsure, ...batch.ipAdd]) this.#ip(line.split(" "));
    for (const line of batch.bridgeAdd) this.#fdb(line.split(" "));
    for (const line of batch.nft.split("\n")) this.#nft(line.trim());
    for (const line of batch.ipDelete) this.#ip(line.split(" "));
    for (const line of batch.bridgeDelete) this.#fdb(line.split(" "));
  }

  map(name: string): Map<string, string> {
    let map = this.maps.get(name);
    if (map === undefined) {
      map = new Map();
      this.maps.set(name, map);
    }
    return map;
  }

  /** What a connection to each virtual address (or published port) may end at. */
  balance(): ReadonlyMap<string, readonly string[]> {
    const found = new Map<string, readonly string[]>();
    for (const [key, verdict] of this.map("svc")) {
      const count = Number(/^jump n(\d+)$/.exec(verdict)?.[1]);
      if (!this.chains.has(`n${count}`)) throw new Error(`no chain n${count}`);
      const backends = Array.from({ length: count }, (_, slot) => {
        const backend = this.map("be").get(`${key} . ${slot}`);
        if (backend === undefined) throw new Error(`slot ${slot} of ${key} is empty`);
        return backend;
      });
      found.set(key, backends.sort());
    }
    return found;
  }

  #ip(words: readonly string[]): void {
    const [object = "", verb = "", subject = ""] = words;
    const after = (word: string): string => words[words.indexOf(word) + 1] ?? "";
    if (object === "rule") {
      const preference = Number(after("pref"));
      if (verb === "add") this.rules.add(preference);
      else this.rules.delete(preference);
    } else if (object === "route" && subject !== "default") {
      const addr = subject.replace("/32", "");
      if (verb === "replace") this.routes.set(addr, hostOfGateway(after("via")) ?? 0);
      else this.routes.delete(addr);
    } else if (object === "addr") {
      if (verb === "replace") this.addrs.add(subject.replace("/32", ""));
      else this.addrs.delete(subject.replace("/32", ""));
    } else if (object === "neigh") {
      const index = hostOfGateway(subject) ?? 0;
      if (verb === "replace") this.neighbours.add(index);
      else this.neighbours.delete(index);
    }
  }

  #fdb(words: readonly string[]): void {
    const index = indexOfMac(words[2] ?? "") ?? 0;
    if (words[1] === "replace") this.fdb.set(index, words[words.indexOf("dst") + 1] ?? "");
    else this.fdb.delete(index);
  }

  #nft(line: string): void {
    const chain = /^add chain ip \w+ (n\d+)$/.exec(line);
    if (chain !== null) this.chains.add(chain[1] ?? "");
    if (/^delete table/.test(line)) {
      this.maps.clear();
      this.chains.clear();
    }
    const change = /^(add|delete) element ip \w+ (\w+) \{ (.*) \}$/.exec(line);
    if (change === null) return;
    const [, verb, name = "", elements = ""] = change;
    for (const element of elements.split(", ")) this.#element(verb === "add", name, element);
  }

  #element(add: boolean, name: string, element: string): void {
    const map = this.map(name);
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

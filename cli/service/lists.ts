import { readFileSync } from "node:fs";
import type { Mount } from "../../src/model/service-spec.ts";
import type { ApiClient } from "../client.ts";
import { filtersQuery } from "../client.ts";
import { CliError } from "../errors.ts";
import { type Flags, listOf } from "./flags.ts";
import {
  type FileReference,
  parseFileReference,
  parseGenericResources,
  parseMount,
  parseNetwork,
  parsePreference,
  parsePublish,
  parseUlimit,
  usage,
} from "./parse.ts";
import { containerOf, type Draft, type Mutable, taskOf } from "./spec.ts";

/** Repeatable flags under one name: `create` has `env`, `update` has `env-add` and `env-rm`. */
export interface ListWords {
  readonly add: (name: string) => readonly string[];
  readonly remove: (name: string) => readonly string[];
}

export function createWords(flags: Flags): ListWords {
  return { add: name => listOf(flags, name), remove: () => [] };
}

export function updateWords(flags: Flags): ListWords {
  return { add: name => listOf(flags, `${name}-add`), remove: name => listOf(flags, `${name}-rm`) };
}

function keyOf(text: string): string {
  return text.split("=")[0] ?? text;
}

/** Items with the removed keys out and the added ones in place of those of the same key. */
function merge<T>(
  current: readonly T[],
  added: readonly T[],
  removed: readonly string[],
  key: (item: T) => string,
): T[] {
  const gone = new Set([...removed, ...added.map(key)]);
  return [...current.filter(item => !gone.has(key(item))), ...added];
}

function mergeLabels(
  current: Readonly<Record<string, string>> | undefined,
  words: ListWords,
  name: string,
): Record<string, string> | undefined {
  const added = words.add(name);
  const removed = words.remove(name);
  if (added.length === 0 && removed.length === 0)
    return current === undefined ? undefined : { ...current };
  const labels = { ...current };
  for (const key of removed) delete labels[key];
  for (const word of added) {
    const key = keyOf(word);
    labels[key] = word.includes("=") ? word.slice(key.length + 1) : "";
  }
  return labels;
}

/** A word without `=` takes the value of the caller's own variable, or is left out. */
function environment(words: readonly string[], files: readonly string[]): string[] {
  const lines = files.flatMap(file =>
    readFileSync(file, "utf8")
      .split(/\r?\n/)
      .map(line => line.trimStart())
      .filter(line => line !== "" && !line.startsWith("#")),
  );
  return [...lines, ...words].flatMap(word => {
    if (word.includes("=")) return [word];
    const value = process.env[word];
    return value === undefined ? [] : [`${word}=${value}`];
  });
}

function applyContainerLists(draft: Draft, words: ListWords, envFiles: readonly string[]): void {
  const container = containerOf(draft);
  const strings = (
    name: string,
    current: readonly string[] | undefined,
    set: (items: string[]) => void,
    key: (text: string) => string = text => text,
  ): void => {
    const [added, removed] = [words.add(name), words.remove(name)];
    if (added.length + removed.length > 0) set(merge(current ?? [], added, removed, key));
  };
  const env = environment(words.add("env"), envFiles);
  if (env.length + words.remove("env").length > 0) {
    container.Env = merge(container.Env ?? [], env, words.remove("env"), keyOf);
  }
  strings("group", container.Groups, items => {
    container.Groups = items;
  });
  for (const word of words.add("host")) {
    if (!/^[^:]+:.+$/.test(word)) throw usage("host", word, `bad format for add-host: "${word}"`);
  }
  strings("host", toFlagHosts(container.Hosts), items => {
    container.Hosts = items.map(toSpecHost);
  });
  const dns = { ...container.DNSConfig };
  strings("dns", dns.Nameservers, items => {
    dns.Nameservers = items;
  });
  strings("dns-option", dns.Options, items => {
    dns.Options = items;
  });
  strings("dns-search", dns.Search, items => {
    dns.Search = items;
  });
  if (Object.keys(dns).length > 0) container.DNSConfig = dns;
  const labels = mergeLabels(container.Labels, words, "container-label");
  if (labels !== undefined) container.Labels = labels;
  const sysctls = mergeLabels(container.Sysctls, words, "sysctl");
  if (sysctls !== undefined) container.Sysctls = sysctls;
  const mounts = words.add("mount").map(word => parseMount("mount", word));
  if (mounts.length + words.remove("mount").length > 0) {
    const target = (mount: { readonly Target?: string }): string => mount.Target ?? "";
    const merged = merge<Mount>(container.Mounts ?? [], mounts, words.remove("mount"), target);
    container.Mounts = structuredClone(merged) as Mutable<Mount>[];
  }
  const ulimits = words.add("ulimit").map(word => parseUlimit("ulimit", word));
  if (ulimits.length + words.remove("ulimit").length > 0) {
    const name = (ulimit: { readonly Name?: string }): string => ulimit.Name ?? "";
    container.Ulimits = merge(container.Ulimits ?? [], ulimits, words.remove("ulimit"), name);
  }
}

/** The flag says `host:ip`, the API keeps `ip host`. */
function toSpecHost(text: string): string {
  const at = text.indexOf(":");
  if (at < 0) return text;
  return `${text.slice(at + 1)} ${text.slice(0, at)}`;
}

function toFlagHosts(hosts: readonly string[] | undefined): string[] {
  return (hosts ?? []).map(host => {
    const [ip = "", name = ""] = host.split(" ");
    return `${name}:${ip}`;
  });
}

function applyTaskLists(draft: Draft, words: ListWords): void {
  const task = taskOf(draft);
  const constraints = [words.add("constraint"), words.remove("constraint")] as const;
  if (constraints[0].length + constraints[1].length > 0) {
    const merged = merge(task.Placement?.Constraints ?? [], ...constraints, text => text);
    task.Placement = { ...task.Placement, Constraints: merged };
  }
  const preferences = words
    .add("placement-pref")
    .map(word => parsePreference("placement-pref", word));
  const unwanted = words.remove("placement-pref").map(word => keyOfPreference(word));
  if (preferences.length + unwanted.length > 0) {
    const key = (item: { readonly Spread?: { readonly SpreadDescriptor?: string } }): string =>
      item.Spread?.SpreadDescriptor ?? "";
    const merged = merge(task.Placement?.Preferences ?? [], preferences, unwanted, key);
    task.Placement = { ...task.Placement, Preferences: merged };
  }
  const generic = words
    .add("generic-resource")
    .flatMap(word => parseGenericResources("generic-resource", word));
  if (generic.length + words.remove("generic-resource").length > 0) {
    const reserved = task.Resources?.Reservations;
    const kind = (item: (typeof generic)[number]): string =>
      item.DiscreteResourceSpec?.Kind ?? item.NamedResourceSpec?.Kind ?? "";
    const merged = merge(
      reserved?.GenericResources ?? [],
      generic,
      words.remove("generic-resource"),
      kind,
    );
    task.Resources = {
      ...task.Resources,
      Reservations: { ...reserved, GenericResources: merged },
    };
  }
}

function keyOfPreference(word: string): string {
  return parsePreference("placement-pref-rm", word).Spread.SpreadDescriptor;
}

function applyPorts(draft: Draft, words: ListWords): void {
  const added = words.add("publish").flatMap(word => parsePublish("publish", word));
  const removed = words.remove("publish").flatMap(word => parsePublish("publish-rm", word));
  if (added.length + removed.length === 0) return;
  const target = (port: { readonly TargetPort?: number; readonly Protocol?: string }): string =>
    `${port.TargetPort}/${port.Protocol ?? "tcp"}`;
  const gone = new Set(removed.map(target));
  const kept = (draft.EndpointSpec?.Ports ?? []).filter(port => !gone.has(target(port)));
  draft.EndpointSpec = { ...draft.EndpointSpec, Ports: [...kept, ...added] };
}

function applyCapabilities(draft: Draft, flags: Flags, update: boolean): void {
  const [added, dropped] = [listOf(flags, "cap-add"), listOf(flags, "cap-drop")].map(words =>
    words.map(word => capability(word)),
  );
  if (added === undefined || dropped === undefined || added.length + dropped.length === 0) return;
  const container = containerOf(draft);
  const before = update ? container : { CapabilityAdd: [], CapabilityDrop: [] };
  const add = merge(before.CapabilityAdd ?? [], added, dropped, text => text);
  const drop = merge(before.CapabilityDrop ?? [], dropped, added, text => text);
  container.CapabilityAdd = add.sort();
  container.CapabilityDrop = drop.sort();
}

function capability(word: string): string {
  const upper = word.toUpperCase();
  return upper === "ALL" || upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
}

interface NamedObject {
  readonly ID: string;
  readonly Spec: { readonly Name: string };
}

/** Looks secrets or configs up by name and makes the references the API wants. */
async function resolveFiles(
  client: ApiClient,
  kind: "secret" | "config",
  references: readonly FileReference[],
): Promise<{ readonly id: string; readonly name: string; readonly file: FileReference["file"] }[]> {
  if (references.length === 0) return [];
  const filters = filtersQuery(references.map(({ source }) => `name=${source}`));
  const found = await client.get<NamedObject[]>(`/${kind}s`, { filters });
  return references.map(({ source, file }) => {
    const match = found.find(item => item.Spec.Name === source);
    if (match === undefined) throw new CliError(`${kind} not found: ${source}`);
    return { id: match.ID, name: source, file };
  });
}

async function applyFiles(client: ApiClient, draft: Draft, words: ListWords): Promise<void> {
  const container = containerOf(draft);
  const parse = (kind: string): FileReference[] =>
    words.add(kind).map(word => parseFileReference(kind, word));
  const secrets = await resolveFiles(client, "secret", parse("secret"));
  if (secrets.length + words.remove("secret").length > 0) {
    const added = secrets.map(({ id, name, file }) => ({
      SecretID: id,
      SecretName: name,
      File: file,
    }));
    container.Secrets = merge(
      container.Secrets ?? [],
      added,
      words.remove("secret"),
      item => item.SecretName ?? "",
    );
  }
  const configs = await resolveFiles(client, "config", parse("config"));
  if (configs.length + words.remove("config").length > 0) {
    const added = configs.map(({ id, name, file }) => ({
      ConfigID: id,
      ConfigName: name,
      File: file,
    }));
    container.Configs = merge(
      container.Configs ?? [],
      added,
      words.remove("config"),
      item => item.ConfigName ?? "",
    );
  }
}

async function applyNetworks(client: ApiClient, draft: Draft, words: ListWords): Promise<void> {
  const added = words.add("network").map(word => parseNetwork("network", word));
  const removed = words.remove("network");
  if (added.length + removed.length === 0) return;
  const idOf = async (name: string): Promise<string> =>
    (
      await client.get<{ readonly Id: string }>(`/networks/${encodeURIComponent(name)}`, {
        scope: "swarm",
      })
    ).Id;
  const withIds = [];
  for (const network of added) {
    withIds.push({ ...network, Target: await idOf(network.Target ?? "") });
  }
  const gone = await Promise.all(removed.map(idOf));
  const task = taskOf(draft);
  const target = (item: { readonly Target?: string }): string => item.Target ?? "";
  task.Networks = merge(task.Networks ?? [], structuredClone(withIds), gone, target);
}

/** Applies every repeatable flag; looks up what the API wants by id. */
export async function applyLists(
  client: ApiClient,
  draft: Draft,
  flags: Flags,
  words: ListWords,
  update: boolean,
): Promise<void> {
  const labels = mergeLabels(draft.Labels, words, "label");
  if (labels !== undefined) draft.Labels = labels;
  applyContainerLists(draft, words, listOf(flags, "env-file"));
  applyTaskLists(draft, words);
  applyPorts(draft, words);
  applyCapabilities(draft, flags, update);
  await applyFiles(client, draft, words);
  await applyNetworks(client, draft, words);
}

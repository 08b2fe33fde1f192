import type {
  ConfigReference,
  GenericResourceSpec,
  Mount,
  NetworkAttachmentConfig,
  PortConfig,
  Ulimit,
} from "../../src/model/service-spec.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";

/** What users write in flags, as the API's values. Every fault names the flag and the value. */
export function usage(flag: string, value: string, reason: string): CliError {
  return new CliError(`invalid argument "${value}" for "--${flag}" flag: ${reason}`, EXIT_USAGE);
}

const DURATION_NS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3_600e9,
};

/** Go's durations (`1m30s`) in nanoseconds. */
export function parseDuration(flag: string, text: string): number {
  if (text === "0") return 0;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(part => part[0]).join("") !== text) {
    throw usage(flag, text, `time: invalid duration "${text}"`);
  }
  let total = 0;
  for (const [, amount = "0", unit = "s"] of parts)
    total += Number(amount) * (DURATION_NS[unit] ?? 0);
  return Math.round(total);
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
  p: 1024 ** 5,
};

/** `64m`, `1.5GiB`: binary multiples, as docker's memory flags. */
export function parseBytes(flag: string, text: string): number {
  const match = /^(-?\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?$/i.exec(text.trim());
  if (match?.[1] === undefined) throw usage(flag, text, `invalid size: '${text}'`);
  return Math.floor(Number(match[1]) * (BYTE_UNITS[(match[2] ?? "").toLowerCase()] ?? 1));
}

/** `0.5` CPUs as 10^-9 CPUs. */
export function parseCpus(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) {
    throw usage(flag, text, `failed to parse ${text} as a rational number`);
  }
  return Math.round(value * 1e9);
}

export function parseCount(flag: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw usage(flag, text, "a whole number, 0 or more, is needed");
  }
  return value;
}

export function parseInteger(flag: string, text: string): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text)) throw usage(flag, text, "a whole number is needed");
  return value;
}

export function parseRatio(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw usage(flag, text, "a number is needed");
  return value;
}

/** `a=b,c` as pairs; a word alone has an empty value. Double quotes protect commas. */
export function csvPairs(text: string): (readonly [string, string])[] {
  const words = text.match(/(?:"[^"]*"|[^,])+/g) ?? [];
  return words.map(word => {
    const plain = word.replaceAll('"', "");
    const at = plain.indexOf("=");
    return at < 0 ? [plain.trim(), ""] : [plain.slice(0, at).trim(), plain.slice(at + 1)];
  });
}

function bool(flag: string, whole: string, value: string): boolean {
  if (["", "true", "1"].includes(value)) return true;
  if (["false", "0"].includes(value)) return false;
  throw usage(flag, whole, `invalid value '${value}': true or false is needed`);
}

function port(flag: string, whole: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > 65_535) throw usage(flag, whole, `invalid port '${text}'`);
  return value;
}

function protocolOf(flag: string, whole: string, text: string): "tcp" | "udp" | "sctp" {
  const lower = text.toLowerCase();
  if (lower === "tcp" || lower === "udp" || lower === "sctp") return lower;
  throw usage(flag, whole, `invalid protocol value '${text}'`);
}

/** `8080:80/tcp`, `80`, `8000-8010:8000-8010`, or `published=8080,target=80,mode=host`. */
export function parsePublish(flag: string, text: string): PortConfig[] {
  if (!text.includes("=")) return shortPublish(flag, text);
  const result: { -readonly [K in keyof PortConfig]: PortConfig[K] } = {
    Protocol: "tcp",
    PublishMode: "ingress",
  };
  for (const [key, value] of csvPairs(text)) {
    if (key === "target") result.TargetPort = port(flag, text, value);
    else if (key === "published") result.PublishedPort = port(flag, text, value);
    else if (key === "protocol") result.Protocol = protocolOf(flag, text, value);
    else if (key === "mode" && (value === "ingress" || value === "host"))
      result.PublishMode = value;
    else if (key === "mode") {
      throw usage(
        flag,
        text,
        `invalid publish mode value (${value}): must be either 'ingress' or 'host'`,
      );
    } else throw usage(flag, text, `invalid field key ${key}`);
  }
  if (result.TargetPort === undefined) throw usage(flag, text, `missing mandatory field "target"`);
  return [result];
}

const MAX_PORT_RANGE = 1_000;

function range(flag: string, whole: string, text: string): { from: number; to: number } {
  const [first = "", last = first] = text.split("-");
  const [from, to] = [port(flag, whole, first), port(flag, whole, last)];
  if (to < from || to - from >= MAX_PORT_RANGE) throw usage(flag, whole, `invalid range '${text}'`);
  return { from, to };
}

function shortPublish(flag: string, text: string): PortConfig[] {
  const [ports = "", protocol = "tcp"] = text.split("/");
  const parts = ports.split(":");
  if (parts.length > 2) throw usage(flag, text, "hostip is not supported");
  const target = range(flag, text, parts[parts.length - 1] ?? "");
  const published =
    parts.length === 2 && parts[0] !== "" ? range(flag, text, parts[0] ?? "") : null;
  if (published !== null && published.to - published.from !== target.to - target.from) {
    throw usage(flag, text, "published and target ranges differ in length");
  }
  return Array.from({ length: target.to - target.from + 1 }, (_, i) => ({
    Protocol: protocolOf(flag, text, protocol),
    PublishMode: "ingress" as const,
    TargetPort: target.from + i,
    ...(published === null ? {} : { PublishedPort: published.from + i }),
  }));
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type MountDraft = {
  mount: Writable<Mount>;
  bind: Writable<NonNullable<Mount["BindOptions"]>>;
  volume: Writable<NonNullable<Mount["VolumeOptions"]>>;
  tmpfs: Writable<NonNullable<Mount["TmpfsOptions"]>>;
  labels: Record<string, string>;
  options: Record<string, string>;
};

function keyValue(text: string): readonly [string, string] {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function mountFields(
  flag: string,
  text: string,
): Readonly<Record<string, (draft: MountDraft, value: string) => void>> {
  return {
    type: ({ mount }, value) => {
      const types = ["bind", "volume", "tmpfs", "npipe", "cluster"] as const;
      const known = types.find(type => type === value.toLowerCase());
      if (known === undefined) throw usage(flag, text, `invalid mount type '${value}'`);
      mount.Type = known;
    },
    source: ({ mount }, value) => {
      mount.Source = value;
    },
    target: ({ mount }, value) => {
      mount.Target = value;
    },
    readonly: ({ mount }, value) => {
      mount.ReadOnly = bool(flag, text, value);
    },
    consistency: ({ mount }, value) => {
      mount.Consistency = value;
    },
    "bind-propagation": ({ bind }, value) => {
      bind.Propagation = value;
    },
    "bind-nonrecursive": ({ bind }, value) => {
      bind.NonRecursive = bool(flag, text, value);
    },
    "bind-create-src": ({ bind }, value) => {
      bind.CreateMountpoint = bool(flag, text, value);
    },
    "volume-nocopy": ({ volume }, value) => {
      volume.NoCopy = bool(flag, text, value);
    },
    "volume-subpath": ({ volume }, value) => {
      volume.Subpath = value;
    },
    "volume-driver": ({ volume }, value) => {
      volume.DriverConfig = { ...volume.DriverConfig, Name: value };
    },
    "volume-label": ({ labels }, value) => {
      const [key, label] = keyValue(value);
      labels[key] = label;
    },
    "volume-opt": ({ options }, value) => {
      const [key, option] = keyValue(value);
      options[key] = option;
    },
    "tmpfs-size": ({ tmpfs }, value) => {
      tmpfs.SizeBytes = parseBytes(flag, value);
    },
    "tmpfs-mode": ({ tmpfs }, value) => {
      tmpfs.Mode = Number.parseInt(value, 8);
    },
  };
}

const MOUNT_ALIASES: Readonly<Record<string, string>> = {
  src: "source",
  dst: "target",
  destination: "target",
  ro: "readonly",
};

/** `type=volume,source=data,target=/data,…`. */
export function parseMount(flag: string, text: string): Mount {
  const draft: MountDraft = {
    mount: { Type: "volume" },
    bind: {},
    volume: {},
    tmpfs: {},
    labels: {},
    options: {},
  };
  const fields = mountFields(flag, text);
  for (const [name, value] of csvPairs(text)) {
    const key = MOUNT_ALIASES[name.toLowerCase()] ?? name.toLowerCase();
    const set = fields[key];
    if (set === undefined)
      throw usage(flag, text, `unexpected key '${name}' in '${name}=${value}'`);
    set(draft, value);
  }
  if (draft.mount.Target === undefined) throw usage(flag, text, "target is required");
  const { mount, bind, volume, tmpfs, labels, options } = draft;
  if (Object.keys(labels).length > 0) volume.Labels = labels;
  if (Object.keys(options).length > 0) {
    volume.DriverConfig = { ...volume.DriverConfig, Options: options };
  }
  if (Object.keys(bind).length > 0) mount.BindOptions = bind;
  if (Object.keys(volume).length > 0) mount.VolumeOptions = volume;
  if (Object.keys(tmpfs).length > 0) mount.TmpfsOptions = tmpfs;
  return mount;
}

export interface FileReference {
  readonly source: string;
  readonly file: NonNullable<ConfigReference["File"]>;
}

const DEFAULT_FILE_MODE = 0o444;

/** `--secret` and `--config`: a name, or `source=…,target=…,uid=…,gid=…,mode=0444`. */
export function parseFileReference(flag: string, text: string): FileReference {
  const pairs: readonly (readonly [string, string])[] = text.includes("=")
    ? csvPairs(text)
    : [["source", text]];
  let source = "";
  const file: Writable<FileReference["file"]> = { UID: "0", GID: "0", Mode: DEFAULT_FILE_MODE };
  for (const [key, value] of pairs) {
    if (key === "source" || key === "src") source = value;
    else if (key === "target") file.Name = value;
    else if (key === "uid") file.UID = value;
    else if (key === "gid") file.GID = value;
    else if (key === "mode") {
      if (!/^0?[0-7]{3,4}$/.test(value))
        throw usage(flag, text, `invalid mode specified: ${value}`);
      file.Mode = Number.parseInt(value, 8);
    } else throw usage(flag, text, `invalid field in ${flag} request: ${key}`);
  }
  if (source === "") throw usage(flag, text, "source is required");
  return {
    source,
    file: { ...file, Name: file.Name ?? (flag === "config" ? `/${source}` : source) },
  };
}

/** `--network`: a name, or `name=…,alias=…,driver-opt=key=value`. */
export function parseNetwork(flag: string, text: string): NetworkAttachmentConfig {
  if (!text.includes("=")) return { Target: text };
  let target = "";
  const aliases: string[] = [];
  const options: Record<string, string> = {};
  for (const [key, value] of csvPairs(text)) {
    if (key === "name") target = value;
    else if (key === "alias") aliases.push(value);
    else if (key === "driver-opt") {
      const [name, option] = keyValue(value);
      options[name] = option;
    } else throw usage(flag, text, `invalid field key ${key}`);
  }
  return {
    Target: target,
    ...(aliases.length > 0 ? { Aliases: aliases } : {}),
    ...(Object.keys(options).length > 0 ? { DriverOpts: options } : {}),
  };
}

/** `nofile=1024:2048`. */
export function parseUlimit(flag: string, text: string): Ulimit {
  const match = /^(\w+)=(-?\d+)(?::(-?\d+))?$/.exec(text);
  if (match?.[1] === undefined) throw usage(flag, text, `invalid ulimit argument: ${text}`);
  const soft = Number(match[2]);
  return { Name: match[1], Soft: soft, Hard: match[3] === undefined ? soft : Number(match[3]) };
}

/** `gpu=2` (a number of them) or `gpu=id1,gpu=id2` (named ones). */
export function parseGenericResources(flag: string, text: string): GenericResourceSpec[] {
  return csvPairs(text).map(([kind, value]) => {
    if (kind === "" || value === "") {
      throw usage(flag, text, `incorrect term ${text}, missing '=' or malformed expression`);
    }
    return /^\d+$/.test(value)
      ? { DiscreteResourceSpec: { Kind: kind, Value: Number(value) } }
      : { NamedResourceSpec: { Kind: kind, Value: value } };
  });
}

/** `spread=node.labels.zone`. */
export function parsePreference(
  flag: string,
  text: string,
): { Spread: { SpreadDescriptor: string } } {
  const [strategy, descriptor] = keyValue(text);
  if (strategy !== "spread") {
    throw usage(
      flag,
      text,
      `unsupported placement preference "${strategy}" (only spread is supported)`,
    );
  }
  return { Spread: { SpreadDescriptor: descriptor } };
}
